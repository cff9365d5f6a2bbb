"""All normals of a training, held-out ones too: windows, whole recordings, and the blocks that cross-fitting takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.dataset import HeldOutSet, TrainingSet
from trainer.graph import Float32, evaluated
from trainer.pooled.graphs import Pooling
from trainer.windows import MAX_WINDOWS, thinned

FOLDS: Final = 5  # blocks
LONGEST: Final = 10  # windows: longer recordings are cut into pieces of so many
ENOUGH: Final = 8  # recordings of several windows: fewer don't tell how recordings differ
SEVERAL: Final = 2.0  # windows of a recording in the mean, from which on it is worth judging as a whole
MAX_RECORDINGS: Final = 2_000
_AT_ONCE: Final = 32  # recordings in memory


@dataclass(frozen=True, slots=True)
class NormalRecording:
    """A recording, or a piece of one, of one to :data:`LONGEST` windows; it stays in its file until it is needed.

    Attributes:
        parts: Views float32 ``[channel, band, column]`` that follow each other.
        machine: Whose it is, None where nothing says.
        recording: Its name, '' where that is of no interest.
    """

    parts: tuple[Float32, ...]
    machine: str | None = None
    recording: str = ""

    @property
    def columns(self) -> int:
        """How many there are."""
        return sum(part.shape[2] for part in self.parts)

    def spectrogram(self) -> Float32:
        """Return float32 ``[channel, band, column]``."""
        return np.ascontiguousarray(np.concatenate(self.parts, axis=2))


@dataclass(frozen=True, slots=True)
class NormalSet:
    """All normals of a training.

    Attributes:
        recordings: In time order, those of the training set first.
        windows: float32 ``[window, channel, band, column]``, evenly thinned to :data:`~trainer.windows.MAX_WINDOWS`.
        owner: The number of each window's recording, int64 ``[window]``.
        blocks: Numbers of recordings, in up to five blocks in time order, the last of them the held-out ones.
        width: Columns of a window.
        pieces: Whether recordings were cut into pieces.
    """

    recordings: Sequence[NormalRecording]
    windows: Float32
    owner: NDArray[np.int64]
    blocks: Sequence[NDArray[np.int64]]
    width: int
    pieces: bool

    @property
    def mean_columns(self) -> float:
        """Columns of a recording in the mean."""
        return float(np.mean([one.columns for one in self.recordings]))

    @property
    def several(self) -> bool:
        """Whether recordings are long enough, and enough, to be judged as wholes too."""
        return len(self.recordings) >= ENOUGH and self.mean_columns >= SEVERAL * self.width

    @property
    def whole(self) -> NDArray[np.int64]:
        """The numbers of the recordings that are judged as wholes: all, evenly thinned to 2,000."""
        return thinned(np.arange(len(self.recordings)), MAX_RECORDINGS)

    def runs(self, scores: Float32) -> dict[str | None, list[NDArray[np.float64]]] | None:
        """Return the windows' scores per machine, one array a recording, in time order; None where some were left out.

        Args:
            scores: float32 ``[window]``.
        """
        if len(self.windows) == MAX_WINDOWS:  # successive ones of those that are left are farther apart
            return None
        found: dict[str | None, list[NDArray[np.float64]]] = {}
        for number, recording in enumerate(self.recordings):
            found.setdefault(recording.machine, []).append(scores[self.owner == number].astype(np.float64))
        return found

    def recordings_of_runs(self) -> dict[str | None, list[str]]:
        """Return the name of the recording behind each of :meth:`runs`."""
        found: dict[str | None, list[str]] = {}
        for recording in self.recordings:
            found.setdefault(recording.machine, []).append(recording.recording)
        return found

    def pooled(self, pool: Pooling) -> Float32:
        """Return the vectors of :attr:`whole` recordings, float32 ``[recording, entry]``."""
        return pooled([self.recordings[number] for number in self.whole], pool)


def pooled(recordings: Sequence[NormalRecording], pool: Pooling) -> Float32:
    """Return recordings' vectors, float32 ``[recording, entry]``; few at once are in memory."""
    of_length = [one.columns for one in recordings]
    order = np.argsort(of_length, kind="stable")
    found: list[Float32] = []
    for _, group in groupby(order, key=lambda place: of_length[place]):
        places = list(group)
        for at in range(0, len(places), _AT_ONCE):
            some = [recordings[place].spectrogram() for place in places[at : at + _AT_ONCE]]
            found.append(evaluated(pool, np.stack(some)))
    return np.concatenate(found)[np.argsort(order)]


def all_normals(train: TrainingSet, held_out: HeldOutSet) -> NormalSet:
    """Return the normals of a training set and the held-out ones that may be learnt."""
    known = _pieces(train)
    recordings = [*known, *_joined(held_out, train.width)]
    blocks = np.array_split(np.arange(len(known)), min(FOLDS - 1, len(known)))
    blocks.append(np.arange(len(known), len(recordings)))
    windows, owner = _windows(recordings, train.width)
    return NormalSet(recordings, windows, owner, blocks, train.width, len(known) > len(train.segments))


def _windows(recordings: Sequence[NormalRecording], width: int) -> tuple[Float32, NDArray[np.int64]]:
    places = [
        (number, start)
        for number, recording in enumerate(recordings)
        for start in range(0, recording.columns - width + 1, width)
    ]
    chosen = thinned(np.array(places), MAX_WINDOWS)
    found = []
    for number, group in groupby(chosen.tolist(), key=lambda place: place[0]):
        spectrogram = recordings[number].spectrogram()
        found += [spectrogram[:, :, start : start + width] for _, start in group]
    return np.stack(found), chosen[:, 0]


def _pieces(train: TrainingSet) -> list[NormalRecording]:
    """Return the training set's segments in equal pieces: long ones are cut, and few ones too, to make blocks of."""
    longest = LONGEST * train.width
    wanted = -(-(FOLDS - 1) // len(train.segments))
    found = []
    machines = train.machines or (None,) * len(train.segments)
    names = [place.recording for place in train.places] or [""] * len(train.segments)
    for machine, name, (first, columns) in zip(machines, names, train.segments, strict=True):
        pieces = max(-(-columns // longest), min(wanted, columns // train.width))
        length = columns // pieces
        found += [
            NormalRecording((train.columns[start : start + length].transpose(1, 2, 0),), machine, name)
            for start in range(first, first + pieces * length, length)
        ]
    return found


def _joined(held_out: HeldOutSet, width: int) -> list[NormalRecording]:
    """Return held-out frames of one recording and signal side by side, up to ten windows' length."""
    found: list[NormalRecording] = []
    learnt = (frame for frame in held_out.frames if frame.learnt)
    for (machine, name), group in groupby(learnt, key=lambda frame: (frame.machine, frame.recording)):
        frames = list(group)
        for signal in range(frames[0].signals):
            parts = [
                held_out.windows[index]
                for frame in frames
                for index in range(frame.first + signal * frame.windows, frame.first + (signal + 1) * frame.windows)
            ]
            each = max(1, LONGEST * width // parts[0].shape[2])
            some = range(0, len(parts), each)
            found += [NormalRecording(tuple(parts[at : at + each]), machine, name) for at in some]
    return found
