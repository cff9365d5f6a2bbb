"""Training windows as one array, and their blocks for cross-fitting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.dataset import TrainingSet
from trainer.windows import as_training_set, blocks, thinned, training_windows, window_machines


def training_set(*lengths: int, width: int = 4) -> TrainingSet:
    """Segments whose columns hold their own number."""
    columns = np.arange(sum(lengths), dtype=np.float32)[:, None, None] * np.ones((1, 1, 2), np.float32)
    starts = np.cumsum([0, *lengths[:-1]])
    return TrainingSet(columns, tuple(zip(starts.tolist(), lengths, strict=True)), width)


def test_windows_lie_side_by_side_within_segments():
    windows = training_windows(training_set(9, 5))
    assert windows.shape == (3, 1, 2, 4)
    assert windows[:, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [9, 10, 11, 12]]


def test_many_windows_are_thinned_evenly():
    assert training_windows(training_set(400), most=5)[:, 0, 0, 0].tolist() == [0, 100, 200, 296, 396]


@pytest.mark.parametrize("most", [100, 4])
def test_each_window_knows_whose_it_is(most: int):
    data = replace(training_set(9, 5, 12), machines=("a", None, "b"))
    first = training_windows(data, most)[:, 0, 0, 0]
    expected = ["a" if column < 9 else None if column < 14 else "b" for column in first]
    assert window_machines(data, most) == expected
    assert window_machines(training_set(9, 5), most) == [None] * 3


@pytest.mark.parametrize("lengths", [(8,) * 12, (60,), (30, 30), (8, 8, 8)])
def test_every_window_is_in_one_block_and_blocks_come_in_time_order(lengths: tuple[int, ...]):
    found = blocks(training_set(*lengths), 4)
    assert 2 <= len(found) <= 4
    columns = [block[:, 0, 0].ravel() for block in found]
    seen = np.concatenate(columns)
    assert (np.diff(seen) > 0).all()
    assert len(seen) >= 0.8 * sum(lengths)


def test_a_single_window_is_one_block():
    assert [block.shape for block in blocks(training_set(4), 4)] == [(1, 1, 2, 4)]


def test_windows_become_a_training_set_that_gives_the_same_windows():
    windows = training_windows(training_set(9, 5))
    np.testing.assert_array_equal(training_windows(as_training_set(windows)), windows)


def test_thinning_keeps_the_ends():
    assert thinned(np.arange(100, dtype=np.float32), 3).tolist() == [0, 50, 99]
    assert thinned(np.arange(2, dtype=np.float32), 3).tolist() == [0, 1]
