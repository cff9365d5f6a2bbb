"""Computation and sending overlap, machines take turns, streams stay in order, and a failure ends both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager
from typing import Any

import pytest

from schemas import DeadLetter, FrameRecord
from stream_app.worker.backpressure import Backpressure, size_of
from stream_app.worker.budget import BURST_S
from stream_app.worker.flow import Flow
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.offset_tracker import FetchedFrame
from stream_app.worker.states import StreamKey
from tests.helpers import eventually_async

# Waiting takes no time here, and ends when all tasks wait.
pytestmark = pytest.mark.usefixtures("virtual_time")
WORST = 4_000_000


def taken(offset: int, size: int = 1, key: bytes = b"pump-1", cost: int = 10, generation: int = 1) -> FetchedFrame:
    headers = [("cost", str(cost).encode())]
    record = FrameRecord(key, bytes(size), headers, offset=offset)
    return FetchedFrame(record, generation, size_of(record))


class Admission:
    """Knows what a frame costs because it says so, and whom it is told."""

    known: Set[bytes] | None = None

    def cost(self, record: FrameRecord) -> int:
        return int(record.headers[0][1])

    def is_known(self, stream: StreamKey) -> bool:
        return self.known is None or stream[1].partition(b"\0")[0] in self.known

    def is_wanted(self, taken: FetchedFrame) -> bool:
        return taken.generation == 1


class Stages:
    """Both stages, with a gate before each: what was computed and what was finished, as lists of offsets."""

    def __init__(self) -> None:
        self.computed: list[list[int]] = []
        self.finished: list[list[int]] = []
        self.may_compute, self.may_finish = asyncio.Event(), asyncio.Event()
        self.may_compute.set()
        self.may_finish.set()

    async def compute(self, records: Sequence[FrameRecord]) -> list[Any]:
        self.computed.append([record.offset for record in records])
        await self.may_compute.wait()
        return [record.offset for record in records]

    async def finish(self, batch: Sequence[FetchedFrame], answers: Sequence[Any]) -> None:
        await self.may_finish.wait()
        assert [entry.record.offset for entry in batch] == list(answers)
        self.finished.append(list(answers))


@asynccontextmanager
async def running(stages: Stages, batch_frames: int = 2, **options: Any) -> AsyncIterator[Callable[..., Any]]:
    flow = Flow(stages.compute, stages, WorkerMetrics(), batch_frames, **{"admission": Admission(), **options})  # type: ignore[arg-type]
    task = asyncio.create_task(flow.run())
    try:
        yield flow.put
    finally:
        task.cancel()


async def test_frames_are_finished_in_order() -> None:
    stages = Stages()
    async with running(stages) as put:
        for offset in range(0, 20, 2):
            await put([taken(offset), taken(offset + 1)])
        await eventually_async(lambda: [offset for batch in stages.finished for offset in batch] == list(range(20)))


async def test_the_next_batch_is_computed_while_one_is_being_finished() -> None:
    stages = Stages()
    stages.may_finish.clear()
    async with running(stages, 1) as put:
        await put([taken(0)])
        await put([taken(1)])
        await eventually_async(lambda: stages.computed == [[0], [1]])
        assert stages.finished == []
        stages.may_finish.set()
        await eventually_async(lambda: stages.finished == [[0], [1]])


async def test_frames_that_come_while_the_computation_is_busy_go_together() -> None:
    stages = Stages()
    stages.may_compute.clear()
    async with running(stages, 64) as put:
        await put([taken(0)])
        await eventually_async(lambda: stages.computed == [[0]])
        for offset in range(1, 12):
            await put([taken(offset)])
        stages.may_compute.set()
        await eventually_async(lambda: len(stages.finished) == 2)
    assert stages.finished == [[0], list(range(1, 12))]


async def test_a_full_batch_is_at_hand_while_one_is_being_computed() -> None:
    stages = Stages()
    stages.may_compute.clear()
    async with running(stages, 2) as put:
        await put([taken(0)])
        await eventually_async(lambda: stages.computed == [[0]])
        await put([taken(1), taken(2)])
        await put([taken(3)])
        await eventually_async(lambda: stages.computed == [[0], [1, 2]])
        stages.may_compute.set()
        await eventually_async(lambda: stages.finished == [[0], [1, 2], [3]])


async def test_what_waits_is_counted_until_it_is_finished() -> None:
    stages = Stages()
    stages.may_finish.clear()
    backpressure = Backpressure()
    async with running(stages, backpressure=backpressure) as put:
        await put([taken(offset, 100) for offset in range(6)])
        assert (backpressure.frames, backpressure.bytes) == (6, 672), "values, keys and headers"
        await eventually_async(lambda: len(stages.computed) == 3)
        assert (backpressure.frames, backpressure.bytes) == (6, 672), "a dead letter needs its frame to the end"
        stages.may_finish.set()
        await eventually_async(lambda: len(stages.finished) == 3)
        await eventually_async(lambda: (backpressure.frames, backpressure.bytes) == (0, 0))


async def test_cheap_frames_pass_costly_ones_that_came_first() -> None:
    stages = Stages()
    stages.may_compute.clear()
    async with running(stages, 64) as put:
        await put([taken(0)])
        await eventually_async(lambda: stages.computed == [[0]])
        await put([taken(offset, key=b"evil-%d" % offset, cost=WORST) for offset in range(1, 4)])
        await put([taken(offset, key=b"good-%d" % offset) for offset in range(4, 8)])
        stages.may_compute.set()
        await eventually_async(lambda: sum(map(len, stages.finished)) == 8)
    assert stages.finished == [[0], [4, 5, 6, 7], [1], [2], [3]], "and each costly one goes alone"


async def test_no_second_batch_is_at_hand_behind_a_costly_frame_nor_is_a_costly_one() -> None:
    stages = Stages()
    stages.may_compute.clear()
    async with running(stages, 2) as put:
        await put([taken(0, key=b"evil", cost=WORST)])
        await eventually_async(lambda: stages.computed == [[0]])
        await put([taken(offset, key=b"good") for offset in range(1, 5)])
        await asyncio.sleep(0.05)
        assert stages.computed == [[0]]
    stages = Stages()
    stages.may_compute.clear()
    async with running(stages, 2) as put:
        await put([taken(0, key=b"good")])
        await eventually_async(lambda: stages.computed == [[0]])
        await put([taken(offset, key=b"evil", cost=WORST) for offset in range(1, 5)])
        await asyncio.sleep(0.05)
        assert stages.computed == [[0]]


async def test_a_stream_that_becomes_known_while_its_frames_wait_stays_in_order() -> None:
    stages, admission = Stages(), Admission()
    stages.may_compute.clear()
    async with running(stages, 64, admission=admission) as put:
        await put([taken(0, key=b"other")])
        await eventually_async(lambda: stages.computed == [[0]])
        await put([taken(1, key=b"dear", cost=WORST), taken(2), taken(3)])
        admission.known = {b"pump-1"}
        await put([taken(4), taken(5)])
        stages.may_compute.set()
        await eventually_async(lambda: sum(map(len, stages.finished)) == 6)
    order = [offset for batch in stages.finished for offset in batch]
    assert [offset for offset in order if offset in (2, 3, 4, 5)] == [2, 3, 4, 5]


async def test_names_never_heard_before_wait_behind_machines_that_are_known() -> None:
    stages, admission = Stages(), Admission()
    stages.may_compute.clear()
    admission.known = {b"pump-1", b"pump-2"}
    async with running(stages, 4, admission=admission) as put:
        await put([taken(0)])
        await eventually_async(lambda: stages.computed == [[0]])
        await put([taken(offset, key=b"made-up-%d" % offset) for offset in range(1, 40)])
        await put([taken(40), taken(41, key=b"pump-2"), taken(42), taken(43, key=b"pump-2")])
        stages.may_compute.set()
        await eventually_async(lambda: sum(map(len, stages.finished)) == 44)
    early = [offset for batch in stages.finished[:4] for offset in batch]
    assert {40, 41, 42, 43} <= set(early)


async def test_frames_beyond_a_machine_s_budget_become_dead_letters_and_the_rest_is_scored() -> None:
    stages = Stages()
    answers: dict[int, Any] = {}

    async def finish(batch: Sequence[FetchedFrame], found: Sequence[Any]) -> None:
        answers.update({entry.record.offset: answer for entry, answer in zip(batch, found, strict=True)})

    stages.finish = finish  # type: ignore[assignment,method-assign]
    async with running(stages, 64, budget=4 * WORST / BURST_S) as put:
        await put([taken(offset, key=b"evil", cost=WORST) for offset in range(6)])
        await put([taken(6, key=b"good")])
        await eventually_async(lambda: len(answers) == 7)
    letters = {offset: answer for offset, answer in answers.items() if isinstance(answer, DeadLetter)}
    assert {offset: letter.code for offset, letter in letters.items()} == {4: "too_costly", 5: "too_costly"}
    assert "samples a second computed" in letters[5].detail


async def test_frames_of_partitions_that_have_gone_are_not_computed() -> None:
    stages, admission = Stages(), Admission()
    seen: list[int] = []

    async def finish(batch: Sequence[FetchedFrame], found: Sequence[Any]) -> None:
        seen.extend(entry.record.offset for entry in batch)

    stages.finish = finish  # type: ignore[assignment,method-assign]
    async with running(stages, 64, admission=admission) as put:
        await put([taken(0), taken(1, generation=0), taken(2)])
        await eventually_async(lambda: len(seen) == 3)
    assert stages.computed == [[0, 2]]


async def test_large_frames_go_in_small_batches() -> None:
    stages = Stages()
    async with running(stages, 64) as put:
        await put([taken(offset, 3_000_000) for offset in range(5)])
        await eventually_async(lambda: sum(map(len, stages.finished)) == 5)
    assert stages.finished == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("stage", ["compute", "finish"])
async def test_a_failure_ends_the_flow(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ConnectionError("away")

    stages = Stages()
    monkeypatch.setattr(stages, stage, fail)
    flow = Flow(stages.compute, stages, WorkerMetrics())  # type: ignore[arg-type]
    await flow.put([taken(0)])
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(flow.run(), 5)
    assert caught.group_contains(ConnectionError, match="away")


async def test_frames_gather_while_what_was_computed_waits_to_be_sent() -> None:
    """Else quick computing makes ever more batches of one frame, each of which takes a turn of sending."""
    stages, sizes, may_end = Stages(), [], asyncio.Event()

    async def finish(batch: Sequence[FetchedFrame], answers: Sequence[Any]) -> None:
        sizes.append(len(batch))
        await may_end.wait()

    stages.finish = finish  # type: ignore[method-assign,assignment]
    stages.may_compute.set()
    async with running(stages, batch_frames=64) as put:
        for offset in range(12):
            await put([taken(offset)])
            for _ in range(20):
                await asyncio.sleep(0)
        may_end.set()
        await eventually_async(lambda: sum(sizes) == 12)
    assert sizes == [1, 1, 10]
