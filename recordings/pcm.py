"""Raw PCM: bytes without a header, as ``arecord -t raw`` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recordings.samples import SampleKind


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """How a sample is written: its numpy type, ``i3`` for 24 bit in 3 bytes, and what it is read as.

    Attributes:
        dtype: As numpy names it.
        sample_bytes: Of one sample of one channel.
        kind: What samples are read as.
        lower: Whether 24 bit are in the lower three of four bytes.
    """

    dtype: str
    sample_bytes: int
    kind: SampleKind
    lower: bool = False


# As ALSA names them (`arecord -f`).
PCM_FORMATS: Final[dict[str, PcmFormat]] = {
    "S16_LE": PcmFormat("<i2", 2, "pcm16"),
    "S24_3LE": PcmFormat("<i3", 3, "pcm24"),
    "S24_LE": PcmFormat("<i4", 4, "pcm24", lower=True),
    "S32_LE": PcmFormat("<i4", 4, "pcm32"),
    "FLOAT_LE": PcmFormat("<f4", 4, "float32"),
    "S16_BE": PcmFormat(">i2", 2, "pcm16"),
    "S24_3BE": PcmFormat(">i3", 3, "pcm24"),
    "S24_BE": PcmFormat(">i4", 4, "pcm24", lower=True),
    "S32_BE": PcmFormat(">i4", 4, "pcm32"),
    "FLOAT_BE": PcmFormat(">f4", 4, "float32"),
}
_OLD_NAMES: Final = {"s16le": "S16_LE", "s24le": "S24_3LE", "s32le": "S32_LE", "f32le": "FLOAT_LE"}


def pcm_format(name: str) -> PcmFormat | None:
    """Return the format of a name, ALSA's in any case or one of version 0.1 (``s16le``); None for an unknown one."""
    return PCM_FORMATS.get(_OLD_NAMES.get(name.lower(), name.upper()))


def samples_of(data: bytes, written: PcmFormat, channels: int) -> NDArray[Any]:
    """Return interleaved bytes, a whole number of samples, as ``[channels, n]`` of the type that the kind says."""
    order = written.dtype[0]
    flat: NDArray[Any]
    if written.sample_bytes == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3)
        padded[:, 1:] = raw if order == "<" else raw[:, ::-1]
        flat = padded.view("<i4")[:, 0]
    else:
        flat = np.frombuffer(data, written.dtype)
        if written.lower:
            flat = flat << 8  # ALSA leaves open what the upper byte holds
    dtype = {"pcm16": np.int16, "float32": np.float32}.get(written.kind, np.int32)
    return flat.astype(dtype, copy=False).reshape(-1, channels).T
