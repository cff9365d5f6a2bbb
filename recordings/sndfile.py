"""What libsndfile decodes: FLAC, Ogg, MP3, AIFF, AU, Wave64, Core Audio, and compressed WAV."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from recordings.samples import SampleKind

BLOCK_SAMPLES: Final = 1 << 18  # over all channels: what is decoded at once, whatever a header claims
# What the library raises about bytes that it can't decode; its own errors are RuntimeErrors.
ERRORS: Final = (soundfile.SoundFileError, RuntimeError, ValueError, OSError, OverflowError, TypeError)
# Subtypes that a frame can hold as they are. Narrower ones widen to 16 bit without loss; lossy ones are decoded to it.
_KINDS: Final[dict[str, SampleKind]] = {
    "PCM_24": "pcm24",
    "PCM_32": "pcm32",
    "ALAC_20": "pcm24",
    "ALAC_24": "pcm24",
    "ALAC_32": "pcm32",
    "FLOAT": "float32",
    "DOUBLE": "float32",
}
_DTYPES: Final = {"pcm16": "int16", "pcm24": "int32", "pcm32": "int32", "float32": "float32"}
_LOSSY: Final = ("VORBIS", "OPUS", "MPEG")
# Formats that the library takes for what has no header of its own: any bytes would do.
_HEADERLESS: Final = frozenset({"RAW", "SD2", "MAT4", "MAT5"})


class _ForwardOnlyFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read once from its beginning.

    soundfile seeks to where it stands after every read, which costs time, fails where the length is unknown, and
    changes what an MP3 decodes to.
    """

    def seekable(self) -> bool:
        return False


class SndFile:
    """An open sound file.

    Attributes:
        rate_hz, channels: Of the signal.
        claimed: Samples per channel, as the library has it from the header; may be wrong.
        kind: What its samples are read as.
        seekable: Whether the library finds any place by itself.
        lossy: Whether it was compressed with loss.
        name: The encoding for people.

    Raises:
        RuntimeError: or another of :data:`ERRORS`: it can't be opened.
    """

    def __init__(self, file: Path | io.RawIOBase | io.BytesIO) -> None:
        # As bytes, since a name need not be UTF-8.
        self._source = os.fsencode(file) if isinstance(file, Path) else file
        self._file = self._open()
        self.format: str = self._file.format
        if self.format in _HEADERLESS:
            self.close()
            raise RuntimeError("Format not recognised.")
        self.rate_hz, self.channels, self.claimed = int(self._file.samplerate), self._file.channels, self._file.frames
        subtype = str(self._file.subtype)
        self.lossy = subtype.startswith(_LOSSY)
        self.kind: SampleKind = _KINDS.get(subtype, "pcm16")
        self.name = f"{self.format} {subtype}" if subtype != "MPEG_LAYER_III" else "MP3"
        self.seekable = bool(soundfile.SoundFile.seekable(self._file))
        self._at = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> SndFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reaches(self, sample: int) -> bool:
        """Return whether there is such a sample; afterwards, the file stands at its beginning.

        A file that ends before its header says it does can't be read there; nothing is decoded on the way.
        """
        try:
            self._file.seek(sample)
            found = len(self._file.read(1)) == 1
        except ERRORS:
            found = False
        self._reopen()
        return found

    def seek(self, sample: int) -> None:
        """Go to a sample."""
        if sample != self._at:
            self._file.seek(sample)
            self._at = sample

    def skip_to(self, sample: int) -> None:
        """Go to a sample by decoding what lies before it, as has to be where a decoder can't be trusted to find it."""
        if sample < self._at:
            self._reopen()
        while self._at < sample and self.read(min(sample - self._at, self._most)).shape[1]:
            pass

    def read(self, count: int) -> NDArray[Any]:
        """Return the next samples, ``[channels, n]`` of the file's kind, ``n`` at most ``count``.

        Memory grows with what is really there.
        """
        blocks = list(self._blocks(count))
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks, axis=1) if blocks else np.empty((self.channels, 0), _DTYPES[self.kind])

    def count(self) -> int:
        """Return how many samples per channel decode, at all; afterwards, the file stands at its beginning."""
        self._reopen()
        total = 0
        while n := len(self._file.read(self._most, dtype=_DTYPES[self.kind], always_2d=True)):
            total += n
        self._reopen()
        return total

    @property
    def _most(self) -> int:
        return int(max(1, BLOCK_SAMPLES // self.channels))

    def _blocks(self, count: int) -> Iterator[NDArray[Any]]:
        while count > 0:
            block = self._converted(min(count, self._most))
            if block.shape[1] == 0:
                return
            self._at += block.shape[1]
            count -= block.shape[1]
            yield block

    def _converted(self, count: int) -> NDArray[Any]:
        if not self.lossy:
            samples = np.asarray(self._file.read(count, dtype=_DTYPES[self.kind], always_2d=True))
            return np.ascontiguousarray(samples.T)
        floats = self._file.read(count, dtype="float32", always_2d=True).T
        # A lossy decoder may overshoot full scale; converted by the library, that would wrap around.
        whole = np.rint(np.clip(np.nan_to_num(floats), -1, 32767 / 32768) * 32768)
        return np.asarray(whole, np.int16, order="C")

    def _open(self) -> Any:
        if not isinstance(self._source, bytes):
            self._source.seek(0)
        return _ForwardOnlyFile(self._source)

    def _reopen(self) -> None:
        self._file.close()
        self._file = self._open()
        self._at = 0
