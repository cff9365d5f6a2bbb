"""A segment of the spool: frames one after the other in a file, each with a checksum.

A record is a header (magic, CRC-32 of the rest of the header, CRC-32 of the body, the body's length, number, start of
the recording), then the body: its description as JSON, prefixed by its length, and the frame's value. The header has a
checksum of its own so that a wrong length is never believed: it would cost the record after it, too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from edge_agent.outgoing import OutgoingFrame

MAGIC = b"WSP\x01"
_HEADER = struct.Struct(">4sIIIQq")
_LENGTH = struct.Struct(">I")
_CHECKED_FROM = 8  # after magic and the header's checksum


class Entry(NamedTuple):
    """Where a record stands.

    Attributes:
        number: Grows by one from frame to frame, over restarts.
        recorded_us: Start of the recording, microseconds since the epoch.
        offset, length: In its file, in bytes.
    """

    number: int
    recorded_us: int
    offset: int
    length: int


class Damage(NamedTuple):
    """A piece of a file, in bytes, that is no whole record."""

    offset: int
    length: int


def pack(number: int, frame: OutgoingFrame) -> bytes:
    """Return a frame as a record."""
    about = orjson.dumps(
        {
            "key": frame.key.decode(),
            "headers": [(name, value.decode()) for name, value in frame.headers],
            "end_us": frame.end_us,
        }
    )
    body = _LENGTH.pack(len(about)) + about + frame.value
    fields = zlib.crc32(body), len(body), number, frame.recorded_us
    checksum = zlib.crc32(_HEADER.pack(MAGIC, 0, *fields)[_CHECKED_FROM:])
    return _HEADER.pack(MAGIC, checksum, *fields) + body


def unpack(record: bytes) -> OutgoingFrame | None:
    """Return the frame that a record holds, or None if the record is damaged."""
    if not _is_whole(record):
        return None
    recorded_us = _HEADER.unpack_from(record)[5]
    value_at = _HEADER.size + _LENGTH.size + _LENGTH.unpack_from(record, _HEADER.size)[0]
    about = orjson.loads(record[_HEADER.size + _LENGTH.size : value_at])
    headers = tuple((name, text.encode()) for name, text in about["headers"])
    return OutgoingFrame(about["key"].encode(), record[value_at:], headers, recorded_us, about["end_us"])


def read(path: Path, entry: Entry) -> bytes:
    """Return a record's bytes, fewer if the file ends before.

    Raises:
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        file.seek(entry.offset)
        return file.read(entry.length)


def scan(path: Path) -> Iterator[Entry | Damage]:
    """Yield what a segment holds, from its start to its end.

    Values are skipped, and so are not checked, except the last record's: a power cut tears the end of a file. Others
    are checked when they are read to be sent.

    Raises:
        OSError: The file can't be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at < size:
            entry = _entry(file, at, size)
            if entry is None or (entry.offset + entry.length == size and not _is_whole(_at(file, at, entry.length))):
                following = _next_whole(file, at + 1, size)
                yield Damage(at, following - at)
                at = following
            else:
                yield entry
                at += entry.length


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _entry(file: BinaryIO, offset: int, size: int) -> Entry | None:
    raw = _at(file, offset, _HEADER.size)
    if len(raw) < _HEADER.size:
        return None
    magic, checksum, _, body_bytes, number, recorded_us = _HEADER.unpack(raw)
    length = _HEADER.size + body_bytes
    if magic != MAGIC or zlib.crc32(raw[_CHECKED_FROM:]) != checksum or offset + length > size:
        return None
    return Entry(number, recorded_us, offset, length)


def _next_whole(file: BinaryIO, offset: int, size: int) -> int:
    """Return where the next undamaged record starts, or the file's end."""
    rest = _at(file, offset, size - offset)
    found = rest.find(MAGIC)
    while found >= 0:
        entry = _entry(file, offset + found, size)
        if entry is not None and _is_whole(rest[found : found + entry.length]):
            return offset + found
        found = rest.find(MAGIC, found + 1)
    return size


def _is_whole(record: bytes) -> bool:
    if len(record) < _HEADER.size + _LENGTH.size:
        return False
    magic, checksum, body_checksum, body_bytes, _, _ = _HEADER.unpack_from(record)
    whole = magic == MAGIC and zlib.crc32(record[_CHECKED_FROM : _HEADER.size]) == checksum
    return (
        bool(whole) and len(record) == _HEADER.size + body_bytes and zlib.crc32(record[_HEADER.size :]) == body_checksum
    )
