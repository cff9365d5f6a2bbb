"""Frames may be answered in any order; they are acknowledged in that of their offsets."""

from __future__ import annotations

from random import Random

from schemas import FrameRecord
from stream_app.worker.offset_tracker import FetchedFrame, OffsetTracker


class Partition:
    """Frames of a partition, and what was acknowledged."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.offsets = OffsetTracker(lambda: self.now_s)
        self.offsets.acknowledge = lambda partition, upto, frames: self.acked.append((partition, upto, frames))
        self.acked: list[tuple[int, int, int]] = []

    def take(self, *offsets: int, generation: int = 1, partition: int = 0) -> list[FetchedFrame]:
        frames = [self.frame(offset, generation, partition) for offset in offsets]
        self.offsets.take(frames)
        return frames

    def frame(self, offset: int, generation: int = 1, partition: int = 0) -> FetchedFrame:
        record = FrameRecord(b"pump-1", b"", offset=offset, partition=partition)
        return FetchedFrame(record, generation, 0)

    @property
    def upto(self) -> int | None:
        """The offset up to which all was acknowledged last."""
        return self.acked[-1][1] if self.acked else None


def test_a_frame_is_acknowledged_when_all_before_it_are() -> None:
    made = Partition()
    first, second, third = made.take(4, 5, 8)  # compaction leaves gaps
    assert made.offsets.answered([third]) == {}
    assert made.offsets.answered([second]) == {}
    assert made.acked == []
    assert made.offsets.answered([first]) == {0: 9}
    assert made.acked == [(0, 9, 3)]


def test_frames_that_are_answered_together_are_acknowledged_at_once() -> None:
    made = Partition()
    frames = [*made.take(0, 1, 2, 3), *made.take(7, 8, partition=1)]
    assert made.offsets.answered([frames[5], frames[1], frames[0], frames[4], frames[3]]) == {0: 2, 1: 9}
    assert sorted(made.acked) == [(0, 2, 2), (1, 9, 2)]


def test_any_order_acknowledges_each_once_and_in_order() -> None:
    for seed in range(50):
        made = Partition()
        frames = made.take(*range(40))
        waiting = set(range(40))
        Random(seed).shuffle(frames)
        for taken in frames:
            waiting.discard(taken.record.offset)
            made.offsets.answered([taken])
            assert (made.upto or 0) == min(waiting, default=40)
        assert sum(frames for _, _, frames in made.acked) == 40


def test_partitions_do_not_wait_for_each_other() -> None:
    made = Partition()
    made.take(1)
    (other,) = made.take(7, partition=1)
    assert made.offsets.answered([other]) == {1: 8}


def test_a_frame_that_is_dropped_keeps_nobody_waiting() -> None:
    made = Partition()
    first, second = made.take(1, 2)
    made.offsets.drop(first)
    assert made.offsets.answered([second]) == {0: 3}
    assert made.acked == [(0, 3, 1)]


def test_an_answer_from_before_a_rebalance_acknowledges_nothing() -> None:
    made = Partition()
    old = made.take(5, 6)
    new = made.take(5, 6, generation=2)
    assert made.offsets.answered(old) == {}
    made.offsets.drop(old[0])
    assert made.acked == []
    made.offsets.answered([new[0]])
    assert made.acked == [(0, 6, 1)]


def test_what_was_forgotten_is_never_acknowledged() -> None:
    """Its partition has gone, and frames before it may be unanswered."""
    made = Partition()
    _, second = made.take(1, 2)
    made.offsets.clear()
    assert made.offsets.answered([second]) == {}
    assert made.acked == []


def test_a_frame_taken_twice_counts_once() -> None:
    made = Partition()
    made.take(1)
    first, second = *made.take(1), *made.take(2)
    made.offsets.answered([first])
    made.offsets.answered([first])
    made.offsets.answered([second])
    assert made.acked == [(0, 2, 1), (0, 3, 1)]


def test_the_age_is_that_of_the_oldest_unanswered_frame() -> None:
    made = Partition()
    assert made.offsets.oldest_s() == 0
    (first,) = made.take(1)
    made.now_s += 5
    (second,) = made.take(9, partition=1)
    made.now_s += 2
    assert made.offsets.oldest_s() == 7
    made.offsets.answered([first])
    assert made.offsets.oldest_s() == 2
    made.offsets.answered([second])
    made.now_s += 50
    assert made.offsets.oldest_s() == 0


def test_a_frame_that_waits_its_turn_while_others_are_answered_is_not_stuck() -> None:
    made = Partition()
    made.take(0)
    for offset in range(1, 100):
        (taken,) = made.take(offset)
        made.now_s += 1
        made.offsets.answered([taken])
        assert made.offsets.stuck_s() <= 1
    assert made.offsets.oldest_s() == 99
    made.now_s += 30
    assert made.offsets.stuck_s() == 30
    assert made.offsets.ahead(0) == 100
