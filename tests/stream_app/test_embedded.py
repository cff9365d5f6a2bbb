"""What the worker makes of the embedded broker's ways."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from schemas import FrameRecord, parse_frame
from stream_app import transport
from stream_app.embedded import EmbeddedConsumerThread, GapGuard
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import course, tiny_model
from tests.stream_app.test_worker import scored_ids
from tests.stream_app.worker_process import WorkerProcess
from whirr.settings import Route

FRAMES = TP("frames", 0)


def numbered(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


def test_what_follows_a_missing_offset_waits_for_it():
    guard = GapGuard(patience_s=5.0)
    assert guard.admit(FRAMES, 3, numbered(3, 4, 6, 7), 0.0) == (2, 5)
    assert guard.admit(FRAMES, 5, numbered(6, 7), 0.1) == (0, 5)
    assert guard.admit(FRAMES, 5, numbered(5, 6, 7), 0.2) == (3, None)


def test_patience_ends_for_an_offset_that_never_comes(caplog: pytest.LogCaptureFixture):
    guard = GapGuard(patience_s=5.0)
    assert guard.admit(FRAMES, 5, numbered(6, 8), 0.0) == (0, 5)
    assert guard.admit(FRAMES, 5, numbered(6, 8), 4.9) == (0, 5)
    # 5 is given up; 7 gets a patience of its own.
    assert guard.admit(FRAMES, 5, numbered(6, 8), 5.0) == (1, 7)
    assert guard.admit(FRAMES, 7, numbered(7, 8), 5.1) == (2, None)
    assert [record.getMessage() for record in caplog.records] == [
        "frames/0: the embedded broker has no record at offset 5"
    ]


def test_records_read_once_more_are_no_gap():
    assert GapGuard().admit(FRAMES, 9, numbered(4, 5, 6), 0.0) == (3, None)


@given(st.lists(st.sets(st.integers(0, 30)), max_size=20))
def test_whatever_is_stored_late_every_record_is_taken_once_and_in_order(arrivals: list[set[int]]):
    """A reader that goes back where it is told to reads 0, 1, 2 … whatever the order in which they are stored."""
    guard, position, taken = GapGuard(), 0, []
    stored: set[int] = set()
    for step, arrived in enumerate([*arrivals, set(range(31))]):
        stored |= arrived
        records = numbered(*sorted(offset for offset in stored if offset >= position))
        count, back = guard.admit(FRAMES, position, records, step / 100)
        taken += [record.offset for record in records[:count]]
        position = back if back is not None else (taken[-1] + 1 if taken else 0)
    assert taken == list(range(31))


async def test_the_thread_goes_back_to_a_missing_record(monkeypatch: pytest.MonkeyPatch):
    thread = object.__new__(EmbeddedConsumerThread)
    thread._gaps = GapGuard()
    fetched = {FRAMES: numbered(7, 9), TP("frames", 1): numbered(2)}
    state = {FRAMES: 7, TP("frames", 1): 2}
    assignment = SimpleNamespace(
        tps=state, state_value=lambda tp: SimpleNamespace(_position=state[tp], has_valid_position=True)
    )
    sought = []
    consumer = SimpleNamespace(
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)),
        seek=lambda tp, offset: sought.append((tp, offset)),
    )

    async def fetch(*_: Any, **__: Any) -> Any:
        return fetched

    monkeypatch.setattr(transport.ConsumerThread, "_fetch_records", fetch, raising=True)
    admitted = await thread._fetch_records(consumer, set(fetched))
    assert {tp: [record.offset for record in records] for tp, records in admitted.items()} == {
        FRAMES: [7],
        TP("frames", 1): [2],
    }
    assert sought == [(FRAMES, 8)]


async def test_gateways_that_write_at_once_to_one_partition_lose_nothing(kafka: KafkaUnderTest, tmp_path: Path):
    """The embedded broker shows a later record before an earlier one a few times in a thousand."""
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    settings = kafka.settings(route=(route,), topic_partitions=1)
    gateways = [course([1.0] * 150, f"pump-{number}") for number in range(8)]
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await asyncio.gather(*(one_by_one(kafka, settings.frames_topic, frames) for frames in gateways))
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") >= 1200, 60)
        assert worker.stop() == 0, worker.log
    scores = scored_ids(await kafka.drain(settings.scores_topic))
    assert scores == Counter(parse_frame(frame).frame_id for frames in gateways for frame in frames)


async def one_by_one(kafka: KafkaUnderTest, topic: str, frames: list[FrameRecord]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for frame in frames:
            await producer.send_and_wait(topic, frame.value, key=frame.key, headers=list(frame.headers))
