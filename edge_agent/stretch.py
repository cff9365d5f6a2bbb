"""A stretch of captured signal, in the numbers that it was captured in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from recordings.samples import SAMPLE_KINDS, SampleKind
from schemas.errors import RecordingError
from schemas.frame import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ

__all__ = ["SAMPLE_BYTES", "SAMPLE_KINDS", "SampleKind", "SignalFormat", "Source", "Stretch"]

SAMPLE_BYTES: dict[SampleKind, int] = {"pcm16": 2, "pcm24": 3, "pcm32": 4, "float32": 4}


@dataclass(frozen=True, slots=True)
class SignalFormat:
    """What does not change during a recording: sample rate, channels, and the kind of number.

    ``pcm16`` samples are int16; ``pcm24`` and ``pcm32`` are int32, 24 bit shifted to the top; ``float32`` is itself.
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


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some samples in a row.

    Attributes:
        samples: ``[channels, n]``, of the type that the format's kind says.
        format: Their format.
        ends_recording: Nothing follows that belongs to the same recording; a frame must not reach beyond.
    """

    samples: npt.NDArray[Any]
    format: SignalFormat
    ends_recording: bool = False


class Source(Protocol):
    """Where signal comes from.

    Attributes:
        live: The signal comes when it comes: the source can't be made to wait.
        duration_s: How long it lasts, or None if that can't be known.
    """

    live: bool
    duration_s: float | None

    @property
    def formats(self) -> tuple[SignalFormat, ...]:
        """Return the formats known beforehand, in the order in which they come."""
        ...

    def __aiter__(self) -> AsyncIterator[Stretch]:
        """Return the stretches in order."""
        ...

    def counts(self) -> dict[str, int]:
        """Return what the source counted, such as files that could not be used."""
        ...
