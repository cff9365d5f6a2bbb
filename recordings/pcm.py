"""Raw PCM: bytes without a header, as ``arecord -t raw`` writes them."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from numpy.typing import NDArray

from recordings.samples import SampleKind
from recordings.wav import KINDS, Encoding, unpacked


class PcmFormat(NamedTuple):
    """How samples are written, as in a WAV file; ``order`` is ``>`` for big-endian ones."""

    encoding: Encoding
    order: Literal["<", ">"]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel."""
        return int(self.encoding[1])

    @property
    def kind(self) -> SampleKind:
        """What samples are read as."""
        return KINDS[self.encoding]


# As ALSA names them (`arecord -f`). It leaves open what the upper byte of 24 bit in 4 bytes holds.
PCM_FORMATS: Final[dict[str, PcmFormat]] = {
    "S16_LE": PcmFormat("i2", "<"),
    "S24_3LE": PcmFormat("i3", "<"),
    "S24_LE": PcmFormat("i4low", "<"),
    "S32_LE": PcmFormat("i4", "<"),
    "FLOAT_LE": PcmFormat("f4", "<"),
    "S16_BE": PcmFormat("i2", ">"),
    "S24_3BE": PcmFormat("i3", ">"),
    "S24_BE": PcmFormat("i4low", ">"),
    "S32_BE": PcmFormat("i4", ">"),
    "FLOAT_BE": PcmFormat("f4", ">"),
}
_OLD_NAMES: Final = {"s16le": "S16_LE", "s24le": "S24_3LE", "s32le": "S32_LE", "f32le": "FLOAT_LE"}


def pcm_format(name: str) -> PcmFormat | None:
    """Return the format of a name, ALSA's in any case or one of version 0.1 (``s16le``); None for an unknown one."""
    return PCM_FORMATS.get(_OLD_NAMES.get(name.lower(), name.upper()))


def samples_of(data: bytes, written: PcmFormat, channels: int) -> NDArray[Any]:
    """Return interleaved bytes, a whole number of samples, as ``[channels, n]`` of the type that the kind says."""
    return unpacked(b"\0" + data, written.encoding, written.order, channels)
