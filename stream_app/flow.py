"""Two stages that overlap: while one batch's answers are being sent, the next one is computed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from schemas.frame import FrameRecord
from stream_app.metrics import Metrics
from stream_app.processor import Answer, BatchProcessor, Taken

BATCH_VALUE_BYTES = 8 * 1024 * 1024

Compute = Callable[[Sequence[FrameRecord]], list[Answer]]
_Scored = tuple[list[Taken], list[Answer]]


class Flow:
    """Takes batches, computes them in a thread, and has them finished in order.

    Args:
        compute: The engine's pure half; runs in one thread of its own, so the event loop stays free for heartbeats.
        processor: Finishes what is computed.
        metrics: Where batch sizes and times go.
    """

    def __init__(self, compute: Compute, processor: BatchProcessor, metrics: Metrics) -> None:
        self._compute = compute
        self._processor = processor
        self._metrics = metrics
        self._taken: asyncio.Queue[list[Taken]] = asyncio.Queue(1)
        self._scored: asyncio.Queue[_Scored] = asyncio.Queue(1)

    async def put(self, batch: Sequence[Taken]) -> None:
        """Hand over frames in the order in which they came; waits while two batches are on their way."""
        for part in _parts(batch):
            await self._taken.put(part)

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            ExceptionGroup: A batch could not be brought to its end. Its frames are not acknowledged.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="whirr-compute") as executor:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(self._compute_all(executor))
                stages.create_task(self._finish_all())

    async def _compute_all(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._taken.get()
            began = time.perf_counter()
            answers = await loop.run_in_executor(executor, self._compute, [taken.record for taken in batch])
            self._metrics.compute_seconds.observe(time.perf_counter() - began)
            self._metrics.batch_frames.observe(len(batch))
            await self._scored.put((batch, answers))

    async def _finish_all(self) -> None:
        while True:
            await self._processor.finish(*await self._scored.get())


def _parts(batch: Sequence[Taken]) -> Iterator[list[Taken]]:
    """Cut a batch where its values exceed 8 MiB: large frames must not hold the others up, nor fill the memory."""
    part: list[Taken] = []
    size = 0
    for taken in batch:
        size += len(taken.record.value or b"")
        if part and size > BATCH_VALUE_BYTES:
            yield part
            part, size = [], len(taken.record.value or b"")
        part.append(taken)
    if part:
        yield part
