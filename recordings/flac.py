"""FLAC files: the header before anything is decoded, and what lies behind the samples that it counts.

The layout is RFC 9639: section 8.2 (STREAMINFO) and 9.1 (frame headers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from recordings.sources import ByteSource
from schemas.errors import FrameRejected

_STREAMINFO_END: Final = 42  # magic 4, block header 4, STREAMINFO 34
_LOOKED_THROUGH_BYTES: Final = 1 << 22
_LONGEST_HEADER: Final = 16  # of a frame
_BEGINNING: Final = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22|\xff[\xf8\xf9]")


@dataclass(frozen=True, slots=True)
class FlacHeader:
    """What STREAMINFO says; ``frames`` (samples per channel) is 0 where the encoder did not know."""

    rate_hz: int
    channels: int
    bits: int
    frames: int


def is_flac(head: bytes) -> bool:
    """Return whether the first 4 bytes are a FLAC file's."""
    return head[:4] == b"fLaC"


def parse_flac(source: ByteSource, begin: int = 0, end: int | None = None) -> FlacHeader:
    """Return the header of a FLAC file.

    Raises:
        FrameRejected: ``truncated`` or ``not_audio``.
    """
    there = (source.size if end is None else end) - begin
    if there < _STREAMINFO_END:
        raise FrameRejected("truncated", f"{there} bytes; a FLAC header has {_STREAMINFO_END}")
    head = source.read(begin, _STREAMINFO_END)
    if head[4] & 0x7F != 0 or head[5:8] != b"\x00\x00\x22":
        raise FrameRejected("not_audio", f"the FLAC's first block is {head[4:8].hex()}; expected STREAMINFO")
    packed = int.from_bytes(head[18:26], "big")
    return FlacHeader(packed >> 44, (packed >> 41 & 0x7) + 1, (packed >> 36 & 0x1F) + 1, packed & 0xFFFFFFFFF)


def unread_after(source: ByteSource, begin: int, end: int) -> int:
    """Return how many bytes are behind the samples that a FLAC's header counts: more frames, or another FLAC.

    Args:
        source: Where it is; it is read through.
        begin: The FLAC's first byte.
        end: The byte after its last.

    Raises:
        FrameRejected: ``truncated`` or ``not_audio``.
    """
    total = parse_flac(source, begin, end).frames
    if total == 0:
        return 0
    block = int.from_bytes(source.read(begin + 8, 2), "big")
    at, is_last = begin + 4, False
    while not is_last and at < end:
        head = source.read(at, 4)
        is_last = not head or head[0] >= 0x80
        at += 4 + int.from_bytes(head[1:4], "big")
    first = source.read(at, 4)
    if len(first) < 4:
        return 0
    while at < end:
        part = source.read(at, min(_LOOKED_THROUGH_BYTES + _LONGEST_HEADER, end - at))
        for match in _BEGINNING.finditer(part):
            place = match.start()
            if part[place : place + 1] == b"f":
                return end - at - place
            # Frames of one stream differ in their place, their length and in how channels are joined.
            header = part[place : place + _LONGEST_HEADER]
            if len(header) > 3 and header[1] == first[1] and not (header[2] ^ first[2] | header[3] ^ first[3]) & 0x0F:
                start = _start_of(header, block)
                if start is not None and total <= start < total + max(block, 1):
                    return end - at - place
        at += _LOOKED_THROUGH_BYTES
    return 0


def _start_of(header: bytes, block: int) -> int | None:
    """Return the first sample of the frame that has a header; None where it is none."""
    if len(header) < 6:
        return None
    lead = header[4]
    more = 0 if lead < 0x80 else 8 - (~lead & 0xFF).bit_length() - 1  # as in UTF-8
    following = header[5 : 5 + more]
    if more < 0 or lead == 0xFF or 0x80 <= lead < 0xC0 or any(byte & 0xC0 != 0x80 for byte in following):
        return None
    value = lead if more == 0 else lead & (0x3F >> more)
    for byte in following:
        value = value << 6 | byte & 0x3F
    size_bits, rate_bits = header[2] >> 4, header[2] & 0x0F
    length = 5 + more + {6: 1, 7: 2}.get(size_bits, 0) + {12: 1, 13: 2, 14: 2}.get(rate_bits, 0)
    if len(header) <= length or _crc_8(header[:length]) != header[length]:
        return None
    return value if header[1] & 1 else value * block


def _crc_8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc
