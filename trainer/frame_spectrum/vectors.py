"""Normals as pooled vectors, at two lengths: of windows, and of recordings of several windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from trainer.dataset import HeldOutSet, TrainingSet
from trainer.graph import Float32, evaluated
from trainer.pooled.graphs import Pooling
from trainer.windows import FOLDS, MAX_WINDOWS

LONGEST = 10  # windows: longer recordings are cut into pieces of so many
ENOUGH = 8  # recordings of several windows: fewer don't tell how recordings differ
SEVERAL = 2.0  # windows of a recording in the mean, from which on it is worth to be judged as a whole


@dataclass(frozen=True, slots=True)
class Lengths:
    """The normals' spectrograms, and those cut into windows.

    Attributes:
        recordings: float32 ``[channel, band, column]``, of one to :data:`LONGEST` windows, in time order.
        windows: float32 ``[window, channel, band, column]``.
        owner: Each window's recording, int64 ``[window]``.
        width: Columns of a window.
    """

    recordings: Sequence[Float32]
    windows: Float32
    owner: np.ndarray
    width: int

    @property
    def mean_columns(self) -> float:
        """Columns of a recording in the mean."""
        return float(np.mean([one.shape[2] for one in self.recordings]))

    @property
    def several(self) -> bool:
        """Whether recordings are long enough, and enough, to be judged as wholes too."""
        return len(self.recordings) >= ENOUGH and self.mean_columns >= SEVERAL * self.width

    def of_recordings(self, pool: Pooling) -> Float32:
        """Return each recording's vector, float32 ``[recording, entry]``."""
        found: list[Float32] = []
        by_length = sorted(range(len(self.recordings)), key=lambda i: self.recordings[i].shape[2])
        for _, group in groupby(by_length, key=lambda i: self.recordings[i].shape[2]):
            found += [evaluated(pool, np.stack([self.recordings[i] for i in group]))]
        return np.concatenate(found)[np.argsort(by_length)]


def folds(known: int, all_normals: int) -> list[Sequence[int]]:
    """Return blocks of recordings in time order, the last of them those from ``known`` on."""
    parts = np.array_split(np.arange(known), min(FOLDS - 1, known))
    return [*(list(part) for part in parts), list(range(known, all_normals))]


def lengths(train: TrainingSet, held_out: HeldOutSet | None = None) -> Lengths:
    """Return the normals of a training set, followed by held-out ones."""
    recordings = _pieces(train)
    if held_out is not None:
        recordings += _joined(held_out, train.width)
    width = train.width
    cut = [(one, start) for one in range(len(recordings)) for start in _starts(recordings[one].shape[2], width)]
    if len(cut) > MAX_WINDOWS:
        cut = [cut[i] for i in np.linspace(0, len(cut) - 1, MAX_WINDOWS).round().astype(np.int64)]
    windows = np.stack([recordings[one][:, :, start : start + width] for one, start in cut])
    return Lengths(recordings, windows, np.array([one for one, _ in cut]), width)


def _starts(columns: int, width: int) -> range:
    return range(0, columns - width + 1, width)


def _pieces(train: TrainingSet) -> list[Float32]:
    """Return each segment's spectrogram, long ones cut into pieces of equal length."""
    longest = LONGEST * train.width
    found = []
    for first, columns in train.segments:
        pieces = -(-columns // longest)
        length = columns // pieces
        found += [
            np.ascontiguousarray(train.columns[start : start + length].transpose(1, 2, 0))
            for start in range(first, first + pieces * length, length)
        ]
    return found


def _joined(held_out: HeldOutSet, width: int) -> list[Float32]:
    """Return held-out frames of one recording and signal side by side, up to ten windows' length."""
    found: list[Float32] = []
    for _, group in groupby(held_out.frames, key=lambda frame: (frame.machine, frame.recording)):
        frames = list(group)
        for signal in range(frames[0].signals):
            parts = [
                held_out.windows[index]
                for frame in frames
                for index in range(frame.first + signal * frame.windows, frame.first + (signal + 1) * frame.windows)
            ]
            each = max(1, LONGEST * width // parts[0].shape[2])
            found += [np.concatenate(parts[at : at + each], axis=2) for at in range(0, len(parts), each)]
    return found
