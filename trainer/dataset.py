"""Data sets: spectrograms in memory-mapped files; held-out windows are grouped into the frames that they make up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.condition import UNKNOWN, Condition
from schemas.model_metadata import FrameScore
from stream_app.pipeline.frame_score import frame_scores
from stream_app.pipeline.model import as_array

Float32 = NDArray[np.float32]

_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment was cut from: a recording's name, and the second of it that the segment begins at."""

    recording: str
    start_s: float


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Spectrograms to draw windows from.

    Attributes:
        columns: float32 [column, channel, band], memory-mapped: one recording after another.
        segments: First column and number of columns of each uninterrupted segment.
        width: Columns of a window.
        machines: Whose each segment is, None where nothing says; empty where it is of no interest.
        conditions: How the machine ran in each; empty likewise.
        places: Where each segment is from; empty where it is of no interest.
    """

    columns: Float32
    segments: tuple[tuple[int, int], ...]
    width: int
    machines: tuple[str | None, ...] = ()
    conditions: tuple[Condition, ...] = ()
    places: tuple[Place, ...] = ()

    def __len__(self) -> int:
        """Windows per epoch: as many as the segments hold side by side."""
        return sum(count // self.width for _, count in self.segments)

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
    """One frame's place among the held-out windows: ``signals`` times ``windows`` of them from ``first`` on.

    Attributes:
        start_s: Where it begins in its recording.
        learnt: Whether a detector that is fitted on held-out normals too may be fitted on it.
    """

    machine: str | None
    recording: str
    first: int
    signals: int
    windows: int
    condition: Condition = UNKNOWN
    start_s: float = 0.0
    learnt: bool = True

    def score(self, scores: NDArray[np.float32], how: FrameScore = "mean") -> float:
        """Return the frame's score of all held-out windows' scores, float32 [window]: the worst signal's."""
        own = scores[self.first : self.first + self.signals * self.windows]
        return float(frame_scores(own.reshape(self.signals, self.windows), how).max())


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """Held-out windows, float32 [window, channel, band, time], memory-mapped, and the frames they make up.

    Attributes:
        frame_score: What a frame's score is of its windows'.
    """

    windows: Float32
    frames: tuple[HeldOutFrame, ...]
    frame_score: FrameScore = "mean"

    @property
    def conditions(self) -> Float32:
        """How the machine ran in each window, float32 [window, condition], NaN for what isn't known."""
        found = np.full((len(self.windows), len(UNKNOWN)), np.nan, np.float32)
        for frame in self.frames:
            found[frame.first : frame.first + frame.signals * frame.windows] = as_array([frame.condition])
        return found

    def frame_scores(self, scores: NDArray[np.float32]) -> dict[str | None, list[NDArray[np.float64]]]:
        """Return the frames' scores per machine, one array a recording, in time order.

        Args:
            scores: The windows' scores, float32 [window].
        """
        runs: dict[str | None, dict[str, list[float]]] = {}
        for frame in self.frames:
            runs.setdefault(frame.machine, {}).setdefault(frame.recording, []).append(
                frame.score(scores, self.frame_score)
            )
        return {machine: [np.array(run) for run in by_name.values()] for machine, by_name in runs.items()}
