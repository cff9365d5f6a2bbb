"""Training windows as one array, and their parts for cross-fitting."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.dataset import TrainingSet
from trainer.windows import folds, training_windows


def training_set(*lengths: int, width: int = 4) -> TrainingSet:
    """Stretches whose columns hold their own number."""
    columns = np.arange(sum(lengths), dtype=np.float32)[:, None, None] * np.ones((1, 1, 2), np.float32)
    starts = np.cumsum([0, *lengths[:-1]])
    return TrainingSet(columns, tuple(zip(starts.tolist(), lengths, strict=True)), width)


def test_windows_lie_side_by_side_within_stretches():
    windows = training_windows(training_set(9, 5))
    assert windows.shape == (3, 1, 2, 4)
    assert windows[:, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [9, 10, 11, 12]]


def test_many_windows_are_thinned_evenly():
    assert training_windows(training_set(400), most=5)[:, 0, 0, 0].tolist() == [0, 100, 200, 296, 396]


@pytest.mark.parametrize("lengths", [(8,) * 12, (60,), (30, 30), (8, 8, 8)])
def test_every_window_is_in_one_part_and_the_other_parts_lack_it(lengths: tuple[int, ...]):
    data = training_set(*lengths)
    parts = list(folds(data))
    assert 2 <= len(parts) <= 5
    seen: set[float] = set()
    for others, windows in parts:
        own = set(windows[:, 0, 0].ravel().tolist())
        assert own
        assert not own & seen
        assert not own & set(training_windows(others)[:, 0, 0].ravel().tolist())
        seen |= own
    assert len(seen) >= 0.8 * sum(lengths)


def test_a_single_window_has_no_parts():
    assert list(folds(training_set(4))) == []
