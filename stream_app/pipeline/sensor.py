"""What is wrong with the signal itself: a sensor that is dead or overdriven, whatever the machine does."""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream_app.pipeline.optional_kernels import find_kernels

SILENCE_DBFS: Final = -200.0
FLAT_PEAK_TO_PEAK: Final = 2.0**-20  # a sixteenth of a 16-bit step: nothing but rounding moves the signal
CLIP_LEVEL: Final = 0.999
CLIP_RUN: Final = 3  # equal samples in a row
CLIP_SHARE: Final = 0.001
_CLIPPED = np.float32(CLIP_LEVEL)


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """Return the root mean square over all channels, each channel's mean removed, in dB re full scale.

    Args:
        samples: float32 ``[channels, n]``, full scale ±1.

    Returns:
        At least -200 (digital silence); a full-scale sine has -3.01.
    """
    power = sum(map(_mean_square, samples)) / len(samples)
    return max(SILENCE_DBFS, 10 * math.log10(power)) if power > 0 else SILENCE_DBFS


def sensor_fault(samples: NDArray[np.float32]) -> Literal["flat", "clipped"] | None:
    """Return what is wrong with the worst channel, or None; flat comes before clipped.

    A channel is flat when its peak-to-peak value is at most 2**-20 of full scale. It is clipped when at least
    0.1 % of its samples sit in runs of three or more equal samples at or above 0.999 of full scale.

    Args:
        samples: float32 ``[channels, n]``, full scale ±1.
    """
    extremes = [(float(channel.min()), float(channel.max())) for channel in samples]
    if any(high - low <= FLAT_PEAK_TO_PEAK for low, high in extremes):
        return "flat"
    # Most signals never come near full scale, which the extremes tell at once.
    loud = [channel for channel, (low, high) in zip(samples, extremes, strict=True) if max(-low, high) >= _CLIPPED]
    return "clipped" if any(_is_clipped(channel) for channel in loud) else None


def _mean_square(channel: NDArray[np.float32]) -> float:
    """Return the mean square of a channel (float32 ``[n]``) without its mean, in double precision."""
    kernels = find_kernels()
    if kernels is not None and channel.flags.c_contiguous and channel.flags.writeable:
        return float(kernels.mean_square(channel))
    centred = channel.astype(np.float64)
    centred -= centred.mean()
    return float(np.einsum("n,n->", centred, centred)) / len(centred)


def _is_clipped(channel: NDArray[np.float32]) -> bool:
    """Whether enough of a channel's samples (float32 ``[n]``) sit in runs at full scale."""
    same = (channel[1:] == channel[:-1]) & (np.abs(channel[1:]) >= _CLIPPED)
    # A run of r equal samples shows as r - 1 true values in a row.
    edges = np.flatnonzero(np.diff(same, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2] + 1
    return bool(lengths[lengths >= CLIP_RUN].sum() >= CLIP_SHARE * len(channel))
