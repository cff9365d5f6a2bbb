"""What a recording's header says, and how many frames come of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

import soundfile

from edge_agent.framer import frame_samples
from edge_agent.stretch import SignalFormat
from schemas.frame import MAX_VALUE_BYTES, MIN_FRAME_S
from stream_app.pipeline.decode import RECORDING_SUFFIXES, recording_info
from stream_app.pipeline.tables import TABLE_SUFFIXES, is_table
from whirr.errors import RecordingError

# How frames are got: the file's own bytes, if it is one frame; samples read where they lie; the file read from its
# beginning, where a decoder can't be trusted to find a place (.mp3); all of a table.
Kind = Literal["whole", "audio", "serial", "table"]
_WHOLE_FORMATS: Final = frozenset({"WAV", "WAVEX", "FLAC"})
_WHOLE_SUBTYPES: Final = frozenset({"PCM_16", "PCM_24", "PCM_32", "FLOAT"})


class Header(NamedTuple):
    """A recording as its header describes it; ``samples`` are per channel."""

    kind: Kind
    rate_hz: int
    channels: int
    samples: int


def is_recording(path: Path) -> bool:
    """Return whether a file holds samples, by its suffix: audio, or a table of samples that states its rate."""
    suffix = path.suffix.lower()
    return suffix in RECORDING_SUFFIXES or (suffix in TABLE_SUFFIXES and is_table(path))


def read_header(path: Path, size: int) -> Header:
    """Return what a recording of so many bytes is.

    Raises:
        RecordingError: It can't be read, or holds no samples.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        info = recording_info(path)
        return _checked(Header("table", info.rate_hz, info.channels, info.samples))
    try:
        found = soundfile.info(path)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise RecordingError(f"can't be read ({str(error).split(': ', 1)[-1].strip()})") from None
    kind: Kind = "audio"
    if found.format == "MP3" or found.subtype.startswith("MPEG"):
        kind = "serial"
    elif found.format in _WHOLE_FORMATS and found.subtype in _WHOLE_SUBTYPES and size <= MAX_VALUE_BYTES:
        kind = "whole"
    return _checked(Header(kind, found.samplerate, found.channels, found.frames))


@lru_cache(maxsize=1024)  # asked several times for each frame, of few rates and lengths
def frame_length(frame_s: float, rate_hz: int) -> int:
    """Return how many samples a frame has, as the edge agent cuts it."""
    return frame_samples(frame_s, SignalFormat(rate_hz, 1, "float32"))


def frame_count(samples: int, rate_hz: int, frame_s: float, window_s: float) -> int:
    """Return how many frames a recording is cut into.

    What is left at its end is one more if it is at least half a frame, a window of the model and 0.1 s long. A
    recording shorter than a frame is one.
    """
    length = frame_length(frame_s, rate_hz)
    whole, left = divmod(samples, length)
    if whole == 0:
        return 1
    return whole + (2 * left >= length and left >= max(MIN_FRAME_S, window_s) * rate_hz - 1e-6)


def left_out_s(samples: int, rate_hz: int, frame_s: float, frames: int) -> float:
    """Return how many seconds at a recording's end come in no frame."""
    return max(0, samples - frames * frame_length(frame_s, rate_hz)) / rate_hz


def _checked(header: Header) -> Header:
    if header.samples < 1:
        raise RecordingError("holds no samples")
    SignalFormat(header.rate_hz, header.channels, "float32")  # raises for a signal that no frame can carry
    return header
