"""Rolling means of the statistics: exponentially weighted by recording time, in constant space."""

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
