"""What becomes of records that were being fetched when a rebalance began."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream_app.worker.transport import (
    FETCH_WAIT_MS,
    IDLE_FETCH_WAIT_MS,
    Consumer,
    ConsumerThread,
    assignment_of,
    positions_of,
)

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
