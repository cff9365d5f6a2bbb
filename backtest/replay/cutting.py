"""Cutting: recordings as the records that a gateway would have sent of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from backtest.replay.headers import Kind, frame_length
from edge_agent.encoder import encode
from edge_agent.framer import MICROSECONDS
from edge_agent.stretch import SignalFormat
from recordings import Recording
from schemas.errors import RecordingError
from schemas.frame import MAX_VALUE_BYTES, FrameRecord
from schemas.times import format_rfc3339

_AT_ONCE_S = 60.0


class Piece(NamedTuple):
    """Some frames in a row of one recording.

    Attributes:
        file: Id of the recording.
        name: Its path relative to ``folder``.
        kind: How its frames are got.
        stream: Id of its stream.
        machine, source: Whose it is ('' for no source).
        start_us: When it began, microseconds since the epoch.
        rate_hz, channels, samples: As its header says; samples are per channel.
        frame_s: Length of a frame in seconds.
        frames: How many frames the recording has.
        first, many: Which of them these are.
        columns: Of a table: the columns to take as channels; empty: those that look like a signal.
    """

    file: int
    folder: str
    name: str
    kind: Kind
    stream: int
    machine: str
    source: str
    start_us: int
    rate_hz: int
    channels: int
    samples: int
    frame_s: float
    frames: int
    first: int
    many: int
    columns: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Samples per channel of a frame."""
        return frame_length(self.frame_s, self.rate_hz)

    def recorded_us(self, number: int) -> int:
        """Return when a frame was recorded, microseconds since the epoch."""
        return self.start_us + number * self.length * MICROSECONDS // self.rate_hz

    def duration_s(self, number: int) -> float:
        """Return the length of a frame in seconds."""
        return min(self.length, self.samples - number * self.length) / self.rate_hz


class CutRecord(NamedTuple):
    """One frame, or why there is none: ``record`` or ``problem`` is None."""

    number: int
    recorded_us: int
    record: FrameRecord | None
    problem: str | None = None


def records(piece: Piece) -> Iterator[CutRecord]:
    """Yield a piece's frames in order; what can't be read ends it, and the frames left say why."""
    numbers = range(piece.first, piece.first + piece.many)
    done, problem = piece.first, "the file ends before its header says it does"
    try:
        for value in _values(piece):
            yield CutRecord(done, piece.recorded_us(done), _record(piece, done, value))
            done += 1
            if done == numbers.stop:
                return
    except OSError as error:
        problem = f"can't be read ({error.strerror})"
    except RecordingError as error:
        problem = str(error).removeprefix(f"{Path(piece.folder, piece.name)}: ")
    for number in range(done, numbers.stop):
        yield CutRecord(number, piece.recorded_us(number), None, problem)


def _record(piece: Piece, number: int, value: bytes) -> FrameRecord:
    """Return a frame as the record that a gateway sends, but for ``ce_id``: what it would repeat is computed anyway."""
    recorded_us = piece.recorded_us(number)
    headers = [("ce_time", format_rfc3339(recorded_us).encode())]
    if piece.source:
        headers.append(("ce_source", piece.source.encode()))
    # Sent when it had been recorded.
    sent_ms = -(-(recorded_us + round(piece.duration_s(number) * MICROSECONDS)) // 1000)
    return FrameRecord(piece.machine.encode(), value, tuple(headers), sent_ms, piece.name, 0, number)


def _values(piece: Piece) -> Iterator[bytes]:
    path = Path(piece.folder, piece.name)
    if piece.kind == "whole" and piece.samples <= piece.length:
        yield path.read_bytes()
        return
    # Several frames in one call, but not all of a long file.
    at_once = max(1, int(_AT_ONCE_S / piece.frame_s))
    end = piece.first + piece.many
    with Recording(path, piece.columns) as recording:
        info = recording.info
        signal_format = SignalFormat(info.rate_hz, info.channels, info.kind)
        for number in range(piece.first, end, at_once):
            samples = recording.read(number * piece.length, min(at_once, end - number) * piece.length)
            for start in range(0, samples.shape[1], piece.length):
                yield _encode(samples[:, start : start + piece.length], signal_format)


def _encode(samples: npt.NDArray[Any], signal_format: SignalFormat) -> bytes:
    """Return samples [channel, n] as a WAV file, or as FLAC where that would be larger than a frame may be."""
    if signal_format.kind == "pcm16" and samples.size * 2 + _PCM16_HEADER.size <= MAX_VALUE_BYTES:
        return pcm16_wav(samples, signal_format.rate_hz)
    value = encode(np.asarray(samples), signal_format, "wav").value
    return value if len(value) <= MAX_VALUE_BYTES else encode(samples, signal_format, "flac").value


_PCM16_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def pcm16_wav(samples: npt.NDArray[np.int16], rate_hz: int) -> bytes:
    """Return samples, int16 [channel, n], as the WAV file that libsndfile would write, in a fraction of the time."""
    channels = samples.shape[0]
    data = np.ascontiguousarray(samples.T, "<i2").tobytes()
    # RIFF, format 1 (PCM): channels, rate, bytes a second, bytes of a sample of all channels, bits.
    described = (1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
    header = _PCM16_HEADER.pack(b"RIFF", len(data) + 36, b"WAVE", b"fmt ", 16, *described, b"data", len(data))
    return header + data
