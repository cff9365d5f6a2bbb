"""FLAC files: the header before anything is decoded, then the samples in blocks within a bound.

The header's layout is RFC 9639, section 8.2 (STREAMINFO); the decoder is libsndfile's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from whirr.errors import FrameRejected

_STREAMINFO_END = 42  # magic 4, block header 4, STREAMINFO 34
_BLOCK_SAMPLES = 1 << 18


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read once from its beginning.

    soundfile seeks to where it stands after every read, which costs time and fails where the length is unknown.
    """

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class FlacHeader:
    """What STREAMINFO says; ``frames`` (samples per channel) is 0 where the encoder did not know."""

    rate_hz: int
    channels: int
    bits: int
    frames: int


def parse_flac(value: bytes) -> FlacHeader:
    """Return the header of a FLAC file.

    Raises:
        FrameRejected: ``truncated``, ``not_audio`` or ``encoding_unsupported``.
    """
    if len(value) < _STREAMINFO_END:
        raise FrameRejected("truncated", f"{len(value)} bytes; a FLAC header has {_STREAMINFO_END}")
    if value[4] & 0x7F != 0 or value[5:8] != b"\x00\x00\x22":
        raise FrameRejected("not_audio", f"the FLAC's first block is {value[4:8].hex()}; expected STREAMINFO")
    packed = int.from_bytes(value[18:26], "big")
    bits = (packed >> 36 & 0x1F) + 1
    if bits not in (16, 24):
        raise FrameRejected("encoding_unsupported", f"FLAC with {bits} bits; expected 16 or 24")
    return FlacHeader(packed >> 44, (packed >> 41 & 0x7) + 1, bits, packed & 0xFFFFFFFFF)


def read_flac(value: bytes, header: FlacHeader, max_frames: int) -> NDArray[np.float32]:
    """Return the samples, float32 ``[channels, n]``, full scale ±1.

    At most ``max_frames`` + 1 samples per channel are decoded, whatever the header says: one more than allowed,
    so that the caller sees the excess. What follows the samples that the header counts is not looked at, as with
    the bytes behind a WAV's data.

    Raises:
        FrameRejected: ``not_audio`` or ``truncated``.
    """
    wanted = min(header.frames or max_frames + 1, max_frames + 1)
    try:
        with _Stream(io.BytesIO(value)) as file:
            if (file.format, file.channels, file.samplerate) != ("FLAC", header.channels, header.rate_hz):
                raise FrameRejected("not_audio", f"decodes as {file.format}, {file.channels} channels")
            samples = _read_blocks(file, wanted)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise FrameRejected("not_audio", f"the FLAC can't be decoded: {error}"[:300]) from None
    if len(samples) < header.frames and len(samples) < wanted:
        raise FrameRejected("truncated", f"the header says {header.frames} samples; {len(samples)} decode")
    return np.ascontiguousarray(samples.T)


def _read_blocks(file: soundfile.SoundFile, wanted: int) -> NDArray[np.float32]:
    """Return up to ``wanted`` samples per channel, ``[n, channels]``; memory grows with what is really there."""
    blocks = []
    left = wanted
    while left > 0:
        block = file.read(min(left, max(1, _BLOCK_SAMPLES // file.channels)), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block)
        left -= len(block)
    if len(blocks) == 1:
        return blocks[0]  # type: ignore[no-any-return]
    return np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)
