"""Samples: the kinds of number that they come in, and a decoded signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

SampleKind = Literal["pcm16", "pcm24", "pcm32", "float32"]
SAMPLE_KINDS: tuple[SampleKind, ...] = get_args(SampleKind)
# Floats beyond this are cut to it: their squares, summed over bins and bands, still fit in float32.
SAMPLE_LIMIT: Final = np.float32(1e12)

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A decoded signal.

    Attributes:
        samples: float32 ``[channels, n]``, C order, full scale ±1; read only for callers.
        rate_hz: Samples per second and channel.
    """

    samples: Float32
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.samples.shape[-1] / self.rate_hz)


def as_float(samples: NDArray[Any], kind: SampleKind) -> Float32:
    """Return samples of a kind as float32, full scale ±1, C order.

    Args:
        samples: ``[channels, n]``; int16 for ``pcm16``, int32 with 24 bit shifted to the top for ``pcm24``, int32 for
            ``pcm32``, float32 for itself.
        kind: Which of them.
    """
    floats: Float32 = samples.astype(np.float32, order="C")
    if kind != "float32":
        floats *= np.float32(2.0**-15 if kind == "pcm16" else 2.0**-31)
    return floats


def limited(samples: Float32) -> Float32:
    """Cut float samples to ±:data:`SAMPLE_LIMIT` in place, and return them; no sensor means such values."""
    return np.clip(samples, -SAMPLE_LIMIT, SAMPLE_LIMIT, out=samples)


def first_not_finite(samples: Float32) -> str | None:
    """Say where the first NaN or infinity of ``[channels, n]`` is; None where all are finite."""
    finite = np.isfinite(samples)
    if finite.all():
        return None
    channel, index = np.argwhere(~finite)[0]
    return f"sample {index} of channel {channel} is {samples[channel, index]}; expected finite samples"
