"""What waits is bounded, and a partition that waits long stands alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from mode.utils.queues import FlowControlEvent

from stream_app.worker.backpressure import MAX_BYTES, MAX_FRAMES, Backpressure, FrameQueue
from stream_app.worker.offset_tracker import MAX_AHEAD


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

    def put(self, partition: int, size: int) -> None:
        event: Any = SimpleNamespace(
            message=SimpleNamespace(partition=partition, key=None, value=bytes(size), headers=())
        )
        self.queue.put_nowait_enhanced(
            event,
            on_pressure_high=lambda: self.held.add(partition),
            on_pressure_drop=lambda: self.held.discard(partition),
        )

    async def hand_on(self) -> None:
        """What the agent does: into the flow, where it waits."""
        message = (await self.queue.get()).message
        self.backpressure.enter(message.partition, len(message.value))


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
