"""WAV files: a walk through the chunks that believes no length before it has checked it.

Layout as in Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and, for
WAVE_FORMAT_EXTENSIBLE, "Multiple channel audio data and WAVE files"; RF64 and BW64 as in EBU Tech 3306 and ITU-R
BS.2088. RIFX is the same with its bytes the other way round.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recordings.samples import SampleKind
from recordings.sources import ByteSource
from schemas.errors import FrameRejected

# Integers of 1 to 4 bytes; 24 bit in the upper or the lower three of 4 bytes ("i4" and "i4low"); floats.
Encoding = Literal["u1", "i2", "i3", "i4", "i4low", "f4", "f8"]
KINDS: Final[dict[Encoding, SampleKind]] = {
    "u1": "pcm16",
    "i2": "pcm16",
    "i3": "pcm24",
    "i4": "pcm32",
    "i4low": "pcm24",
    "f4": "float32",
    "f8": "float32",
}
_MAGIC: Final = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}
_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
# An extensible format's GUID begins with the plain format's tag; this is how it goes on, for ambisonics too.
_GUID_TAILS: Final = (
    bytes.fromhex("00000000 1000 8000 00aa00389b71"),
    bytes.fromhex("00002107 d311 8644 c8c1ca000000"),
)
_NAMES: Final = {2: "MS ADPCM", 6: "A-law", 7: "µ-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x50: "MPEG", 0x55: "MP3"}
_MAX_CHUNKS: Final = 256
_KNOWN_CHUNKS: Final = frozenset(
    {b"fmt ", b"data", b"fact", b"LIST", b"JUNK", b"junk", b"bext", b"cue ", b"PAD ", b"PEAK", b"smpl", b"inst"}
    | {b"iXML", b"axml", b"chna", b"id3 ", b"ID3 ", b"ds64", b"minf", b"elm1", b"DISP", b"FLLR", b"wavl", b"slnt"}
)
# What recorders that write to a pipe put where the data's length belongs lies within this many bytes of 2 or 4 GiB:
# ffmpeg 0xFFFFFFFF, sox 0x7FFFF000, arecord 0x80000000 or 0x7FFFFF00, others 0x7FFFFFFF, some less the header's length.
_STREAMED_WITHIN: Final = 1 << 16
_TAGS: Final = (b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"TAG")  # some players put them behind the last chunk
_BLOCK_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a WAV file says of itself, checked against what is there.

    Attributes:
        encoding: How samples are written; None for what is read by a library (see ``name``).
        name: The encoding for people: ``8 bit PCM``, ``A-law``.
        order: ``<``, or ``>`` for a big-endian file.
        rate_hz, channels: Of the signal.
        offset: Where the samples begin, in bytes from the source's beginning.
        frames: Samples per channel; 0 where ``encoding`` is None.
        unread: Bytes after the data that are no chunks such as writers put there (texts, marks), and aren't read.
    """

    encoding: Encoding | None
    name: str
    order: Literal["<", ">"]
    rate_hz: int
    channels: int
    offset: int
    frames: int
    unread: int = 0

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel."""
        return int((self.encoding or "i2")[1])


class _Format(NamedTuple):
    encoding: Encoding | None
    name: str
    rate_hz: int
    channels: int


def is_wav(head: bytes) -> bool:
    """Return whether the first 12 bytes are a WAV file's."""
    return head[:4] in _MAGIC and head[8:12] == b"WAVE"


def parse_wav(source: ByteSource, begin: int = 0, end: int | None = None) -> WavHeader:
    """Return the header of a WAV file (RIFF, RIFX, RF64 or BW64).

    The data reach to the end of the file where their stated length can't be meant: it is the placeholder of a
    recorder that wrote to a pipe (about 2 or 4 GiB, or 0 in a file whose own length is wrong too), or more than is
    there although the file is as long as it says.

    Args:
        source: Where it is.
        begin: The file's first byte.
        end: The byte after its last.

    Raises:
        FrameRejected: ``not_audio``, ``encoding_unsupported`` or ``truncated``.
    """
    walk = _ChunkReader(source, begin, source.size if end is None else end)
    fmt: _Format | None = None
    for _ in range(_MAX_CHUNKS):
        name, size = walk.chunk()
        if name == b"data":
            return walk.with_data(fmt, size)
        if size > walk.left:
            raise FrameRejected("truncated", f"chunk {name!r} claims {size} bytes; {walk.left} are left")
        if name == b"fmt ":
            fmt = _parse_format(walk.read(min(size, 40)), walk.order)
        elif name == b"ds64" and size >= 16:
            walk.lengths(*struct.unpack("<QQ", walk.read(16)))
        walk.skip(size)
    raise FrameRejected("not_audio", f"no data chunk among the first {_MAX_CHUNKS} chunks")


class _ChunkReader:
    """A walk from chunk to chunk."""

    def __init__(self, source: ByteSource, begin: int, end: int) -> None:
        self._source, self._begin, self._end, self._at = source, begin, end, begin + 12
        head = source.read(begin, 12)
        self.order: Literal["<", ">"] = ">" if head[:4] == b"RIFX" else "<"
        self._riff_bytes = struct.unpack_from(self.order + "I", head, 4)[0] if len(head) == 12 else 0
        self._data_bytes: int | None = None  # where it doesn't fit into the data chunk's own length

    @property
    def left(self) -> int:
        return self._end - self._at

    def read(self, count: int) -> bytes:
        return self._source.read(self._at, min(count, self.left))

    def lengths(self, riff_bytes: int, data_bytes: int) -> None:
        """Take the lengths of 64 bits."""
        self._riff_bytes, self._data_bytes = riff_bytes, data_bytes

    def chunk(self) -> tuple[bytes, int]:
        """Return name and stated length of the chunk that begins here."""
        head = self.read(8)
        if len(head) < 8:
            there = self._end - self._begin
            raise FrameRejected("truncated", f"the file ends after {there} bytes; expected a data chunk first")
        self._at += 8
        return struct.unpack(self.order + "4sI", head)

    def skip(self, size: int) -> None:
        """Go past a chunk and, if its length is odd, the byte that belongs behind it; some writers leave it out."""
        self._at += size
        if size % 2:
            behind = self.read(5)
            left_out = behind[1:5] not in _KNOWN_CHUNKS and (behind[:4] in _KNOWN_CHUNKS or _is_name(behind[:4]))
            self._at += 0 if left_out else 1

    def with_data(self, fmt: _Format | None, stated: int) -> WavHeader:
        """Return the header, its length taken from the data chunk that begins here."""
        if fmt is None:
            raise FrameRejected("not_audio", "the data chunk comes before any fmt chunk")
        if stated == 0xFFFFFFFF and self._data_bytes is not None:
            stated = self._data_bytes
        if self._is_streamed(stated) or self._contradicts(stated):
            stated = self.left
        if stated > self.left:
            raise FrameRejected("truncated", f"the data chunk claims {stated} bytes; {self.left} are there")
        frames = 0 if fmt.encoding is None else stated // (fmt.channels * int(fmt.encoding[1]))
        begin = self._at
        unread = self._unread_after(stated)
        header = WavHeader(fmt.encoding, fmt.name, self.order, fmt.rate_hz, fmt.channels, begin, frames, unread)
        return _justified(self._source, header) if fmt.encoding == "i4low" else header

    def _unread_after(self, size: int) -> int:
        """Return how many bytes after the data, which begin here, are neither chunks of texts and marks nor tags."""
        self.skip(size)
        for _ in range(_MAX_CHUNKS):
            head = self.read(12)
            if len(head) < 8 or head.startswith(_TAGS):
                return 0
            name, size = struct.unpack_from(self.order + "4sI", head)
            if name == b"data" or name in _MAGIC or not _is_name(name):
                return self.left
            if size > self.left - 8:  # cut off, or no chunk
                return 0 if name in _KNOWN_CHUNKS else self.left
            self._at += 8
            self.skip(size)
        return 0

    def _is_streamed(self, stated: int) -> bool:
        """Whether the data's stated length is a placeholder."""
        if stated == 0:
            # An honest empty file may carry further chunks after its data; they are no samples.
            return not self._is_whole()
        if stated <= self.left:
            return False
        return stated >= (1 << 32) - _STREAMED_WITHIN or abs(stated - (1 << 31)) <= _STREAMED_WITHIN

    def _is_whole(self) -> bool:
        """Whether the file is as long as it says; a padding byte may be missing or be left out of the count."""
        return bool(abs(self._stated_end - self._end) <= 1)

    def _contradicts(self, stated: int) -> bool:
        """Whether the data claim to end behind the end that the file claims, and that one is about where it is.

        Of a file that was cut off, the ends agree and both lie behind what is there. A file's own length is often
        written where only what follows belongs, which is 8 bytes less.
        """
        return self._at + stated > max(self._stated_end, self._end) and self._stated_end <= self._end + 8

    @property
    def _stated_end(self) -> int:
        return self._begin + 8 + self._riff_bytes


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _parse_format(chunk: bytes, order: str) -> _Format:
    """Return what a ``fmt`` chunk says."""
    if len(chunk) < 16:
        raise FrameRejected("not_audio", f"the fmt chunk has {len(chunk)} bytes; expected at least 16")
    tag, channels, rate_hz, _, block, bits = struct.unpack_from(order + "HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40:
            raise FrameRejected("not_audio", f"the extensible fmt chunk has {len(chunk)} bytes; expected 40")
        # Fields of the GUID are turned round in a big-endian file; bytes that stand for themselves are not.
        guid = struct.pack("<IHH", *struct.unpack_from(order + "IHH", chunk, 24)) + chunk[32:40]
        if guid[2:] not in _GUID_TAILS:
            raise FrameRejected("encoding_unsupported", f"subformat {guid.hex()}; expected PCM or float")
        tag = struct.unpack_from("<H", guid)[0]
    if channels == 0:
        raise FrameRejected("not_audio", f"0 channels of {bits} bits; expected at least one")
    name = f"format {tag} with {bits} bits"
    if tag not in (_PCM, _FLOAT):
        return _Format(None, _NAMES.get(tag, name), rate_hz, channels)
    return _Format(_encoding(tag, bits, channels, block), f"{bits} bit {_kind_name(tag)}", rate_hz, channels)


def _kind_name(tag: int) -> str:
    return "PCM" if tag == _PCM else "float"


def _encoding(tag: int, bits: int, channels: int, block: int) -> Encoding:
    """Return how samples are written, by their bits and by the bytes of one sample of all channels."""
    if tag == _FLOAT:
        found: Encoding | None = "f4" if bits == 32 else "f8" if bits == 64 else None
    else:
        found = next(
            (name for most, name in ((8, "u1"), (16, "i2"), (24, "i3"), (32, "i4")) if bits <= most),  # type: ignore[misc]
            None,
        )
    if found is None or bits == 0:
        expected = "expected PCM (1) with 1 to 32 bits or float (3) with 32 or 64"
        raise FrameRejected("encoding_unsupported", f"format {tag} with {bits} bits; {expected}")
    needed = channels * int(found[1])
    # Headers written by hand often hold 0, 1 or one channel's bytes; no file can be meant so.
    if block <= needed:
        return found
    if found == "i3" and block == channels * 4:
        return "i4low"
    raise FrameRejected("not_audio", f"{channels} channels of {bits} bits in blocks of {block} bytes don't fit")


def _justified(source: ByteSource, header: WavHeader) -> WavHeader:
    """Tell where in their 4 bytes samples of 24 bit are, by what the other byte holds.

    ALSA writes them into the lower three (S24_LE), Microsoft's specification asks for the upper three.
    """
    step = _BLOCK_BYTES // 4 * 4
    size = header.frames * header.channels * 4
    upper = lower = True
    for at in range(0, size, step):
        block = np.frombuffer(source.read(header.offset + at, min(step, size - at)), header.order + "i4")
        upper = upper and not (block & 0xFF).any()
        lower = lower and bool(((block << 8 >> 8) == block).all())
        if not upper and not lower:
            break
    return header if lower and not upper else replace(header, encoding="i4")


def read_wav(source: ByteSource, header: WavHeader, start: int, count: int) -> NDArray[Any]:
    """Return samples ``[channels, n]`` of the kind ``KINDS[header.encoding]``; floats as they are, finite or not.

    Args:
        source: Where the file is.
        header: Its header; its ``encoding`` is not None.
        start: The first sample.
        count: At most how many.
    """
    assert header.encoding is not None
    step = header.channels * header.sample_bytes
    count = max(0, min(count, header.frames - start))
    # One byte more, before the first sample, for reading three bytes as the upper ones of four.
    data = source.read(header.offset + start * step - 1, count * step + 1)
    return unpacked(data, header.encoding, header.order, header.channels)


def unpacked(data: bytes, encoding: Encoding, order: Literal["<", ">"], channels: int) -> NDArray[Any]:
    """Return interleaved samples as ``[channels, n]`` of the kind ``KINDS[encoding]``.

    Args:
        data: Any byte, then the samples; what is left of the last ones is not looked at.
        encoding: How they are written.
        order: Of their bytes.
        channels: How many.
    """
    count = max(0, len(data) - 1) // (channels * int(encoding[1])) * channels
    flat: NDArray[Any]
    if count == 0:
        flat = np.empty(0, np.int16)
    elif encoding == "i3":
        flat = _upper_three(data, count, order)
    elif encoding == "u1":
        flat = (np.frombuffer(data, "u1", count, 1).astype(np.int16) - 128) << 8
    else:
        flat = np.frombuffer(data, order + encoding[:2], count, 1)
        if encoding == "i4low":
            flat = flat << 8
    dtype = {"pcm16": np.int16, "float32": np.float32}.get(KINDS[encoding], np.int32)
    with np.errstate(over="ignore"):  # a float of 64 bits that becomes an infinity is found as one
        return flat.reshape(-1, channels).T.astype(dtype, order="C", copy=False)


def _upper_three(data: bytes, count: int, order: str) -> NDArray[Any]:
    """Return the packed 24 bit integers that begin at the second byte as int32, shifted to the top."""
    if order == "<":
        # Each as the upper three bytes of four that begin one byte earlier; what that byte held is masked out.
        overlapping: NDArray[np.int32] = np.ndarray((count,), "<i4", data, 0, (3,))
        return overlapping & np.int32(-256)
    padded = np.zeros((count, 4), np.uint8)
    padded[:, :3] = np.frombuffer(data, np.uint8, count * 3, 1).reshape(-1, 3)
    return padded.view(">i4")[:, 0]
