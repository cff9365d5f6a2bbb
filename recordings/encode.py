"""Encoding: samples as the WAV or FLAC file that a frame is, without loss."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from recordings.cut import frame_samples
from recordings.recording import RecordingFile
from recordings.samples import SAMPLE_BYTES, SampleKind, SignalFormat
from schemas.errors import RecordingError, SettingsError
from schemas.frame import MAX_VALUE_BYTES

FileFormat = Literal["flac", "wav"]
_SUBTYPES: Final[dict[SampleKind, str]] = {
    "pcm16": "PCM_16",
    "pcm24": "PCM_24",
    "pcm32": "PCM_32",
    "float32": "FLOAT",
}
_FLAC_KINDS: Final = ("pcm16", "pcm24")  # libsndfile writes no wider FLAC
_FLAC_CHANNELS: Final = 8
# What signal that can't be compressed adds to itself: 0.25 % was measured, and a header.
_OVERHEAD, _HEADER_BYTES = 1.005, 1024
_PCM16_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_AT_ONCE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame's value and its content type."""

    value: bytes
    content_type: str


def encode(samples: NDArray[Any], signal_format: SignalFormat, wanted: FileFormat = "flac") -> Encoded:
    """Return samples as an audio file.

    It is a WAV where FLAC can't hold the signal without loss (32 bit, float, 9 channels), and a FLAC where a WAV would
    be larger than a frame may be.

    Args:
        samples: ``[channels, n]``; see :class:`SignalFormat` for their type.
        signal_format: Their format.
        wanted: What they become if nothing speaks against it.
    """
    fits = signal_format.kind in _FLAC_KINDS and signal_format.channels <= _FLAC_CHANNELS
    size = samples.size * SAMPLE_BYTES[signal_format.kind] + _PCM16_HEADER.size
    file_format: FileFormat = "flac" if fits and (wanted == "flac" or size > MAX_VALUE_BYTES) else "wav"
    if file_format == "wav" and signal_format.kind == "pcm16":
        return Encoded(_pcm16_wav(samples, signal_format.rate_hz), "audio/wav")
    file = io.BytesIO()
    subtype = _SUBTYPES[signal_format.kind]
    soundfile.write(file, samples.T, signal_format.rate_hz, format=file_format.upper(), subtype=subtype)
    return Encoded(file.getvalue(), f"audio/{file_format}")


def _pcm16_wav(samples: NDArray[np.int16], rate_hz: int) -> bytes:
    """Return samples, int16 [channel, n], as the WAV file that libsndfile would write, in a fraction of the time."""
    channels = samples.shape[0]
    data = np.ascontiguousarray(samples.T, "<i2")  # of one channel as it is; joining copies it once
    # RIFF, format 1 (PCM): channels, rate, bytes a second, bytes of a sample of all channels, bits.
    described = (1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
    header = _PCM16_HEADER.pack(b"RIFF", data.nbytes + 36, b"WAVE", b"fmt ", 16, *described, b"data", data.nbytes)
    return b"".join((header, data.data))


def encoded_frames(path: Path, bounds: Sequence[tuple[int, int]], columns: Sequence[str] = ()) -> Iterator[bytes]:
    """Yield frames of a recording as WAV files, or as FLAC where a WAV would be larger than a frame may be.

    Args:
        path: The recording; no more than a minute of it is in memory.
        bounds: First sample and end of each frame, back to back: see :func:`recordings.cut.frame_bounds`.
        columns: Of a table: the columns to take as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The file can't be read, or ends before a frame does; those before it have been yielded.
    """
    with RecordingFile(path, columns) as recording:
        signal_format = recording.info.format
        # Several frames in one call: a decoder begins anew in each.
        for _, group in groupby(bounds, lambda frame: frame[0] // (_AT_ONCE_S * signal_format.rate_hz)):
            frames = list(group)
            begin = frames[0][0]
            samples = recording.read(begin, frames[-1][1] - begin)
            for start, stop in frames:
                own = samples[:, start - begin : stop - begin]
                if own.shape[1] < stop - start:
                    raise RecordingError(f"{path}: the file ends before its header says it does")
                yield encode(own, signal_format, "wav").value


def check_fits(frame_s: float, signal_format: SignalFormat) -> None:
    """Check that a frame of this length fits, however badly it compresses: a faulty machine is a noisy one.

    Raises:
        SettingsError: It might not; the message says which length would.
    """
    frame_bytes = SAMPLE_BYTES[signal_format.kind] * signal_format.channels
    size = frame_samples(frame_s, signal_format.rate_hz) * frame_bytes * _OVERHEAD + _HEADER_BYTES
    if size > MAX_VALUE_BYTES:
        longest_s = (MAX_VALUE_BYTES - _HEADER_BYTES) / _OVERHEAD / signal_format.bytes_per_s
        raise SettingsError(
            f"a frame of {frame_s:g} s at {signal_format.rate_hz} Hz with {signal_format.channels} channels of "
            f"{signal_format.kind} may take {size:.0f} bytes; at most {MAX_VALUE_BYTES} are taken: "
            f"shorten the frames to {int(longest_s * 100) / 100:g} s"
        )
