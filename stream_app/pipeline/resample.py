"""Another sample rate."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Return ``samples`` at another rate (soxr, quality HQ); the same array where the rates are equal.

    Args:
        samples: float32 ``[channels, n]``.
        from_hz: Rate before.
        to_hz: Rate after.

    Returns:
        float32 ``[channels, n * to_hz / from_hz]``, C order.
    """
    if from_hz == to_hz:
        return samples
    return np.ascontiguousarray(soxr.resample(samples.T, from_hz, to_hz, quality="HQ").T, dtype=np.float32)
