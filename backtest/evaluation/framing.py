"""Framing: a recording as the frames that a gateway would have sent of it, each an audio file as bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import soundfile
from numpy.typing import NDArray

from recordings import Recording
from schemas.frame import MAX_VALUE_BYTES, MIN_FRAME_S

_SUBTYPES: Final = {"pcm16": "PCM_16", "pcm24": "PCM_24", "pcm32": "PCM_32", "float32": "FLOAT"}
_FLAC: Final = frozenset({"PCM_16", "PCM_24"})
_FLAC_CHANNELS: Final = 8


@dataclass(frozen=True, slots=True)
class CutFrame:
    """One frame of a recording.

    Attributes:
        value: A WAV file, or a FLAC file where a WAV would be larger than a frame may be.
        start_s: Where it begins in its recording.
        duration_s: Its length.
    """

    value: bytes
    start_s: float
    duration_s: float


def cut(path: Path, frame_s: float, window_s: float, columns: Sequence[str] = ()) -> Iterator[CutFrame]:
    """Yield the frames of a recording, back to back.

    What is left at the end is a frame too if it is at least half a frame and a window long; a recording shorter than
    a frame is one.

    Args:
        path: The recording; any length.
        frame_s: Length of a frame in seconds.
        window_s: Length of the model's window in seconds.
        columns: Of a table: the columns to take as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The file can't be decoded.
    """
    with Recording(path, columns) as recording:
        samples, rate_hz, subtype = recording.read(), recording.info.rate_hz, _SUBTYPES[recording.info.kind]
    for start, stop in spans(samples.shape[1], rate_hz, frame_s, window_s):
        value = _encode(samples[:, start:stop].T, rate_hz, subtype)
        yield CutFrame(value, start / rate_hz, (stop - start) / rate_hz)


def spans(samples: int, rate_hz: int, frame_s: float, window_s: float) -> list[tuple[int, int]]:
    """Return first and past-the-last sample of each frame of a recording of so many samples per channel."""
    length = frame_s * rate_hz
    count = int(samples / length + 1e-9)
    if count == 0:
        return [(0, samples)]
    borders = [round(number * length) for number in range(count + 1)]
    least = max(frame_s / 2, window_s, MIN_FRAME_S) * rate_hz
    if samples - borders[-1] >= least - 1e-6:
        borders.append(samples)
    return list(pairwise(borders))


def _encode(samples: NDArray[Any], rate_hz: int, subtype: str) -> bytes:
    """Return samples [n, channel] as a file, without loss."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype=subtype)
    if file.tell() > MAX_VALUE_BYTES and subtype in _FLAC and samples.shape[1] <= _FLAC_CHANNELS:
        file = io.BytesIO()
        soundfile.write(file, samples, rate_hz, format="FLAC", subtype=subtype)
    return file.getvalue()
