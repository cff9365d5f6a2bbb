"""Rolling means of statistics and scores: exponentially weighted by recording time, in constant space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF_LIFE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class RollingMean:
    """A weighted sum of frames' statistics and the sum of the weights.

    A frame recorded a half-life before the newest one weighs half as much. Dividing by the sum of the weights keeps
    the mean unbiased from the first frame on.

    Attributes:
        weight: Sum of the weights, 0 before the first frame.
        sums: float64 [13], weighted sums of the statistics.
    """

    weight: float
    sums: NDArray[np.float64]

    def updated(self, statistics: NDArray[np.float64], elapsed_us: int) -> RollingMean:
        """Return the mean after one more frame.

        Args:
            statistics: float64 [13], of the frame.
            elapsed_us: Recording time since the frame before, microseconds, at least 0.
        """
        decay = 0.5 ** (elapsed_us / HALF_LIFE_US)
        return RollingMean(self.weight * decay + 1.0, self.sums * decay + statistics)

    @property
    def mean(self) -> NDArray[np.float64]:
        """float64 [13]; zeros before the first frame."""
        return self.sums / self.weight if self.weight else self.sums


@dataclass(frozen=True, slots=True)
class RollingScore:
    """Rolling mean and maximum of the scores that count: those of frames that were not idle.

    It keeps its own time, since idle frames lie between; while none counts, it stays as it was.

    Attributes:
        newest_us: Recording time of the newest score; without meaning before the first.
        weight: Sum of the weights, 0 before the first score.
        total: Weighted sum of the scores.
        peak: The highest score, where one from a half-life ago counts half.
    """

    newest_us: int = 0
    weight: float = 0.0
    total: float = 0.0
    peak: float = 0.0

    def updated(self, score: float, recorded_us: int) -> RollingScore:
        """Return mean and maximum after one more score, recorded later than the one before."""
        decay = 0.5 ** ((recorded_us - self.newest_us) / HALF_LIFE_US) if self.weight else 0.0
        peak = max(score, self.peak * decay)
        return RollingScore(recorded_us, self.weight * decay + 1.0, self.total * decay + score, peak)

    @property
    def mean(self) -> float:
        """The mean; 0 before the first score."""
        return self.total / self.weight if self.weight else 0.0
