"""What makes a worker give up, and from when silence counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from schemas import FrameRecord
from stream_app.worker import watchdog as module
from stream_app.worker.compute import ComputeFailed
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.offset_tracker import FetchedFrame, OffsetTracker
from stream_app.worker.runner import _exit_code
from stream_app.worker.watchdog import Stalled, Watchdog
from tests.helpers import eventually_async
from whirr.settings import Route, Settings

TOPIC = "vibration-frames"
# Seconds in these tests are the event loop's own, which wait for nothing.
pytestmark = pytest.mark.usefixtures("clock")
UNCHANGED: Any = SimpleNamespace(check=lambda: None)  # model files that stay as they are


@pytest.fixture
async def clock(virtual_time: Callable[[], float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=virtual_time, time_ns=time.time_ns))


class Broker:
    """Answers as a consumer would; ``None`` stands for a broker that is away."""

    def __init__(self) -> None:
        self.committed: dict[int, int] | None = {}
        self.ends: dict[int, int] | None = {}
        self.fetched: dict[int, int] = {}
        self.held: set[int] = set()
        self.done: dict[int, int] = {}
        self.behind: dict[int, int] = {}

    async def committed_offsets(self, topic: str, timeout_s: float) -> dict[int, int]:
        if self.committed is None:
            raise TimeoutError
        return self.committed

    async def end_offsets(self, topic: str, timeout_s: float) -> dict[int, int]:
        if self.ends is None:
            raise TimeoutError
        return self.ends

    def held_back(self, topic: str) -> set[int]:
        return self.held

    def positions(self, topic: str) -> dict[int, int]:
        return self.fetched

    def highwater(self, tp: Any) -> int | None:
        return (self.ends or {}).get(tp.partition)

    def stored(self, topic: str, partition: int) -> int | None:
        return (self.ends or {}).get(partition, 0) + self.behind.get(partition, 0)

    def answered(self, topic: str) -> dict[int, int]:
        return dict(self.done)

    def past(self, tp: Any, taken: int | None) -> int:
        return self.done.get(tp.partition, 0) if taken is None else taken


class Processor:
    def __init__(self) -> None:
        self.offsets = OffsetTracker(lambda: asyncio.get_running_loop().time())
        self.heard: list[dict[int, int]] = []

    async def check_silence(self, watched_since_us: dict[int, int], silent_after_s: float) -> None:
        self.heard.append(dict(watched_since_us))


def app(stall_s: float = 0.2) -> Any:
    routed = SimpleNamespace(route=Route(model="tiny.onnx"))
    return SimpleNamespace(
        settings=Settings(
            commit_stall_s=stall_s, commit_interval_s=stall_s / 4, compute_timeout_s=stall_s / 3, frames_topic=TOPIC
        ),
        consumer=Broker(),
        processor=Processor(),
        metrics=WorkerMetrics(),
        engine=SimpleNamespace(router=SimpleNamespace(routed=[routed], models={})),
        tables=SimpleNamespace(actives_ready=True, recovery=SimpleNamespace(active_remaining_total=lambda: 0)),
        consumer_generation_id=1,
        verdicts=SimpleNamespace(state="following"),
        states=SimpleNamespace(learning_machines=3),
        rebalancing=False,
        in_recovery=False,
        _assignment=[SimpleNamespace(topic=TOPIC, partition=partition) for partition in range(2)],
    )


async def _stalled(worker: Any) -> str:
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(Watchdog(worker, UNCHANGED).run(), 10)
    (error,) = caught.value.exceptions
    assert isinstance(error, Stalled)
    return str(error)


@pytest.mark.parametrize("committed", [{}, {0: 5}, None], ids=["never", "stuck", "away"])
async def test_commits_that_do_not_move_end_the_worker(committed: dict[int, int] | None) -> None:
    worker = app()
    worker.consumer.done = {0: 9}
    worker.consumer.committed = committed
    assert "commit" in await _stalled(worker)


async def test_frames_that_are_not_fetched_end_the_worker() -> None:
    worker = app()
    worker.consumer.ends = {0: 9}
    worker.consumer.fetched = {0: 5}
    assert "fetched" in await _stalled(worker)


async def test_frames_that_are_taken_and_not_answered_end_the_worker_and_it_is_not_ready_before() -> None:
    worker = app()
    worker.processor.offsets.take([FetchedFrame(FrameRecord(b"pump-1", b"x"), 1, 0)])
    watch = Watchdog(worker, UNCHANGED)
    assert watch.readiness().ready
    await eventually_async(lambda: not watch.readiness().ready)
    assert watch.readiness().reasons == [
        "frames were taken and none is answered: the computation hangs, or answers can't be sent"
    ]
    assert watch.details()["oldest_unanswered_s"] > 0
    assert "without any being answered" in await _stalled(worker)


async def test_a_worker_that_gets_on_lives() -> None:
    worker = app()
    worker.consumer.done = {0: 9}
    worker.consumer.committed = {0: 1}
    watching = asyncio.create_task(Watchdog(worker, UNCHANGED).run())
    for _ in range(8):
        await asyncio.sleep(0.05)
        worker.consumer.committed[0] += 1
    assert not watching.done()
    watching.cancel()


async def test_a_rebalance_that_gets_on_is_no_stall() -> None:
    worker = app(stall_s=0.4)
    worker.consumer.done = {0: 9}
    worker.rebalancing = True
    watching = asyncio.create_task(Watchdog(worker, UNCHANGED).run())
    for _ in range(8):
        await asyncio.sleep(0.1)
        worker.consumer_generation_id += 1
    assert not watching.done()
    watching.cancel()


@pytest.mark.parametrize("assigned", [False, True], ids=["no partitions", "no states"])
async def test_a_start_that_gets_nowhere_ends_the_worker(assigned: bool) -> None:
    """Faust waits for ever for what it has missed; a new worker does not."""
    worker = app()
    worker.rebalancing, worker.in_recovery = assigned, assigned
    worker._assignment = worker._assignment if assigned else None
    worker.tables.recovery.active_remaining_total = lambda: 7
    assert "7 records of states" in await _stalled(worker)


async def test_a_stall_has_an_exit_code_of_its_own() -> None:
    async def fail(error: Exception) -> None:
        raise ExceptionGroup("watch", [error])

    for error, code in ((Stalled("commits"), 70), (ComputeFailed("hangs"), 70), (ConnectionError("away"), 1)):
        task = asyncio.create_task(fail(error))
        await asyncio.wait({task})
        assert _exit_code(app(), task) == code


async def test_faust_stopping_by_itself_is_a_crash() -> None:
    worker = app()
    worker.crash_reason = RuntimeError("the consumer died")
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    assert _exit_code(worker, task) == 1  # type: ignore[arg-type]


async def test_readiness_names_what_is_missing() -> None:
    worker = app()
    watch = Watchdog(worker, UNCHANGED)
    assert watch.readiness().ready
    worker.in_recovery = True
    assert not watch.readiness().tables_recovered
    worker.in_recovery = False
    worker.rebalancing = True
    assert not watch.readiness().partitions_assigned
    worker.rebalancing = False
    watch.commit_age_s = 0.15
    assert not watch.readiness().commits_moving
    worker._assignment = None
    assert not watch.readiness().partitions_assigned


async def test_silence_is_looked_for_once_the_backlog_is_gone_and_kafka_is_there() -> None:
    worker = app(stall_s=60)
    worker.consumer.ends = {0: 9, 1: 0}
    worker.consumer.done = {0: 9}
    watch = Watchdog(worker, UNCHANGED)
    before_us = time.time_ns() // 1000
    await watch._look_at_silence()
    first = worker.processor.heard[-1]
    worker.consumer.ends = {0: 12, 1: 0}
    await watch._look_at_silence()
    worker.consumer.done = {0: 12}
    await watch._look_at_silence()
    last = worker.processor.heard[-1]
    assert before_us <= first[0] < last[0], "while frames waited, nobody could say that none came"
    assert first[1] == last[1]
    watch.reset()
    await watch._look_at_silence()
    again = worker.processor.heard[-1]
    assert again[1] > last[1], "new partitions start anew"
    watch._away = True
    await watch._look_at_silence()
    assert worker.processor.heard[-1] is again, "while Kafka is away nothing can come"
    watch._away = False
    await watch._look_at_silence()
    assert worker.processor.heard[-1][1] > again[1]


async def test_a_costly_frame_that_waits_does_not_switch_the_look_at_silence_off() -> None:
    worker = app(stall_s=60)
    worker.consumer.ends = {0: 9, 1: 0}
    worker.processor.offsets.take([FetchedFrame(FrameRecord(b"evil", b"x", offset=8), 1, 0)])
    watch = Watchdog(worker, UNCHANGED)
    await watch._look_at_silence()
    await watch._look_at_silence()
    first, second = worker.processor.heard
    assert first[0] == second[0], "all of the partition was taken, so whoever is silent is"


async def test_a_partition_held_back_by_costly_frames_is_no_stall_while_they_are_answered() -> None:
    worker = app()
    worker.consumer.ends, worker.consumer.fetched, worker.consumer.held = {0: 9}, {0: 1}, {0}
    watching = asyncio.create_task(Watchdog(worker, UNCHANGED).run())
    for offset in range(1, 9):
        worker.consumer.done = worker.consumer.committed = {0: offset}
        await asyncio.sleep(0.05)
    assert not watching.done()
    watching.cancel()


async def test_it_is_told_once_that_kafka_is_away_and_once_that_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    worker = app()
    watch = Watchdog(worker, UNCHANGED)
    worker.consumer.committed = worker.consumer.ends = None
    for _ in range(3):
        await watch._look_at_progress()
    worker.consumer.committed, worker.consumer.ends = {}, {}
    for _ in range(3):
        await watch._look_at_progress()
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("answers again") == 1
