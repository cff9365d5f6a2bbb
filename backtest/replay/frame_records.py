"""Cutting: recordings as the records that a gateway would have sent of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from recordings import TABLE_SUFFIXES, RecordingInfo
from recordings.cut import frame_samples, offset_us
from recordings.encode import encoded_frames
from schemas.condition import UNKNOWN, Condition
from schemas.errors import RecordingError
from schemas.frame import MAX_VALUE_BYTES, FrameRecord, condition_headers
from schemas.times import format_rfc3339

# How frames are got: the file's own bytes, if it is one frame; samples read where they lie; the file read from its
# beginning, where a decoder can't find a place (.mp3, FLAC of unknown length); all of a table.
Kind = Literal["whole", "audio", "serial", "table"]


def kind_of(path: Path, size: int, info: RecordingInfo) -> Kind:
    """Return how the frames of a recording of so many bytes are got."""
    if path.suffix.lower() in TABLE_SUFFIXES:
        return "table"
    if info.unfit is None and size <= MAX_VALUE_BYTES:
        return "whole"
    return "audio" if info.seekable else "serial"


class FrameRange(NamedTuple):
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
        condition: How the machine ran, as far as that is known.
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
    condition: Condition = UNKNOWN

    @property
    def length(self) -> int:
        """Samples per channel of a frame."""
        return frame_samples(self.frame_s, self.rate_hz)

    def recorded_us(self, number: int) -> int:
        """Return when a frame was recorded, microseconds since the epoch."""
        return self.start_us + offset_us(number * self.length, self.rate_hz)

    def span_us(self, number: int) -> tuple[int, int]:
        """Return from when until when a frame was recorded, microseconds since the epoch."""
        start, stop = self.bounds(number)
        begin_us = self.start_us + offset_us(start, self.rate_hz)
        return begin_us, begin_us + offset_us(stop - start, self.rate_hz)

    def bounds(self, number: int) -> tuple[int, int]:
        """Return first sample and end of a frame."""
        length = self.length
        return number * length, min((number + 1) * length, self.samples)

    def duration_s(self, number: int) -> float:
        """Return the length of a frame in seconds."""
        start, stop = self.bounds(number)
        return (stop - start) / self.rate_hz


class CutRecord(NamedTuple):
    """One frame, or why there is none: ``record`` or ``problem`` is None."""

    number: int
    recorded_us: int
    record: FrameRecord | None
    problem: str | None = None


def records(part: FrameRange) -> Iterator[CutRecord]:
    """Yield a part's frames in order; what can't be read ends it, and the frames left say why."""
    numbers = range(part.first, part.first + part.many)
    done, problem = part.first, ""
    try:
        for value in _values(part):
            span_us = part.span_us(done)
            yield CutRecord(done, span_us[0], _record(part, done, span_us, value))
            done += 1
            if done == numbers.stop:
                return
    except OSError as error:
        problem = f"can't be read ({error.strerror})"
    except RecordingError as error:
        problem = str(error).removeprefix(f"{Path(part.folder, part.name)}: ")
    for number in range(done, numbers.stop):
        yield CutRecord(number, part.recorded_us(number), None, problem)


def sent_record(
    machine: str,
    source: str | None,
    span_us: tuple[int, int],
    value: bytes,
    *,
    condition: Condition = UNKNOWN,
    topic: str = "",
    offset: int = 0,
) -> FrameRecord:
    """Return a frame as the record that a gateway sends at its end, but for ``ce_id``: the core computes it anyway.

    Args:
        machine: Whose it is.
        source: Which sensor's, None or '' for a machine's only one.
        span_us: When it was recorded, from and until, microseconds since the epoch.
        value: The audio file.
        condition: How the machine ran.
        topic: Where it is from.
        offset: Its number there.
    """
    headers = [("ce_time", format_rfc3339(span_us[0]).encode())]
    if source:
        headers.append(("ce_source", source.encode()))
    headers += condition_headers(condition)
    return FrameRecord(machine.encode(), value, tuple(headers), -(-span_us[1] // 1000), topic, 0, offset)


def _record(part: FrameRange, number: int, span_us: tuple[int, int], value: bytes) -> FrameRecord:
    about = part.condition
    return sent_record(part.machine, part.source, span_us, value, condition=about, topic=part.name, offset=number)


def _values(part: FrameRange) -> Iterator[bytes]:
    path = Path(part.folder, part.name)
    if part.kind == "whole" and part.samples <= part.length:
        yield path.read_bytes()
    else:
        bounds = [part.bounds(number) for number in range(part.first, part.first + part.many)]
        yield from encoded_frames(path, bounds, part.columns)
