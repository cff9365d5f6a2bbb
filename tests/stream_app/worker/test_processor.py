"""The order in which a batch is brought to its end, and what a failure leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from schemas import DeadLetter, FrameRecord
from stream_app.pipeline import StreamState
from stream_app.worker.messages import Message
from stream_app.worker.offset_tracker import FetchedFrame
from stream_app.worker.states import state_key
from tests.stream_app.worker.fakes import NOW_US, Bench, FakeSender, frame_record


@pytest.fixture
def bench() -> Bench:
    return Bench()


def course(seconds: int, machine_id: str = "pump-1", partition: int = 0) -> list[FrameRecord]:
    return [frame_record(machine_id, second, offset=second, partition=partition) for second in range(seconds)]


async def test_answers_then_states_then_acknowledgements(bench: Bench) -> None:
    await bench.finish(course(3))
    assert bench.log == ["send alerts,scores", "send changelog", "ack 0", "ack 1", "ack 2"]


async def test_one_state_write_for_each_stream_of_a_batch(bench: Bench) -> None:
    await bench.finish([*course(5, "pump-1"), *course(4, "pump-2")])
    written = bench.sender.to("changelog")
    assert sorted(message.key or b"" for message in written) == [b"pump-1\0", b"pump-2\0"]
    by_key = {message.key: StreamState.from_bytes(message.value or b"") for message in written}
    assert by_key[b"pump-1\0"].frames == 5
    assert by_key[b"pump-2\0"].frames == 4


async def test_a_state_goes_to_the_partition_of_its_frames(bench: Bench) -> None:
    await bench.finish(course(1, partition=3))
    assert [message.partition for message in bench.sender.to("changelog")] == [3]


async def test_frames_of_a_stream_see_each_other_in_order(bench: Bench) -> None:
    await bench.finish(course(2))
    await bench.finish(course(4)[2:])
    assert [state.frames if state else 0 for _, state in bench.engine.seen] == [0, 1, 2, 3]


async def test_late_frames_are_scored_and_write_no_state(bench: Bench) -> None:
    await bench.finish(course(2))
    bench.sender.sent.clear()
    await bench.finish(course(2))
    assert len(bench.sender.to("scores")) == 2
    assert bench.sender.to("changelog") == []
    assert bench.sender.to("alerts") == []
    assert bench.acked == [0, 1, 0, 1]


@pytest.mark.parametrize("failing", ["scores", "alerts", "dlq", "changelog"])
async def test_a_failed_send_leaves_every_frame_unacknowledged(bench: Bench, failing: str) -> None:
    bench.sender.failing = failing
    with pytest.raises(ConnectionError):
        await bench.finish([*course(3), replace(frame_record(offset=3), value=b"bad")])
    assert bench.acked == []
    assert bench.processor.next_offset == {}
    assert bench.states.get(0, b"pump-1\0") is None, "only an acknowledged state may be used again"


async def test_a_dead_letter_carries_the_record_and_is_acknowledged(bench: Bench) -> None:
    bad = replace(frame_record(offset=7), value=b"bad")
    await bench.finish([bad])
    (letter,) = bench.sender.to("dlq")
    assert (letter.key, letter.value) == (bad.key, bad.value)
    assert ("whirr_error", b"not_audio") in letter.headers
    assert bench.acked == [7]
    assert bench.metrics.registry.get_sample_value("whirr_dead_letters_total", {"code": "not_audio"}) == 1


async def test_a_frame_answered_early_is_acknowledged_after_those_before_it(bench: Bench) -> None:
    """A costly frame may wait for its turn while later ones of its partition are answered: a crash must not lose it."""
    records = [*course(1, "costly"), *(replace(frame, offset=frame.offset + 1) for frame in course(3))]
    batch = [bench.taken(record) for record in records]
    bench.processor.offsets.take(batch)
    await bench.processor.finish(batch[1:], bench.engine.compute(records[1:]))
    assert len(bench.sender.to("scores")) == 3
    assert bench.acked == []
    assert bench.processor.next_offset == {}
    await bench.processor.finish(batch[:1], bench.engine.compute(records[:1]))
    assert bench.acked == [0, 1, 2, 3]
    assert bench.processor.next_offset == {0: 4}


async def test_a_stream_whose_frame_waits_for_its_turn_is_not_silent(bench: Bench) -> None:
    await bench.finish(course(1))
    bench.now_us += 60_000_000
    bench.processor.is_queued = lambda partition, key: (partition, key) == (0, b"pump-1\0")
    await bench.processor.check_silence({0: 0}, 10.0)
    assert len(bench.sender.to("alerts")) == 1, "the frame's own"
    bench.processor.is_queued = lambda _partition, _key: False
    bench.now_us += 60_000_000
    await bench.processor.check_silence({0: 0}, 10.0)
    assert len(bench.sender.to("alerts")) == 2


async def test_frames_of_an_older_generation_are_dropped_before_anything_is_sent(bench: Bench) -> None:
    bench.generation = 2
    await bench.finish(course(3), generation=1)
    assert bench.log == []
    assert bench.metrics.registry.get_sample_value("whirr_frames_total", {"outcome": "revoked"}) == 3


async def test_frames_that_slip_in_before_their_states_are_here_come_again(bench: Bench) -> None:
    """A fetch that was under way when partitions came is given the new generation."""
    bench.generation = 2
    await bench.finish(course(3), generation=2)
    assert bench.log == []
    bench.lease.open(2, range(4))
    await bench.finish(course(3), generation=2)
    assert bench.acked == [0, 1, 2]


async def test_frames_of_a_partition_that_went_elsewhere_are_dropped(bench: Bench) -> None:
    bench.lease.open(1, {1, 2})
    frames = course(3)
    await bench.finish([*frames[:1], *(replace(frame, partition=2) for frame in frames[1:])])
    assert bench.acked == [1, 2]


async def test_a_batch_of_two_generations_keeps_the_newer(bench: Bench) -> None:
    bench.generation = 2
    bench.lease.open(2, range(4))
    records = course(4)
    batch = [bench.taken(record, 1 if i < 2 else 2) for i, record in enumerate(records)]
    bench.processor.offsets.take(batch)
    await bench.processor.finish(batch, bench.engine.compute(records))
    assert bench.acked == [2, 3]
    assert len(bench.sender.to("scores")) == 2


async def test_a_rebalance_while_sending_leaves_state_and_offsets_alone(bench: Bench) -> None:
    def rebalance(messages: object) -> None:
        bench.generation = 2

    bench.sender.before = rebalance
    await bench.finish(course(3))
    assert bench.sender.to("changelog") == []
    assert bench.acked == []
    assert bench.states.get(0, b"pump-1\0") is None


async def test_a_rebalance_while_the_state_is_written_leaves_offsets_alone(bench: Bench) -> None:
    def rebalance(messages: list) -> None:
        if messages[0].topic == "changelog":
            bench.generation = 2

    bench.sender.before = rebalance
    await bench.finish(course(3))
    assert bench.acked == []
    assert bench.states.get(0, b"pump-1\0") is None, "the recovered table counts, not what this worker thought"


async def test_settling_waits_for_the_batch_in_flight_and_begins_no_other(bench: Bench) -> None:
    go_on = asyncio.Event()

    class Slow(FakeSender):
        async def send(self, messages: Any) -> list[Message]:
            await go_on.wait()
            return await super().send(messages)

    bench.processor._sender = Slow(bench.log)
    first = asyncio.create_task(bench.finish(course(1)))
    await asyncio.sleep(0)
    second = asyncio.create_task(bench.finish(course(2)[1:]))
    settled = asyncio.create_task(bench.processor.settle(5.0))
    await asyncio.sleep(0)
    assert not settled.done()
    go_on.set()
    assert await settled
    await asyncio.gather(first, second)
    assert bench.acked == [0], "the second batch had not begun"


async def test_settling_gives_up_in_time(bench: Bench) -> None:
    class Stuck(FakeSender):
        async def send(self, messages: object) -> list[Message]:
            await asyncio.Event().wait()
            return []

    bench.processor._sender = Stuck()
    stuck = asyncio.create_task(bench.finish(course(1)))
    await asyncio.sleep(0)
    assert not await bench.processor.settle(0.01)
    stuck.cancel()


async def test_positions_follow_the_acknowledgements(bench: Bench) -> None:
    await bench.finish([*course(3, partition=0), *course(2, "pump-2", partition=1)])
    assert bench.processor.next_offset == {0: 3, 1: 2}


# Silence


async def test_a_silent_stream_is_told_once_and_remembered(bench: Bench) -> None:
    await bench.finish(course(1))
    bench.sender.sent.clear()
    bench.now_us = NOW_US + 20_000_000
    for _ in range(3):
        await bench.processor.check_silence({0: NOW_US}, 10.0)
    (alert,) = bench.sender.to("alerts")
    (state,) = bench.sender.to("changelog")
    assert b"silent" in (alert.value or b"")
    assert StreamState.from_bytes(state.value or b"").silent.incident_id
    state_kept = bench.states.get(0, state_key(("pump-1", "")))
    assert state_kept is not None
    assert state_kept.silent.incident_id


async def test_a_new_worker_goes_on_counting_silence_once_it_has_read_what_waited() -> None:
    first, second = Bench(), Bench()
    await first.finish([*course(1), *course(1, "fan-1")])
    for message in first.sender.to("changelog"):
        second.states.restore(0, message.key or b"", message.value)
    back_us = NOW_US + 3_600_000_000
    second.now_us = back_us
    await second.processor.check_silence({0: back_us}, 10.0)
    assert second.sender.sent == [], "frames may wait in Kafka"
    await second.finish(course(2, "fan-1")[1:])
    second.sender.sent.clear()
    for waited_us, reported in ((5_000_000, []), (7_000_000, ["pump-1"])):
        second.now_us = back_us + waited_us
        await second.processor.check_silence({0: back_us}, 10.0)
        assert [message.key for message in second.sender.to("alerts")] == [name.encode() for name in reported]


async def test_no_silence_after_partitions_went(bench: Bench) -> None:
    await bench.finish(course(1))
    bench.sender.sent.clear()
    bench.lease.close()
    bench.now_us = NOW_US + 20_000_000
    await bench.processor.check_silence({0: NOW_US}, 10.0)
    assert bench.sender.sent == []


async def test_an_answer_that_is_too_large_is_told_and_ends_nothing(bench: Bench) -> None:
    sender = FakeSender(bench.log)
    bench.processor._sender = sender
    sender.most_bytes = 450
    await bench.finish(course(1))
    (letter,) = {message.value for message in sender.to("dlq")}
    assert letter is None
    told = [dict(message.headers) for message in sender.to("dlq")]
    assert {one["whirr_error"] for one in told} == {b"answer_too_large"}
    assert all(b"bytes for topic" in one["whirr_detail"] for one in told)
    assert {(one["whirr_partition"], one["whirr_offset"]) for one in told if "whirr_offset" in one} == {(b"0", b"0")}
    assert bench.metrics.registry.get_sample_value("whirr_dead_letters_total", {"code": "answer_too_large"}) == len(
        told
    )


async def test_a_dead_letter_that_is_too_large_goes_without_its_value(bench: Bench) -> None:
    sender = FakeSender(bench.log)
    bench.processor._sender = sender
    record = FrameRecord(b"pump-1", bytes(1_999_900), (), 1)
    taken = FetchedFrame(record, 1, 0)
    await bench.processor.finish([taken], [DeadLetter(code="value_too_large", detail="large", record=record)])
    whole, cut = sender.to("dlq")
    assert cut.value is None
    assert cut.key == b"pump-1"
    assert dict(cut.headers)["whirr_error"] == b"value_too_large", "why it is there stays"
    assert dict(cut.headers)["whirr_value_bytes"] == b"1999900"
    assert whole.size > sender.most_bytes > cut.size
