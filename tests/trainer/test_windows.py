"""Training windows as one array."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.dataset import TrainingSet
from trainer.windows import as_training_set, thinned, training_windows, window_machines


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


def test_windows_become_a_training_set_that_gives_the_same_windows():
    windows = training_windows(training_set(9, 5))
    np.testing.assert_array_equal(training_windows(as_training_set(windows)), windows)


def test_thinning_keeps_the_ends():
    assert thinned(np.arange(100, dtype=np.float32), 3).tolist() == [0, 50, 99]
    assert thinned(np.arange(2, dtype=np.float32), 3).tolist() == [0, 1]
