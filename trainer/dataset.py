"""Data sets: spectrograms in memory-mapped files, and the batches of windows drawn from them.

Training windows are drawn anew in each epoch, at random places of each recording's spectrogram. Held-out windows stay
the same, and are grouped into the frames that they make up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Float32 = NDArray[np.float32]

LOSS_WINDOWS = 2048  # held-out windows, at most, behind each epoch's held-out loss
_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Spectrograms to draw windows from.

    Attributes:
        columns: float32 [column, channel, band], memory-mapped: one recording after another.
        stretches: First column and number of columns of each uninterrupted stretch.
        width: Columns of a window.
    """

    columns: Float32
    stretches: tuple[tuple[int, int], ...]
    width: int

    def __len__(self) -> int:
        """Windows per epoch: as many as the stretches hold side by side."""
        return sum(count // self.width for _, count in self.stretches)

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation over time, each float64 [channel, band]."""
        total = np.zeros(self.columns.shape[1:])
        squares = np.zeros(self.columns.shape[1:])
        offset = self.columns[0].astype(np.float64)  # sums of small differences lose no digits
        for start in range(0, len(self.columns), _BLOCK):
            block = self.columns[start : start + _BLOCK] - offset
            total += block.sum(axis=0)
            squares += np.square(block).sum(axis=0)
        mean = total / len(self.columns)
        return mean + offset, np.sqrt(np.maximum(squares / len(self.columns) - mean**2, 0))


@dataclass(frozen=True, slots=True)
class HeldOutFrame:
    """One frame's place among the held-out windows: ``signals`` times ``windows`` of them from ``first`` on."""

    machine: str | None
    recording: str
    first: int
    signals: int
    windows: int


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """Held-out windows, float32 [window, channel, band, time], memory-mapped, and the frames they make up."""

    windows: Float32
    frames: tuple[HeldOutFrame, ...]

    def frame_scores(self, scores: NDArray[np.float32]) -> dict[str | None, list[NDArray[np.float64]]]:
        """Return the frames' scores per machine, one array a recording, in time order.

        A frame's score is the mean over its windows; of a one-channel model's signals the worst counts.

        Args:
            scores: The windows' scores, float32 [window].
        """
        runs: dict[str | None, dict[str, list[float]]] = {}
        for frame in self.frames:
            own = scores[frame.first : frame.first + frame.signals * frame.windows].astype(np.float64)
            score = float(own.reshape(frame.signals, frame.windows).mean(axis=1).max())
            runs.setdefault(frame.machine, {}).setdefault(frame.recording, []).append(score)
        return {machine: [np.array(run) for run in by_name.values()] for machine, by_name in runs.items()}


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
            for first, count in self._data.stretches
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
