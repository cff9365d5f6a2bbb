"""What a fetch brings: frames in batches; and what becomes of what was being fetched when a rebalance began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from schemas import FrameRecord
from schemas.frame import Unreadable
from stream_app.worker.offset_tracker import FetchedFrame
from stream_app.worker.transport import (
    FETCH_WAIT_MS,
    IDLE_FETCH_WAIT_MS,
    Consumer,
    ConsumerThread,
    assignment_of,
    positions_of,
)
from whirr.fetching import UnreadableRecord

CHANGELOG = TopicPartition("changelog", 0)
RECORDS = [SimpleNamespace(offset=offset) for offset in range(142)]


@pytest.fixture
async def consumer() -> AsyncIterator[AIOKafkaConsumer]:
    made = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    made.assign([CHANGELOG])
    # There is one once it has started; this is all that seeking needs of it.
    made._fetcher = SimpleNamespace(seek_to=made._subscription.seek)
    yield made
    made._fetcher = None
    await made.stop()


def fetching(monkeypatch: pytest.MonkeyPatch, during: Any) -> ConsumerThread:
    """A consumer's thread whose fetch takes until ``during`` has been called."""
    thread = object.__new__(ConsumerThread)
    thread.consumer = object.__new__(Consumer)
    thread.consumer.flow_active = True
    thread.consumer._active_partitions = {TP(*CHANGELOG)}
    thread.consumer._paused_partitions = set()
    thread.consumer._buffered_partitions = set()
    thread.consumer._fetched = {}

    async def fetch(*_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
        during(thread)
        return {CHANGELOG: list(RECORDS)}

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetch)
    return thread


def position(consumer: AIOKafkaConsumer) -> int:
    return positions_of(assignment_of(consumer))[CHANGELOG]


async def test_what_is_fetched_while_the_flow_stops_is_fetched_again(
    consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery has gone back to the beginning, and the fetch that was under way reads what recovery waits for."""

    def stop_and_recover(thread: ConsumerThread) -> None:
        thread.consumer.flow_active = False
        consumer.seek(CHANGELOG, 0)
        consumer.seek(CHANGELOG, 142)  # as reading does

    thread = fetching(monkeypatch, stop_and_recover)
    assert await thread._fetch_records(consumer, {CHANGELOG}) == {}
    assert position(consumer) == 0


async def test_what_is_fetched_of_partitions_that_wait_for_their_turn_is_fetched_again(
    consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance soon after another pauses all partitions, but does not stop the flow."""

    def rebalance_and_go_back(thread: ConsumerThread) -> None:
        thread.consumer.pause_partitions({TP(*CHANGELOG)})
        consumer.seek(CHANGELOG, 0)
        consumer.seek(CHANGELOG, 142)  # as reading does

    thread = fetching(monkeypatch, rebalance_and_go_back)
    assert await thread._fetch_records(consumer, {CHANGELOG}) == {}
    assert position(consumer) == 0


async def test_what_is_fetched_of_a_partition_that_is_held_back_is_handed_on(
    consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust takes it, although there is no room for more."""
    consumer.seek(CHANGELOG, 142)
    thread = fetching(monkeypatch, lambda thread: thread.consumer.on_buffer_full(TP(*CHANGELOG)))
    thread.consumer.app = SimpleNamespace(in_recovery=False)
    assert await thread._fetch_records(consumer, {CHANGELOG}) == {CHANGELOG: RECORDS}
    assert position(consumer) == 142


async def test_a_position_that_was_set_after_the_fetch_stays(
    consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_and_recover(thread: ConsumerThread) -> None:
        thread.consumer.flow_active = False
        consumer.seek(CHANGELOG, 7)

    thread = fetching(monkeypatch, stop_and_recover)
    assert await thread._fetch_records(consumer, {CHANGELOG}) == {}
    assert position(consumer) == 7


async def test_what_is_fetched_while_frames_flow_is_handed_on(
    consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer.seek(CHANGELOG, 142)
    thread = fetching(monkeypatch, lambda _: None)
    assert await thread._fetch_records(consumer, {CHANGELOG}) == {CHANGELOG: RECORDS}
    assert position(consumer) == 142


FRAMES = [TopicPartition("frames", number) for number in range(2)]


@pytest.mark.parametrize(
    ("asked", "flows", "wait_ms"),
    [
        ([*FRAMES, CHANGELOG], True, IDLE_FETCH_WAIT_MS),
        (FRAMES, True, IDLE_FETCH_WAIT_MS),  # what the worker itself wrote lies there, unread
        (FRAMES[:1], True, FETCH_WAIT_MS),  # the other one's last records are not consumed yet
        (FRAMES, False, FETCH_WAIT_MS),  # a recovery, which goes elsewhere soon
    ],
)
def test_only_a_fetch_that_leaves_no_frames_out_waits_longer(
    asked: list[TopicPartition], flows: bool, wait_ms: int
) -> None:
    """A partition that is left out has to wait until the fetch returns."""
    request = SimpleNamespace(topics=[(tp.topic, [(tp.partition, 0, 1)]) for tp in asked], _max_wait_ms=FETCH_WAIT_MS)
    fetcher = SimpleNamespace(
        _get_actions_per_node=lambda _assignment: ([(1, request)], {}, 0, False, []), _select_read_replica=lambda _tp: 1
    )
    thread = object.__new__(ConsumerThread)
    is_changelog = lambda tp: tp.topic == CHANGELOG.topic  # noqa: E731
    thread.consumer = SimpleNamespace(flow_active=flows, _is_changelog_tp=is_changelog)  # type: ignore[assignment]
    thread.make_patient(fetcher)
    fetcher._get_actions_per_node(SimpleNamespace(tps={*FRAMES, CHANGELOG}))
    assert request._max_wait_ms == wait_ms


class Fetching(Consumer):
    """A consumer without Faust around it, whose next fetch has brought :attr:`fetched_records`."""

    def __init__(self, records: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        self.fetched_records = records
        self.flow_active = True
        self.sought = 0
        self.ends: list[TP] = []
        self.app = SimpleNamespace(
            consumer_generation_id=3, monitor=SimpleNamespace(track_tp_end_offset=lambda tp, _end: self.ends.append(tp))
        )
        self._read_offset: dict[TP, int | None] = defaultdict(lambda: None)
        self._buffered_partitions = set()
        self.active = {TP(*tp) for tp in records}

    should_stop = False

    async def _wait_next_records(self, timeout: float) -> Any:
        return self.fetched_records, self.active

    def _is_changelog_tp(self, tp: TP) -> bool:
        return bool(tp.topic == CHANGELOG.topic)

    def highwater(self, tp: TP) -> int:
        return 1000

    async def perform_seek(self) -> None:
        self.sought += 1


def consumer_record(tp: TopicPartition, offset: int, value: bytes = b"wav") -> ConsumerRecord:
    headers = (("ce_source", b"mic"),)
    return ConsumerRecord(*tp, offset, 1000 + offset, 0, b"pump-1", value, None, 6, len(value), headers)


def fetch_of(*offsets: int, value: bytes = b"wav") -> dict[TopicPartition, list[ConsumerRecord]]:
    return {FRAMES[0]: [consumer_record(FRAMES[0], offset, value) for offset in offsets]}


async def taken_from(consumer: Fetching) -> list[list[int]]:
    """The offsets of each message's frames."""
    return [[taken.record.offset for taken in message.frames] async for _, message in consumer.getmany(1.0)]


async def test_frames_of_a_fetch_are_one_message_for_each_partition() -> None:
    found = fetch_of(4, 5, 9)
    found[FRAMES[1]] = [consumer_record(FRAMES[1], 2)]
    consumer = Fetching(found)
    (tp, first), (other, second) = [one async for one in consumer.getmany(1.0)]
    assert (tp, first.offset, first.generation_id) == (TP(*FRAMES[0]), 9, 3)
    assert (other, second.offset) == (TP(*FRAMES[1]), 2)
    record = FrameRecord(b"pump-1", b"wav", (("ce_source", b"mic"),), 1005, "frames", 0, 5)
    assert first.frames[1] == FetchedFrame(record, 3, 6 + 3 + 9 + 3)
    assert consumer.ends == [tp, other]


async def test_no_message_has_more_frames_than_may_wait_at_once() -> None:
    assert list(map(len, await taken_from(Fetching(fetch_of(*range(300)))))) == [128, 128, 44]
    assert list(map(len, await taken_from(Fetching(fetch_of(*range(9), value=bytes(1_000_000)))))) == [4, 4, 1]


async def test_records_of_a_changelog_that_a_fetch_brought_are_one_message_of_a_partition() -> None:
    other = TopicPartition(CHANGELOG.topic, 1)
    found = {CHANGELOG: [consumer_record(CHANGELOG, at, b"state %d" % at) for at in (3, 4, 7)]}
    found[other] = [consumer_record(other, 2, b"")]
    messages = [message async for _, message in Fetching(found).getmany(1.0)]
    assert [(message.partition, message.offset, message.states, message.frames) for message in messages] == [
        (0, 7, [(b"pump-1", b"state 3"), (b"pump-1", b"state 4"), (b"pump-1", b"state 7")], None),
        (1, 2, [(b"pump-1", b"")], None),
    ]


async def test_a_record_of_a_changelog_that_cannot_be_read_is_passed_over() -> None:
    nothing = (0, None, None, None, -1, -1, ())
    unreadable = UnreadableRecord(*CHANGELOG, 8, 1000, *nothing, 5, "record_unreadable", "cut")
    consumer = Fetching({CHANGELOG: [consumer_record(CHANGELOG, 4), unreadable]})
    (message,) = [message async for _, message in consumer.getmany(1.0)]
    assert (message.offset, message.states) == (8, [(b"pump-1", b"wav")])


async def test_frames_before_what_was_read_last_are_passed_over() -> None:
    consumer = Fetching(fetch_of(4, 5, 6))
    consumer._read_offset[TP(*FRAMES[0])] = 5
    assert await taken_from(consumer) == [[5, 6]]
    consumer._read_offset[TP(*FRAMES[0])] = 7
    assert await taken_from(consumer) == []


async def test_a_record_that_cannot_be_read_is_a_frame_that_says_so() -> None:
    consumer = Fetching({})
    nothing = (0, None, None, None, -1, -1, ())
    consumer.fetched_records = {
        FRAMES[0]: [UnreadableRecord(*FRAMES[0], 8, 1000, *nothing, 5, "record_unreadable", "cut")]
    }
    consumer.active = {TP(*FRAMES[0])}
    ((_, message),) = [one async for one in consumer.getmany(1.0)]
    assert message.frames[0].record.unreadable == Unreadable(5, "record_unreadable", "cut")


async def test_a_rebalance_between_two_messages_ends_the_fetch() -> None:
    consumer, seen = Fetching(fetch_of(*range(300))), []
    async for _, message in consumer.getmany(1.0):
        seen.append(message.offset)
        consumer.app.consumer_generation_id += 1
    assert seen == [127]
    consumer.active = set()
    assert await taken_from(consumer) == [], "nor is anything taken of partitions that are not to be read"


async def test_what_was_fetched_while_the_flow_stopped_is_fetched_again() -> None:
    consumer = Fetching(fetch_of(1, 2))
    consumer.flow_active = False
    assert await taken_from(consumer) == []
    assert consumer.sought == 1


def test_frames_are_acknowledged_by_the_offset_before_which_all_are_answered() -> None:
    consumer = object.__new__(Consumer)
    tp = TP(*FRAMES[0])
    consumer._done, consumer._fetched, consumer._n_acked = {tp: -1}, {tp: (41, 42)}, 0
    assert consumer._new_offset(tp) is None
    consumer.acknowledge(tp, 7, 3)
    consumer.acknowledge(tp, 5, 1)
    consumer.acknowledge(TP(*FRAMES[1]), 9, 1)
    assert (consumer._new_offset(tp), consumer._n_acked) == (7, 4)
    assert consumer.answered("frames") == {0: 7}, "not of a partition that has gone"
