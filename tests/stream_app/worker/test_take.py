"""Taking frames in batches: at once when some come, and without a timer while none do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stream_app.worker.take import FrameStream
from tests.helpers import eventually_async

# Waiting takes no time here, and ends when all tasks wait.
pytestmark = pytest.mark.usefixtures("virtual_time")


class Stream(FrameStream):
    """Without Faust around it: events come by :meth:`bring`."""

    def __init__(self) -> None:
        self.enable_acks = True
        self._processors: list[Any] = []
        self.current_event: Any = None
        self.waits = 0
        self.channel = self

    should_stop = False

    def __aiter__(self) -> Stream:
        return self

    def add_processor(self, processor: Any) -> None:
        self._processors.append(processor)

    def _enable_passive(self, channel: Any, *, declare: bool = False) -> None:
        pass

    async def wait_for_stopped(self, *events: Any, timeout: float | None = None) -> bool:
        assert timeout is None, "an idle worker has no timer"
        self.waits += 1
        await events[0].wait()
        return False

    async def bring(self, *events: int) -> None:
        for self.current_event in events:
            await self._processors[0](self.current_event)


async def test_frames_are_taken_in_batches_of_at_most_so_many() -> None:
    stream, batches = Stream(), []

    async def take() -> None:
        async for events in stream.noack_take(4, within=0.005):
            batches.append(events)  # noqa: PERF401 - one by one, as they come

    taking = asyncio.create_task(take())
    await asyncio.sleep(0)
    assert stream.enable_acks is False, "the processor acknowledges"
    await stream.bring(*range(10))
    await eventually_async(lambda: sum(map(len, batches)) == 10)
    assert [event for batch in batches for event in batch] == list(range(10))
    assert max(map(len, batches)) == 4
    taking.cancel()


async def test_an_idle_worker_sleeps_until_a_frame_comes() -> None:
    stream, batches = Stream(), []

    async def take() -> None:
        async for events in stream.noack_take(64, within=0.005):
            batches.append(events)  # noqa: PERF401 - one by one, as they come

    taking = asyncio.create_task(take())
    await asyncio.sleep(0.1)
    assert stream.waits == 1
    await stream.bring(7)
    await eventually_async(lambda: batches == [(7,)])
    await asyncio.sleep(0.1)
    assert stream.waits == 2
    taking.cancel()


async def test_others_wait_until_the_caller_is_done_with_a_batch() -> None:
    stream, batches, go_on = Stream(), [], asyncio.Event()

    async def take() -> None:
        async for events in stream.noack_take(64, within=0.005):
            batches.append(events)
            await go_on.wait()

    taking = asyncio.create_task(take())
    await asyncio.sleep(0)
    await stream.bring(1)
    await eventually_async(lambda: batches == [(1,)])
    bringing = asyncio.create_task(stream.bring(2))
    await asyncio.sleep(0.02)
    assert not bringing.done()
    go_on.set()
    await bringing
    await eventually_async(lambda: batches == [(1,), (2,)])
    taking.cancel()
