"""Training windows as one array: what detectors without epochs learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainer.dataset import TrainingSet

Float32 = NDArray[np.float32]

MAX_WINDOWS = 6_000
FOLDS = 5


def training_windows(data: TrainingSet, most: int = MAX_WINDOWS) -> Float32:
    """Return training windows side by side, float32 ``[window, channel, band, time]``, evenly thinned to ``most``."""
    starts = np.concatenate([first + data.width * np.arange(count // data.width) for first, count in data.stretches])
    if len(starts) > most:
        starts = starts[np.linspace(0, len(starts) - 1, most).round().astype(np.int64)]
    rows = starts[:, np.newaxis] + np.arange(data.width)
    return np.ascontiguousarray(data.columns[rows].transpose(0, 2, 3, 1))


def folds(data: TrainingSet, count: int = FOLDS) -> Iterator[tuple[TrainingSet, Float32]]:
    """Yield, for each of a few parts of the training data in time order, the other parts, and the part's own windows.

    Parts are whole recordings where there are enough of them: neighbouring windows know too much of each other.

    Args:
        data: At least two windows.
        count: Parts, at most.
    """
    pieces = data.stretches if len(data.stretches) >= count else _cut(data, count)
    blocks = np.array_split(np.arange(len(pieces)), min(count, len(pieces)))
    for block in blocks:
        own = tuple(pieces[index] for index in block)
        others = tuple(piece for index, piece in enumerate(pieces) if index not in set(block.tolist()))
        if others:
            yield replace(data, stretches=others), training_windows(replace(data, stretches=own))


def _cut(data: TrainingSet, count: int) -> tuple[tuple[int, int], ...]:
    """Return stretches cut into about ``count`` pieces each, none shorter than a window."""
    pieces = []
    for first, columns in data.stretches:
        length = data.width * max(1, columns // (count * data.width))
        starts = range(first, first + columns - length + 1, length)
        pieces += [(start, length) for start in starts]
    return tuple(pieces)
