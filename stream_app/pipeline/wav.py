"""WAV files: a walk through the RIFF chunks that believes no length before it has checked it.

Layout as in Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and, for
WAVE_FORMAT_EXTENSIBLE, "Multiple channel audio data and WAVE files".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whirr.errors import FrameRejected

_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
# The last 14 bytes of an extensible format's GUID; the first two hold the plain format tag.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_MAX_CHUNKS = 256
# What recorders that write to a pipe put where the data's length belongs: ffmpeg, arecord (two versions), sox.
_STREAMED_BYTES = (0xFFFFFFFF, 0x80000000, 0x7FFFFF00, 0x7FFFF000)


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a WAV file says of itself, checked against what is there.

    Attributes:
        encoding: ``i2``, ``i3`` (24 bit), ``i4`` or ``f4``.
        rate_hz, channels: Of the signal.
        offset: Where the samples begin, in bytes.
        frames: Samples per channel.
    """

    encoding: str
    rate_hz: int
    channels: int
    offset: int
    frames: int


def parse_wav(value: bytes) -> WavHeader:
    """Return the header of a WAV file.

    A data chunk whose stated length is the placeholder of a recorder that wrote to a pipe (0 in a file whose RIFF
    length is wrong too, 0xFFFFFFFF, or sox's and arecord's 2 GiB) reaches to the end of the file.

    Raises:
        FrameRejected: ``not_audio``, ``encoding_unsupported`` or ``truncated``.
    """
    fmt: tuple[str, int, int] | None = None
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(value):
            raise FrameRejected("truncated", f"the file ends after {len(value)} bytes; expected a data chunk first")
        name, size = struct.unpack_from("<4sI", value, position)
        position += 8
        if name == b"data":
            return _with_data(value, fmt, position, size)
        if position + size > len(value):
            left = len(value) - position
            raise FrameRejected("truncated", f"chunk {name!r} claims {size} bytes; {left} are left")
        if name == b"fmt ":
            fmt = _parse_format(value[position : position + min(size, 40)])
        position += size + size % 2
    raise FrameRejected("not_audio", f"no data chunk among the first {_MAX_CHUNKS} chunks")


def read_wav(value: bytes, header: WavHeader) -> NDArray[np.float32]:
    """Return the samples, float32 ``[channels, n]``, full scale ±1; floats as they are, finite or not."""
    count = header.frames * header.channels
    if header.encoding == "i3":
        # Each sample as the upper three bytes of four that begin one byte earlier; what that byte held is masked out.
        overlapping: NDArray[np.int32] = np.ndarray((count,), "<i4", value, header.offset - 1, (3,))
        raw: NDArray[np.generic] = overlapping & np.int32(-256)
    else:
        raw = np.frombuffer(value, "<" + header.encoding, count, header.offset)
    interleaved = raw.reshape(header.frames, header.channels).T
    samples: NDArray[np.float32] = interleaved.astype(np.float32, order="C")
    if header.encoding != "f4":
        samples *= np.float32(2.0**-15 if header.encoding == "i2" else 2.0**-31)
    return samples


def _parse_format(chunk: bytes) -> tuple[str, int, int]:
    """Return encoding, rate and channels of a ``fmt`` chunk."""
    if len(chunk) < 16:
        raise FrameRejected("not_audio", f"the fmt chunk has {len(chunk)} bytes; expected at least 16")
    tag, channels, rate_hz, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40:
            raise FrameRejected("not_audio", f"the extensible fmt chunk has {len(chunk)} bytes; expected 40")
        if chunk[26:40] != _GUID_TAIL:
            raise FrameRejected("encoding_unsupported", f"subformat {chunk[24:40].hex()}; expected PCM or float")
        tag = struct.unpack_from("<H", chunk, 24)[0]
    encoding = {(_PCM, 16): "i2", (_PCM, 24): "i3", (_PCM, 32): "i4", (_FLOAT, 32): "f4"}.get((tag, bits))
    if encoding is None:
        expected = "expected PCM (1) with 16, 24 or 32 bits or float (3) with 32"
        raise FrameRejected("encoding_unsupported", f"format {tag} with {bits} bits; {expected}")
    if channels == 0 or block != channels * bits // 8:
        raise FrameRejected("not_audio", f"{channels} channels of {bits} bits in blocks of {block} bytes don't fit")
    return encoding, rate_hz, channels


def _with_data(value: bytes, fmt: tuple[str, int, int] | None, offset: int, stated: int) -> WavHeader:
    """Return the header, its length taken from the data chunk that begins at ``offset``."""
    if fmt is None:
        raise FrameRejected("not_audio", "the data chunk comes before any fmt chunk")
    encoding, rate_hz, channels = fmt
    block = channels * int(encoding[1])
    there = len(value) - offset
    if _is_streamed(value, stated, block):
        stated = there
    if stated > there:
        raise FrameRejected("truncated", f"the data chunk claims {stated} bytes; {there} are there")
    return WavHeader(encoding, rate_hz, channels, offset, stated // block)


def _is_streamed(value: bytes, stated: int, block: int) -> bool:
    """Whether the data's stated length is a placeholder."""
    if stated == 0:
        # An honest empty file may carry further chunks after its data; they are no samples.
        return bool(struct.unpack_from("<I", value, 4)[0] + 8 != len(value))
    return any(stated in (unknown, unknown - unknown % block) for unknown in _STREAMED_BYTES)
