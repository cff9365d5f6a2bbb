"""Training windows as arrays: what detectors without epochs learn from, and the blocks that cross-fitting takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.dataset import TrainingSet

Float32 = NDArray[np.float32]

MAX_WINDOWS = 6_000
FOLDS = 5


def training_windows(data: TrainingSet, most: int = MAX_WINDOWS) -> Float32:
    """Return training windows side by side, float32 ``[window, channel, band, time]``, evenly thinned to ``most``."""
    starts = np.concatenate([first + data.width * np.arange(count // data.width) for first, count in data.segments])
    rows = thinned(starts, most)[:, np.newaxis] + np.arange(data.width)
    return np.ascontiguousarray(data.columns[rows].transpose(0, 2, 3, 1))


def window_machines(data: TrainingSet, most: int = MAX_WINDOWS) -> list[str | None]:
    """Return whose each window of :func:`training_windows` is, None where nothing says."""
    machines = data.machines or (None,) * len(data.segments)
    counts = [count // data.width for _, count in data.segments]
    of_windows = np.repeat(np.arange(len(machines)), counts)
    return [machines[index] for index in thinned(of_windows, most)]


def blocks(data: TrainingSet, count: int = FOLDS) -> list[Float32]:
    """Return the training data's windows in a few blocks in time order, each like :func:`training_windows`.

    Blocks are whole recordings where there are enough of them: neighbouring windows know too much of each other.

    Args:
        data: At least one window.
        count: Blocks, at most.
    """
    pieces = data.segments if len(data.segments) >= count else _cut(data, count)
    parts = np.array_split(np.arange(len(pieces)), min(count, len(pieces)))
    most = MAX_WINDOWS // count
    of_parts = (tuple(pieces[i] for i in part) for part in parts)
    return [training_windows(replace(data, segments=own, machines=()), most) for own in of_parts]


def as_training_set(windows: Float32) -> TrainingSet:
    """Return windows, float32 ``[window, channel, band, time]``, as a training set: each is a segment of its own."""
    count, channels, bands, width = windows.shape
    columns = np.ascontiguousarray(windows.transpose(0, 3, 1, 2)).reshape(-1, channels, bands)
    return TrainingSet(columns, tuple((index * width, width) for index in range(count)), width)


def thinned(windows: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most ``most`` windows, evenly chosen."""
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), most)).round().astype(np.int64)
    return np.asarray(windows[chosen])


def _cut(data: TrainingSet, count: int) -> tuple[tuple[int, int], ...]:
    """Return segments cut into about ``count`` pieces each, none shorter than a window."""
    pieces = []
    for first, columns in data.segments:
        length = data.width * max(1, columns // (count * data.width))
        starts = range(first, first + columns - length + 1, length)
        pieces += [(start, length) for start in starts]
    return tuple(pieces)
