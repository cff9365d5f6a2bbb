"""FLAC files: the header before anything is decoded. The layout is RFC 9639, section 8.2 (STREAMINFO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from whirr.errors import FrameRejected
from whirr.recordings.sources import Source

_STREAMINFO_END: Final = 42  # magic 4, block header 4, STREAMINFO 34


@dataclass(frozen=True, slots=True)
class FlacHeader:
    """What STREAMINFO says; ``frames`` (samples per channel) is 0 where the encoder did not know."""

    rate_hz: int
    channels: int
    bits: int
    frames: int


def parse_flac(source: Source, begin: int = 0, end: int | None = None) -> FlacHeader:
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
