"""What a stream remembers of an incident's frames: enough to tell later whether a frame is like them.

A frame is **like** an incident if its excess lies in the same bands, and it is not much louder. The bands are
compared by the cosine between the frame's shares of 16 groups of bands and the mean shares of the incident's frames.
How alike the incident's own frames are, differs: of a clear tone all are the same, of a weak shift each looks
different.
So a frame must be as like the mean as those are in the mean, less a little.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.pipeline.cusum import GROUPS

MOST_REMEMBERED: Final = 6
MARGIN: Final = 0.03  # a frame may be so much less like the mean than the incident's own frames are
FEW: Final = 0.1  # and of few frames, whose mean is their own, so much divided by their number
LOUDER: Final = 1.25  # times the incident's highest ratio

_MEMORY = 64  # frames that means are taken over
_MOST_FRAMES = 0xFFFF
_NO_SHARES = np.zeros(GROUPS, np.float16)

Shares = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class RememberedIncident:
    """Frames of one incident, in constant space; or those that may become one's.

    Attributes:
        incident_id: Its id; '' before it began.
        peak: The highest ratio of score to alert threshold, as a float32.
        cohesion: The mean cosine between its frames' shares and their mean, as a float32.
        frames: So many, at most 65,535.
        first_us, last_us: Recording times of the first and the last of them.
        shares: Their mean shares of groups of bands, float16 ``[16]``; see :func:`~stream_app.pipeline.cusum.grouped`.
    """

    incident_id: str = ""
    peak: float = 0.0
    cohesion: float = 0.0
    frames: int = 0
    first_us: int = 0
    last_us: int = 0
    shares: NDArray[np.float16] = field(default_factory=lambda: _NO_SHARES)

    def with_frame(self, ratio: float, shares: Shares, recorded_us: int) -> RememberedIncident:
        """Return the memory with one more frame."""
        frames = min(self.frames + 1, _MOST_FRAMES)
        weight = min(frames, _MEMORY)
        # Rounded to what the state holds, so that all is the same after it was read again.
        mean = (self.shares + (shares - self.shares) / weight).astype(np.float16)
        return RememberedIncident(
            incident_id=self.incident_id,
            peak=_float32(max(self.peak, ratio)),
            cohesion=_float32(self.cohesion + (_cosine(shares, mean) - self.cohesion) / weight),
            frames=frames,
            first_us=self.first_us if self.frames else recorded_us,
            last_us=recorded_us,
            shares=mean,
        )

    def is_like(self, ratio: float, shares: Shares) -> bool:
        """Whether a frame is like the incident's.

        Args:
            ratio: The frame's score divided by the alert threshold.
            shares: Of groups of bands in its excess, ``[16]``.
        """
        if not self.frames or ratio > LOUDER * self.peak:
            return False
        return _cosine(shares, self.shares) >= self.cohesion - MARGIN - FEW / self.frames

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RememberedIncident):
            return NotImplemented
        return self._numbers == other._numbers and bool(np.array_equal(self.shares, other.shares))

    __hash__ = None  # type: ignore[assignment]  # holds an array

    @property
    def _numbers(self) -> tuple[str, float, float, int, int, int]:
        return self.incident_id, self.peak, self.cohesion, self.frames, self.first_us, self.last_us


def _float32(value: float) -> float:
    return float(np.float32(value))


def _cosine(one: Shares, other: Shares) -> float:
    """Return the cosine between two vectors; 0 if either is nothing."""
    wide, too = one.astype(np.float64), other.astype(np.float64)
    length = float(np.sqrt((wide @ wide) * (too @ too)))
    return float(wide @ too) / length if length else 0.0
