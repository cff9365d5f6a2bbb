"""Two stages that overlap: while one batch's answers are being sent, the next one is computed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from recordings import decode_cost
from schemas.dead_letter import DeadLetter
from schemas.frame import MAX_HEADERS, MAX_SAMPLES, FrameRecord
from stream_app.worker.backpressure import Backpressure
from stream_app.worker.budget import Budgets
from stream_app.worker.fair import FairQueue
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.offset_tracker import FetchedFrame
from stream_app.worker.processor import Answer
from stream_app.worker.states import StreamKey

BATCH_VALUE_BYTES = 8 * 1024 * 1024
COMPUTED_COST = MAX_SAMPLES  # in computation at any time, of more than one frame: what one frame may cost
BATCH_COST = COMPUTED_COST // 2  # the next batch may be at hand
COSTLY = BATCH_COST // 4  # goes alone, so that no cheap frame waits for it in its batch

Compute = Callable[[Sequence[FrameRecord]], Coroutine[Any, Any, list[Answer]]]


class Finisher(Protocol):
    """What brings batches to their end."""

    async def finish(self, batch: Sequence[FetchedFrame], answers: Sequence[Answer]) -> None:
        """Bring one batch to its end."""


class Admission(Protocol):
    """What decides how a frame is queued, and whether it may still be answered here."""

    def cost(self, record: FrameRecord) -> int:
        """Return what a frame will cost, in samples at its model's rate over all channels."""

    def is_known(self, stream: StreamKey) -> bool:
        """Whether a stream has been heard before: its machine then has a lane of its own."""

    def is_wanted(self, taken: FetchedFrame) -> bool:
        """Whether a frame may still be answered here."""


class _AdmitAll:
    """Admits every frame, and takes every stream for a known one."""

    def cost(self, record: FrameRecord) -> int:
        """Return what a frame costs at the rate of a typical model."""
        return decode_cost(record.value or b"")

    def is_known(self, stream: StreamKey) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    def is_wanted(self, taken: FetchedFrame) -> bool:  # noqa: ARG002
        """Return True."""
        return True


class _QueuedFrame(NamedTuple):
    """A frame that waits, and its stream, which is asked for more than once."""

    taken: FetchedFrame
    stream: StreamKey


class _StreamQueue(NamedTuple):
    """Where a stream's frames wait, so that they stay in order."""

    known: bool
    frames: int


_Scored = tuple[list[_QueuedFrame], asyncio.Future[list[Answer]] | asyncio.Task[list[Answer]]]


class Flow:
    """Takes frames, has them computed in batches, and has the batches finished.

    Machines share the computation by what their frames cost (:class:`FairQueue`). Frames of one stream stay in order;
    those of one partition need not, and their acknowledgement is the offset tracker's business.

    Frames that come while the computation is busy go into one batch: under light load batches are small and
    quick, under heavy load large and cheap. Only a full batch is handed over while another is still being computed.
    A costly frame goes alone: whoever comes meanwhile waits for one such frame at most.

    Args:
        compute: Answers each record of a batch, off the event loop, which stays free for heartbeats.
        processor: Finishes what is computed.
        metrics: Where batch sizes go.
        batch_frames: Most frames in a batch.
        admission: Knows what frames cost and who is known.
        backpressure: Counts what waits here.
        budget: What one machine may ask for, in samples a second.
    """

    def __init__(
        self,
        compute: Compute,
        processor: Finisher,
        metrics: WorkerMetrics,
        batch_frames: int = 64,
        *,
        admission: Admission | None = None,
        backpressure: Backpressure | None = None,
        budget: float = math.inf,
    ) -> None:
        self._compute = compute
        self._processor = processor
        self._metrics = metrics
        self._batch_frames = batch_frames
        self._admission = admission or _AdmitAll()
        self._backpressure = backpressure or Backpressure()
        self._budgets = Budgets(budget)
        self._waiting: FairQueue[_QueuedFrame] = FairQueue()
        self._queues: dict[StreamKey, _StreamQueue] = {}
        self._changed = asyncio.Condition()
        self._in_computation: list[int] = []  # what each batch costs
        self._scored: asyncio.Queue[_Scored] = asyncio.Queue()

    async def put(self, frames: Sequence[FetchedFrame]) -> None:
        """Hand over frames in the order in which they came."""
        refused = []
        async with self._changed:
            for taken in frames:
                record = taken.record
                waiting = _QueuedFrame(taken, stream_of_record(record))
                self._backpressure.enter(record.partition, taken.size)
                cost = self._admission.cost(record)
                if self._budgets.admits(record, cost):
                    self._push(waiting, cost)
                else:
                    refused.append(waiting)
            self._changed.notify_all()
        if refused:
            answered: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
            answered.set_result([_too_costly(waiting.taken.record, self._budgets) for waiting in refused])
            self._scored.put_nowait((refused, answered))

    def is_queued(self, partition: int, key: bytes) -> bool:
        """Whether a frame of a stream, given by its changelog key, waits to be computed."""
        return (partition, key) in self._queues

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
            batch, cost = await self._next_batch()
            self._metrics.batch_frames.observe(len(batch))
            self._scored.put_nowait((batch, stages.create_task(self._computed(batch, cost))))

    async def _computed(self, batch: Sequence[_QueuedFrame], cost: int) -> list[Answer]:
        # What is not wanted is not computed, and the processor, which knows that too, will drop it.
        wanted = [self._admission.is_wanted(waiting.taken) for waiting in batch]
        records = [waiting.taken.record for waiting, is_wanted in zip(batch, wanted, strict=True) if is_wanted]
        computed = iter(await self._compute(records) if records else [])
        async with self._changed:
            self._in_computation.remove(cost)
            self._changed.notify_all()
        return [
            next(computed) if is_wanted else _unwanted(waiting.taken.record)
            for waiting, is_wanted in zip(batch, wanted, strict=True)
        ]

    async def _finish_all(self) -> None:
        while True:
            batch, answers = await self._scored.get()
            async with self._changed:
                self._changed.notify_all()
            await self._processor.finish([waiting.taken for waiting in batch], await answers)
            for waiting in batch:
                self._backpressure.leave(waiting.taken.record.partition, waiting.taken.size)
            self._backpressure.resume_ready()

    def _push(self, waiting: _QueuedFrame, cost: int) -> None:
        stream = waiting.stream
        queue = self._queues.get(stream) or _StreamQueue(self._admission.is_known(stream), 0)
        self._queues[stream] = _StreamQueue(queue.known, queue.frames + 1)
        (self._waiting.push if queue.known else self._waiting.push_new)(waiting.taken.record.key, waiting, cost)

    def _pop(self) -> None:
        stream = self._waiting.pop().item.stream
        queue = self._queues.pop(stream)
        if queue.frames > 1:
            self._queues[stream] = _StreamQueue(queue.known, queue.frames - 1)

    async def _next_batch(self) -> tuple[list[_QueuedFrame], int]:
        """Return what is next, and what it costs: up to 8 MiB and what half of the costliest frame costs, or one."""
        async with self._changed:
            await self._changed.wait_for(self._may_begin)
            batch: list[_QueuedFrame] = []
            size = total = 0
            while self._waiting and len(batch) < self._batch_frames:
                waiting, cost = self._waiting.peek()
                size += len(waiting.taken.record.value or b"")
                if batch and (cost > COSTLY or total + cost > BATCH_COST or size > BATCH_VALUE_BYTES):
                    break
                self._pop()
                batch.append(waiting)
                total += cost
                if cost > COSTLY:
                    break
            self._in_computation.append(total)
            self._changed.notify_all()
            return batch, total

    def _may_begin(self) -> bool:
        if not self._waiting:
            return False
        full = len(self._waiting) >= self._batch_frames or self._waiting.cost >= BATCH_COST
        if self._scored.qsize() and not full:
            return False  # it would wait to be sent: batches are to grow as large as that stage, too, wants them
        if not self._in_computation:
            return True
        roomy = len(self._in_computation) == 1 and self._in_computation[0] <= BATCH_COST
        return full and roomy and self._waiting.peek().cost <= COSTLY


def stream_of_record(record: FrameRecord) -> StreamKey:
    """Return whose frame a record says it is, before anything in it is believed."""
    source = b""
    for name, raw in islice(record.headers, MAX_HEADERS):
        if name == "ce_source":
            source = raw or b""
    return StreamKey(record.partition, (record.key or b"") + b"\0" + source)


def _too_costly(record: FrameRecord, budgets: Budgets) -> DeadLetter:
    detail = f"{budgets.describe()}; this frame came when that was used up"
    return DeadLetter(code="too_costly", detail=detail, record=record)


def _unwanted(record: FrameRecord) -> DeadLetter:
    return DeadLetter(code="processing_failed", detail="dropped: the partition has gone", record=record)
