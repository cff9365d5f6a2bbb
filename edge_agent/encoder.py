"""Samples in, the bytes of a WAV or FLAC file out, without loss."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
import soundfile

from edge_agent.framer import frame_samples
from edge_agent.stretch import SAMPLE_BYTES, SampleKind, SignalFormat
from schemas.errors import SettingsError
from schemas.frame import MAX_VALUE_BYTES

FileFormat = Literal["flac", "wav"]
_SUBTYPES: dict[SampleKind, str] = {"pcm16": "PCM_16", "pcm24": "PCM_24", "pcm32": "PCM_32", "float32": "FLOAT"}
_FLAC_KINDS = ("pcm16", "pcm24")  # libsndfile writes no wider FLAC
_FLAC_CHANNELS = 8
# What signal that can't be compressed adds to itself: 0.25 % was measured, and a header.
_OVERHEAD, _HEADER_BYTES = 1.005, 1024


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame's value and its content type."""

    value: bytes
    content_type: str


def container(signal_format: SignalFormat, wanted: FileFormat) -> FileFormat:
    """Return the file format that holds the signal without loss: WAV where FLAC can't (32 bit, float, 9 channels)."""
    fits = signal_format.kind in _FLAC_KINDS and signal_format.channels <= _FLAC_CHANNELS
    return wanted if fits else "wav"


def encode(samples: npt.NDArray[Any], signal_format: SignalFormat, wanted: FileFormat = "flac") -> Encoded:
    """Return ``samples`` (``[channels, n]``, see :class:`SignalFormat` for their type) as an audio file."""
    file_format = container(signal_format, wanted)
    file = io.BytesIO()
    subtype = _SUBTYPES[signal_format.kind]
    soundfile.write(file, samples.T, signal_format.rate_hz, format=file_format.upper(), subtype=subtype)
    return Encoded(file.getvalue(), f"audio/{file_format}")


def check_fits(frame_s: float, signal_format: SignalFormat) -> None:
    """Check that a frame of this length fits, however badly it compresses: a faulty machine is a noisy one.

    Raises:
        SettingsError: It might not; the message says which length would.
    """
    frame_bytes = SAMPLE_BYTES[signal_format.kind] * signal_format.channels
    size = frame_samples(frame_s, signal_format) * frame_bytes * _OVERHEAD + _HEADER_BYTES
    if size > MAX_VALUE_BYTES:
        longest_s = (MAX_VALUE_BYTES - _HEADER_BYTES) / _OVERHEAD / signal_format.bytes_per_s
        raise SettingsError(
            f"a frame of {frame_s:g} s at {signal_format.rate_hz} Hz with {signal_format.channels} channels of "
            f"{signal_format.kind} may take {size:.0f} bytes; at most {MAX_VALUE_BYTES} are taken: "
            f"shorten the frames to {int(longest_s * 100) / 100:g} s"
        )
