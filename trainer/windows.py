"""Training windows as arrays: what detectors without epochs learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.dataset import TrainingSet

Float32 = NDArray[np.float32]

MAX_WINDOWS = 6_000


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


def as_training_set(windows: Float32) -> TrainingSet:
    """Return windows, float32 ``[window, channel, band, time]``, as a training set: each is a segment of its own."""
    count, channels, bands, width = windows.shape
    columns = np.ascontiguousarray(windows.transpose(0, 3, 1, 2)).reshape(-1, channels, bands)
    return TrainingSet(columns, tuple((index * width, width) for index in range(count)), width)


def thinned(windows: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most ``most`` windows, evenly chosen."""
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), most)).round().astype(np.int64)
    return np.asarray(windows[chosen])
