"""The course of a stream: its scored frames in order of time, with what is known about the machine's health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NORMAL: Final = 0
ANOMALY: Final = 1
UNKNOWN: Final = -1
# A frame stands for the time until the next one, but no longer than this: a night without recordings is no watch.
MOST_WATCHED_S: Final = 60.0
MOST_WATCHED_FRAMES: Final = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What happened on one stream, as the alert rule sees it.

    Frames that move no alert state (late, idle, flat) are left out.

    Attributes:
        machine: Whose stream it is.
        source: Which of its sensors; '' for none.
        start_s: When each frame began, seconds since the epoch, ascending; float64 [n].
        duration_s: How long it is; float64 [n].
        ratio: Its score divided by the threshold it was held against; float64 [n].
        label: ``NORMAL``, ``ANOMALY`` or ``UNKNOWN``; int8 [n].
    """

    machine: str
    source: str
    start_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    ratio: NDArray[np.float64]
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ratio)

    @property
    def end_s(self) -> NDArray[np.float64]:
        """When each frame ended, seconds since the epoch; float64 [n]."""
        return self.start_s + self.duration_s

    def faults(self) -> list[Fault]:
        """Return the stretches of frames that are labelled as anomalous."""
        edges = np.flatnonzero(np.diff(self.label == ANOMALY, prepend=False, append=False))
        return [Fault(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]

    def watched_s(self) -> float:
        """Return for how many seconds the machine was watched while nothing is known to be wrong with it."""
        if not len(self):
            return 0.0
        gaps = np.append(np.diff(self.start_s), self.duration_s[-1])
        longest = np.maximum(MOST_WATCHED_S, MOST_WATCHED_FRAMES * self.duration_s)
        return float(np.minimum(gaps, longest)[self.label != ANOMALY].sum())


@dataclass(frozen=True, slots=True)
class Fault:
    """A stretch of anomalous frames: the indices of its first and its last."""

    first: int
    last: int


def labelled(courses: Sequence[Course]) -> bool:
    """Return whether anything at all is known about the machines' health."""
    return any((course.label != UNKNOWN).any() for course in courses)


def total(courses: Sequence[Course]) -> int:
    """Return the frames of all courses."""
    return sum(map(len, courses))
