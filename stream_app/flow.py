"""Two stages that overlap: while one batch's answers are being sent, the next one is computed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from schemas.frame import FrameRecord
from stream_app.metrics import Metrics
from stream_app.processor import Answer, BatchProcessor, Taken
from whirr.recordings import decode_cost

BATCH_VALUE_BYTES = 8 * 1024 * 1024
BATCH_SAMPLES = 8_000_000  # twice what one frame may hold

Compute = Callable[[Sequence[FrameRecord]], Coroutine[Any, Any, list[Answer]]]
_Scored = tuple[list[Taken], asyncio.Task[list[Answer]]]


class Flow:
    """Takes frames, has them computed in batches, and has the batches finished in order.

    Frames that come while the computation is busy go into one batch: under light load batches are small and
    quick, under heavy load large and cheap. Only a full batch is handed over while another is still being computed.

    Args:
        compute: Answers each record of a batch, off the event loop, which stays free for heartbeats.
        processor: Finishes what is computed.
        metrics: Where batch sizes go.
        batch_frames: Most frames in a batch.
    """

    def __init__(self, compute: Compute, processor: BatchProcessor, metrics: Metrics, batch_frames: int = 64) -> None:
        self._compute = compute
        self._processor = processor
        self._metrics = metrics
        self._batch_frames = batch_frames
        self._waiting: deque[Taken] = deque()
        self._costs: deque[int] = deque()
        self._changed = asyncio.Condition()
        self._in_computation = 0
        self._scored: asyncio.Queue[_Scored] = asyncio.Queue()

    async def put(self, frames: Sequence[Taken]) -> None:
        """Hand over frames in the order in which they came; waits while a whole batch waits already."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._waiting) < self._batch_frames)
            self._waiting.extend(frames)
            self._costs.extend(decode_cost(taken.record.value or b"") for taken in frames)
            self._changed.notify_all()

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            ExceptionGroup: A batch could not be brought to its end. Its frames are not acknowledged.
        """
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self._compute_all(stages))
            stages.create_task(self._finish_all())

    async def _compute_all(self, stages: asyncio.TaskGroup) -> None:
        while True:
            batch = await self._next_batch()
            self._metrics.batch_frames.observe(len(batch))
            self._scored.put_nowait((batch, stages.create_task(self._computed(batch))))

    async def _computed(self, batch: Sequence[Taken]) -> list[Answer]:
        answers = await self._compute([taken.record for taken in batch])
        async with self._changed:
            self._in_computation -= 1
            self._changed.notify_all()
        return answers

    async def _finish_all(self) -> None:
        while True:
            batch, answers = await self._scored.get()
            await self._processor.finish(batch, await answers)

    async def _next_batch(self) -> list[Taken]:
        """Return what waits, up to 8 MiB and 8 million samples.

        Large frames must not hold the others up, nor fill the memory; nor must small files of many samples.
        """
        async with self._changed:
            await self._changed.wait_for(self._may_begin)
            count = self._next_size()
            batch = [self._waiting.popleft() for _ in range(count)]
            for _ in range(count):
                self._costs.popleft()
            self._in_computation += 1
            self._changed.notify_all()
            return batch

    def _may_begin(self) -> bool:
        if not self._waiting or self._in_computation > 1:
            return False
        size = self._next_size()
        return not self._in_computation or size == self._batch_frames or size < len(self._waiting)

    def _next_size(self) -> int:
        """Return how many frames the next batch may have."""
        size = samples = 0
        for count, (taken, cost) in enumerate(zip(self._waiting, self._costs, strict=True)):
            size += len(taken.record.value or b"")
            samples += cost
            full = size > BATCH_VALUE_BYTES or samples > BATCH_SAMPLES
            if count == self._batch_frames or (count and full):
                return count
        return len(self._waiting)
