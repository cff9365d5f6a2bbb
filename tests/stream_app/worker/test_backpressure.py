"""What waits is bounded, and a partition that waits long stands alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from mode.utils.queues import FlowControlEvent

from schemas import FrameRecord
from stream_app.worker.backpressure import MAX_BYTES, MAX_FRAMES, Backpressure, FrameQueue
from stream_app.worker.offset_tracker import MAX_AHEAD, FetchedFrame


class Consumer:
    """Which partitions are held back."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.backpressure = Backpressure()
        flow = FlowControlEvent()
        flow.resume()
        self.queue = FrameQueue(
            maxsize=100_000, flow_control=flow, clear_on_resume=True, backpressure=self.backpressure
        )

    def put(self, partition: int, size: int, frames: int = 1) -> None:
        together = [FetchedFrame(FrameRecord(None, None, partition=partition), 1, size)] * frames
        event: Any = SimpleNamespace(message=SimpleNamespace(partition=partition, frames=together))
        self.queue.put_nowait_enhanced(
            event,
            on_pressure_high=lambda: self.held.add(partition),
            on_pressure_drop=lambda: self.held.discard(partition),
        )

    async def hand_on(self) -> None:
        """What the agent does: into the flow, where it waits."""
        for taken in (await self.queue.get()).message.frames:
            self.backpressure.enter(taken.record.partition, taken.size)


@pytest.fixture
async def consumer() -> Consumer:
    return Consumer()


async def test_a_partition_whose_frames_wait_is_held_back_alone(consumer: Consumer) -> None:
    while not consumer.held:
        consumer.put(3, 1000)
        await consumer.hand_on()
    assert consumer.backpressure.frames <= MAX_FRAMES / 2 + 1
    consumer.put(4, 1000)
    assert consumer.held == {3}
    while consumer.backpressure.frames > MAX_FRAMES / 10:
        consumer.backpressure.leave(3, 1000)
    consumer.backpressure.resume_ready()
    assert consumer.held == set()


async def test_frames_that_come_together_count_each(consumer: Consumer) -> None:
    consumer.put(3, 1000, frames=40)
    assert (consumer.backpressure.frames, consumer.backpressure.bytes) == (40, 40_000)
    await consumer.hand_on()
    assert (consumer.backpressure.frames, consumer.backpressure.bytes) == (40, 40_000), "in the flow, where they wait"
    consumer.queue._maxsize = 100
    for _ in range(3):
        assert not consumer.queue.full()
        consumer.put(4, 1, frames=40)
    assert consumer.queue.full()
    await consumer.queue.get()
    assert not consumer.queue.full()


async def test_a_record_of_a_changelog_counts_as_one(consumer: Consumer) -> None:
    message = SimpleNamespace(partition=2, frames=None, key=b"pump-1", value=bytes(400), headers=())
    consumer.queue.put_nowait(SimpleNamespace(message=message))
    assert (consumer.backpressure.frames, consumer.backpressure.bytes) == (1, 406)


async def test_large_frames_fill_the_room_by_their_bytes(consumer: Consumer) -> None:
    while not consumer.held:
        consumer.put(3, 1_000_000)
        await consumer.hand_on()
    assert consumer.backpressure.bytes <= MAX_BYTES / 2 + 1_000_000


async def test_all_are_held_back_when_the_memory_is_full(consumer: Consumer) -> None:
    for number in range(20):
        consumer.put(number, 2_000_000)
    assert len(consumer.held) > 1
    assert consumer.backpressure.bytes <= MAX_BYTES * 1.3
    while consumer.held:
        await consumer.queue.get()
        consumer.backpressure.resume_ready()


async def test_a_partition_far_ahead_of_its_oldest_frame_is_held_back(consumer: Consumer) -> None:
    """All of what was answered before one frame would come again after a crash."""
    consumer.backpressure.ahead = lambda partition: MAX_AHEAD if partition == 3 else 0
    for partition in (3, 4):
        consumer.put(partition, 10)
    assert consumer.held == {3}


async def test_a_cleared_queue_leaves_room_and_holds_nobody_back(consumer: Consumer) -> None:
    for _ in range(40):
        consumer.put(3, 1_000_000)
    consumer.held.clear()  # a rebalance lets all go
    consumer.queue.clear()
    assert (consumer.backpressure.frames, consumer.backpressure.bytes) == (0, 0)
    for _ in range(40):
        consumer.put(3, 1_000_000)
    assert consumer.held == {3}, "and it can be held back again"
    await asyncio.sleep(0)
