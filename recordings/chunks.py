"""AIFF, AU and Core Audio files: what lies behind the samples that their headers state.

libsndfile reads no more than that, also where the header was last written before the recording ended. Layouts: Apple's
"Audio Interchange File Format" and "Core Audio Format Specification", and the `au` format of Sun's audio tools.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from recordings.sources import ByteSource


class _Chunks(NamedTuple):
    first: int  # byte of the first chunk
    head: struct.Struct  # name and length of a chunk
    samples: bytes  # name of the chunk that holds them
    align: int


_CHUNKS: Final = {
    b"FORM": _Chunks(12, struct.Struct(">4sI"), b"SSND", 2),
    b"caff": _Chunks(8, struct.Struct(">4sq"), b"data", 1),
}
_AU: Final = {b".snd": struct.Struct(">II"), b"dns.": struct.Struct("<II")}
_MOST_CHUNKS: Final = 256


def unread_behind(source: ByteSource, begin: int, end: int) -> int:
    """Return how many bytes behind the samples are neither theirs nor chunks of texts and marks; 0 for other files."""
    magic = source.read(begin, 4)
    if magic in _AU:
        offset, stated = _AU[magic].unpack(source.read(begin + 4, 8).ljust(8, b"\xff"))
        return max(0, end - begin - int(offset) - int(stated))
    if magic not in _CHUNKS:
        return 0
    chunks, seen = _CHUNKS[magic], False
    at: int = begin + chunks.first
    for _ in range(_MOST_CHUNKS):
        head = source.read(at, chunks.head.size)
        if len(head) < chunks.head.size:
            return 0
        name, size = chunks.head.unpack(head)
        fits = 0 <= size <= end - at - chunks.head.size
        if seen and not (fits and all(0x20 <= byte < 0x7F for byte in name)):
            return end - at
        if not fits or (name == chunks.samples and size == 0):  # a placeholder: read to the end, or not at all
            return 0
        seen = seen or name == chunks.samples
        at += chunks.head.size + size + size % chunks.align
    return 0
