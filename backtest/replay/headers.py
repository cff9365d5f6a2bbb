"""What a recording's header says, and how many frames come of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from edge_agent.framer import frame_samples
from edge_agent.stretch import SignalFormat
from recordings import TABLE_SUFFIXES, RecordingInfo, recording_info
from schemas.frame import MAX_VALUE_BYTES, MIN_FRAME_S

# How frames are got: the file's own bytes, if it is one frame; samples read where they lie; the file read from its
# beginning, where a decoder can't find a place (.mp3, FLAC of unknown length); all of a table.
Kind = Literal["whole", "audio", "serial", "table"]


class Header(NamedTuple):
    """A recording as its header describes it; ``samples`` are per channel."""

    kind: Kind
    rate_hz: int
    channels: int
    samples: int


def read_header(path: Path, size: int, columns: Sequence[str] = ()) -> tuple[Header, RecordingInfo]:
    """Return what a recording of so many bytes is, and all that is known of it.

    Raises:
        RecordingError: It can't be read, or holds no samples.
    """
    info = recording_info(path, columns)
    kind: Kind = "audio" if info.seekable else "serial"
    if path.suffix.lower() in TABLE_SUFFIXES:
        kind = "table"
    elif info.unfit is None and size <= MAX_VALUE_BYTES:
        kind = "whole"
    return Header(kind, info.rate_hz, info.channels, info.samples), info


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
