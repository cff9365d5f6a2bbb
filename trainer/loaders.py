"""Batches of windows for detectors that are trained by gradient.

Training windows are drawn anew in each epoch, at random places of each recording's spectrogram. Held-out windows stay
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np
import torch
from torch import Tensor

from trainer.dataset import HeldOutSet, TrainingSet

LOSS_WINDOWS = 2048  # held-out windows, at most, behind each epoch's held-out loss


class WindowLoader:
    """Batches of training windows, [window, channel, band, time]; places and order depend on seed and epoch alone.

    Attributes:
        epoch: The next one to be drawn, from 0.
    """

    def __init__(self, data: TrainingSet, batch: int, seed: int) -> None:
        self._data = data
        self._batch = batch
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """Batches per epoch."""
        return ceil(len(self._data) / self._batch)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw one epoch's windows."""
        rng = np.random.default_rng([self._seed, self.epoch])
        self.epoch += 1
        width = self._data.width
        drawn = [
            first + rng.integers(0, count - width, size=count // width, endpoint=True)
            for first, count in self._data.segments
        ]
        starts = rng.permutation(np.concatenate(drawn))
        for at in range(0, len(starts), self._batch):
            rows = starts[at : at + self._batch, np.newaxis] + np.arange(width)
            yield torch.from_numpy(np.ascontiguousarray(self._data.columns[rows].transpose(0, 2, 3, 1)))


class HeldOutLoader:
    """Batches of held-out windows, the same ones in each epoch, evenly chosen where there are very many."""

    def __init__(self, data: HeldOutSet, batch: int = 128) -> None:
        count = min(len(data.windows), LOSS_WINDOWS)
        self._windows = data.windows
        self._chosen = np.linspace(0, len(data.windows) - 1, count).round().astype(np.int64)
        self._batch = batch

    def __len__(self) -> int:
        """Batches."""
        return ceil(len(self._chosen) / self._batch)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the batches."""
        for at in range(0, len(self._chosen), self._batch):
            yield torch.from_numpy(np.ascontiguousarray(self._windows[self._chosen[at : at + self._batch]]))
