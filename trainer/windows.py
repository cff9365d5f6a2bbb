"""Training windows as one array: what detectors without epochs learn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.dataset import TrainingSet

Float32 = NDArray[np.float32]

MAX_WINDOWS = 6_000


def training_windows(data: TrainingSet, most: int = MAX_WINDOWS) -> Float32:
    """Return training windows side by side, float32 ``[window, channel, band, time]``, evenly thinned to ``most``."""
    starts = np.concatenate([first + data.width * np.arange(count // data.width) for first, count in data.stretches])
    if len(starts) > most:
        starts = starts[np.linspace(0, len(starts) - 1, most).round().astype(np.int64)]
    rows = starts[:, np.newaxis] + np.arange(data.width)
    return np.ascontiguousarray(data.columns[rows].transpose(0, 2, 3, 1))
