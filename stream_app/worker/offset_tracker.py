"""Which frames have been taken and are not answered yet: acknowledged in the order of their offsets, and how old."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from schemas.frame import FrameRecord

MAX_AHEAD = 10_000  # frames of a partition answered before one that is not: so many would come again after a crash


@dataclass(frozen=True, slots=True)
class FetchedFrame:
    """A frame taken from the topic.

    Attributes:
        record: The frame's record.
        generation: Generation of the consumer group in which it was fetched.
        ack: Marks it as done, so that its offset can be committed.
    """

    record: FrameRecord
    generation: int
    ack: Callable[[], object]


class _Entry(NamedTuple):
    """What is kept of a frame after its answer; its value is not."""

    taken_s: float
    ack: Callable[[], object]


@dataclass(slots=True)
class _Partition:
    generation: int
    upto: int = 0
    waiting: dict[int, _Entry] = field(default_factory=dict)
    answered: dict[int, _Entry] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)  # a heap; may name some that are in neither


class OffsetTracker:
    """Frames may be answered in any order; a partition's are acknowledged in the order of their offsets.

    A commit says "all before": acknowledging a frame while an earlier one waits would lose that one in a crash.

    Args:
        now_s: Monotonic clock, seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._partitions: dict[int, _Partition] = {}
        self._moved_s = now_s()

    def take(self, frames: Sequence[FetchedFrame]) -> None:
        """Take note of frames that are to be answered."""
        now_s = self._now_s()
        for taken in frames:
            number, offset = taken.record.partition, taken.record.offset
            partition = self._partitions.get(number)
            if partition is None or partition.generation < taken.generation:
                partition = self._partitions[number] = _Partition(taken.generation)
            if partition.generation == taken.generation:
                partition.waiting[offset] = _Entry(now_s, taken.ack)
                partition.answered.pop(offset, None)
                partition.upto = max(partition.upto, offset + 1)
                heappush(partition.offsets, offset)

    def answered(self, taken: FetchedFrame) -> int | None:
        """Note a frame's answer, acknowledge what can be; return the offset up to which that is, if it has moved."""
        self.moved()
        number, offset = taken.record.partition, taken.record.offset
        partition = self._partitions.get(number)
        if partition is None or partition.generation != taken.generation:
            return None  # its partition has gone since: it comes again
        entry = partition.waiting.pop(offset, None)
        if entry is None:
            return None  # it was taken twice
        partition.answered[offset] = entry
        return self._acknowledge(partition)

    def drop(self, taken: FetchedFrame) -> None:
        """Forget a frame that is not answered here: it comes again, here or elsewhere."""
        partition = self._partitions.get(taken.record.partition)
        if partition is not None and partition.generation == taken.generation:
            partition.waiting.pop(taken.record.offset, None)

    def clear(self) -> None:
        """Forget everything: partitions have gone."""
        self._partitions.clear()

    def moved(self) -> None:
        """Note that the worker gets on."""
        self._moved_s = self._now_s()

    def ahead(self, number: int) -> int:
        """Return how many frames of a partition are taken and not acknowledged."""
        partition = self._partitions.get(number)
        return 0 if partition is None else len(partition.waiting) + len(partition.answered)

    def taken_upto(self, number: int) -> int | None:
        """Return the offset after the last frame of a partition that was taken, where there was any."""
        partition = self._partitions.get(number)
        return None if partition is None else partition.upto

    def oldest_s(self) -> float:
        """Return for how many seconds the oldest frame has waited for its answer; 0 where none waits."""
        taken_s = [entry.taken_s for p in self._partitions.values() if (entry := _oldest(p)) is not None]
        return max(self._now_s() - min(taken_s), 0.0) if taken_s else 0.0

    def stuck_s(self) -> float:
        """Return for how many seconds frames have waited without any of them being answered; 0 where none waits.

        The oldest alone does not tell: a costly frame may wait long for its turn while all goes well.
        """
        return min(self.oldest_s(), self._now_s() - self._moved_s)

    def _acknowledge(self, partition: _Partition) -> int | None:
        upto = None
        while partition.offsets and partition.offsets[0] not in partition.waiting:
            offset = heappop(partition.offsets)
            entry = partition.answered.pop(offset, None)
            if entry is not None:
                entry.ack()
                upto = offset + 1
        return upto


def _oldest(partition: _Partition) -> _Entry | None:
    # The lowest offset was taken first, but for a partition that was gone back in.
    return next(iter(partition.waiting.values()), None)
