"""Which frames have been taken and are not answered yet: acknowledged in the order of their offsets, and how old."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from schemas.frame import FrameRecord

MAX_AHEAD = 10_000  # frames of a partition answered before one that is not: so many would come again after a crash


class FetchedFrame(NamedTuple):
    """A frame taken from the topic.

    Attributes:
        record: The frame's record.
        generation: Generation of the consumer group in which it was fetched.
        size: Bytes that it takes.
    """

    record: FrameRecord
    generation: int
    size: int


@dataclass(slots=True)
class _Partition:
    generation: int
    upto: int = 0
    waiting: dict[int, float] = field(default_factory=dict)  # by offset, when each was taken
    answered: set[int] = field(default_factory=set)
    offsets: list[int] = field(default_factory=list)  # a heap; may name some that are in neither


class OffsetTracker:
    """Frames may be answered in any order; a partition's are acknowledged in the order of their offsets.

    A commit says "all before": acknowledging a frame while an earlier one waits would lose that one in a crash.

    Args:
        now_s: Monotonic clock, seconds.

    Attributes:
        acknowledge: Called with a partition, the offset before which all its frames are answered, and how many of
            them are so since the last call.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.acknowledge: Callable[[int, int, int], object] = lambda _partition, _upto, _frames: None
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
                partition.waiting[offset] = now_s
                partition.answered.discard(offset)
                partition.upto = max(partition.upto, offset + 1)
                heappush(partition.offsets, offset)

    def answered(self, frames: Sequence[FetchedFrame]) -> dict[int, int]:
        """Note frames' answers and acknowledge what can be.

        Returns:
            By partition, the offset before which all is answered, where it has moved.
        """
        self.moved()
        touched: dict[int, _Partition] = {}
        for taken in frames:
            number, offset = taken.record.partition, taken.record.offset
            partition = self._partitions.get(number)
            if partition is None or partition.generation != taken.generation:
                continue  # its partition has gone since: it comes again
            if partition.waiting.pop(offset, None) is not None:  # else it was taken twice
                partition.answered.add(offset)
                touched[number] = partition
        moved = {number: self._acknowledge(number, partition) for number, partition in touched.items()}
        return {number: upto for number, upto in moved.items() if upto is not None}

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
        oldest = (_oldest_s(partition) for partition in self._partitions.values())
        taken_s = [one for one in oldest if one is not None]
        return max(self._now_s() - min(taken_s), 0.0) if taken_s else 0.0

    def stuck_s(self) -> float:
        """Return for how many seconds frames have waited without any of them being answered; 0 where none waits.

        The oldest alone does not tell: a costly frame may wait long for its turn while all goes well.
        """
        return min(self.oldest_s(), self._now_s() - self._moved_s)

    def _acknowledge(self, number: int, partition: _Partition) -> int | None:
        upto, frames = None, 0
        while partition.offsets and partition.offsets[0] not in partition.waiting:
            offset = heappop(partition.offsets)
            if offset in partition.answered:
                partition.answered.discard(offset)
                upto = offset + 1
                frames += 1
        if upto is not None:
            self.acknowledge(number, upto, frames)
        return upto


def _oldest_s(partition: _Partition) -> float | None:
    # The lowest offset was taken first, but for a partition that was gone back in.
    return next(iter(partition.waiting.values()), None)
