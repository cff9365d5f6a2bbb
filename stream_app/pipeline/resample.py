"""Another sample rate."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from whirr.errors import FrameRejected


def resample(
    samples: NDArray[np.float32], from_hz: int, to_hz: int, max_samples: int | None = None
) -> NDArray[np.float32]:
    """Return ``samples`` at another rate (soxr, quality HQ); the same array where the rates are equal.

    Args:
        samples: float32 ``[channels, n]``.
        from_hz: Rate before.
        to_hz: Rate after.
        max_samples: Most samples over all channels that the result may have; None for any number. A slow frame
            of many channels would otherwise grow a thousandfold under a fast model.

    Returns:
        float32 ``[channels, n * to_hz / from_hz]``, C order.

    Raises:
        FrameRejected: ``too_many_samples``.
    """
    if from_hz == to_hz:
        return samples
    expected = samples.size * to_hz // from_hz
    if max_samples is not None and expected > max_samples:
        raise FrameRejected(
            "too_many_samples", f"{expected} samples at the model's {to_hz} Hz; at most {max_samples} are taken"
        )
    return np.ascontiguousarray(soxr.resample(samples.T, from_hz, to_hz, quality="HQ").T, dtype=np.float32)
