"""Samples: the kinds of number that they come in, and a decoded signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.errors import RecordingError
from schemas.frame import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ

SampleKind = Literal["pcm16", "pcm24", "pcm32", "float32"]
SAMPLE_BYTES: Final[dict[SampleKind, int]] = {"pcm16": 2, "pcm24": 3, "pcm32": 4, "float32": 4}
# Floats beyond this are cut to it: their squares, summed over bins and bands, still fit in float32.
SAMPLE_LIMIT: Final = np.float32(1e12)

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SignalFormat:
    """What does not change during a recording: sample rate, channels, and the kind of number.

    ``pcm16`` samples are int16; ``pcm24`` and ``pcm32`` are int32, 24 bit shifted to the top; ``float32`` is itself.

    Raises:
        RecordingError: No frame can have this rate or so many channels.
    """

    rate_hz: int
    channels: int
    kind: SampleKind

    def __post_init__(self) -> None:
        if not (MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ and 1 <= self.channels <= MAX_CHANNELS):
            raise RecordingError(
                f"the signal has {self.channels} channels at {self.rate_hz} Hz; "
                f"expected 1 to {MAX_CHANNELS} at {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
            )

    @property
    def bytes_per_s(self) -> int:
        """Bytes that a second takes without compression."""
        return self.rate_hz * self.channels * SAMPLE_BYTES[self.kind]


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
