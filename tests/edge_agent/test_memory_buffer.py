"""The buffer: order, waiting, and what is let go when it is full."""

from __future__ import annotations

import asyncio

import pytest

from edge_agent.memory_buffer import MemoryBuffer
from edge_agent.outgoing import OutgoingFrame


def _frame(number: int, size: int = 10) -> OutgoingFrame:
    return OutgoingFrame(b"pump-1", bytes([number]) * size, (), number, number + 1)


async def _drain(buffer: MemoryBuffer) -> list[int]:
    await buffer.close()
    found = []
    while (frame := await buffer.next()) is not None:
        found.append(frame.recorded_us)
        await buffer.done()
    return found


async def test_frames_leave_in_order_when_they_are_done() -> None:
    buffer = MemoryBuffer(1000, drop_oldest=False)
    for number in range(5):
        await buffer.put(_frame(number))
    first = await buffer.next()
    assert first is not None
    assert first.recorded_us == 0
    assert len(buffer) == 5
    assert await buffer.next() == first  # not done, so still the first
    assert await _drain(buffer) == [0, 1, 2, 3, 4]


async def test_a_live_source_drops_the_oldest_and_counts_it(caplog: pytest.LogCaptureFixture) -> None:
    buffer = MemoryBuffer(30, drop_oldest=True)
    for number in range(6):
        await buffer.put(_frame(number))
    assert (buffer.dropped_frames, buffer.dropped_bytes) == (3, 30)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert await _drain(buffer) == [3, 4, 5]


async def test_the_frame_being_sent_is_not_dropped() -> None:
    buffer = MemoryBuffer(30, drop_oldest=True)
    await buffer.put(_frame(0))
    assert await buffer.next() == _frame(0)
    for number in range(1, 6):
        await buffer.put(_frame(number))
    assert await _drain(buffer) == [0, 4, 5]


async def test_a_folder_waits_for_room() -> None:
    buffer = MemoryBuffer(25, drop_oldest=False)
    await buffer.put(_frame(0))
    await buffer.put(_frame(1))
    waiting = asyncio.create_task(buffer.put(_frame(2)))
    done, _ = await asyncio.wait({waiting}, timeout=0)
    assert not done
    await buffer.next()
    await buffer.done()
    await asyncio.wait_for(waiting, 5)
    assert await _drain(buffer) == [1, 2]
    assert buffer.dropped_frames == 0


@pytest.mark.parametrize("drop_oldest", [True, False])
async def test_there_is_room_for_one_frame_however_large(drop_oldest: bool) -> None:
    buffer = MemoryBuffer(5, drop_oldest=drop_oldest)
    await asyncio.wait_for(buffer.put(_frame(0, size=100)), 5)
    assert await _drain(buffer) == [0]
