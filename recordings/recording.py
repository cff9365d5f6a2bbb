"""Recordings: files of audio or tables of samples, of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recordings.audio import AudioFile, RecordingInfo, unread_words
from recordings.samples import Audio, Float32, as_float, first_not_finite, limited
from recordings.tables import TABLE_SUFFIXES, Table, is_table, read_table
from schemas.errors import FrameRejected, RecordingError

AUDIO_SUFFIXES: Final = (
    ".wav", ".flac", ".ogg", ".mp3", ".wave", ".bwf", ".rf64", ".w64", ".oga", ".opus",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf",
)  # fmt: skip
SUFFIXES: Final = (*AUDIO_SUFFIXES, *TABLE_SUFFIXES)
KINDS: Final = f"{' '.join(AUDIO_SUFFIXES)}, and tables of samples that state their rate ({' '.join(TABLE_SUFFIXES)})"
_LOOKED_AT: Final = 1 << 20  # samples that are looked at for what seems wrong with them
_LOUDEST: Final = 64.0  # floats beyond are hardly meant as shares of full scale
_QUIET: Final = 1 << 23
_LOWER_24_BITS: Final = (
    "32 bit samples that use the lower 24 bits alone; if `arecord -f S24_LE` wrote them, they are read 256 times too "
    "quiet: record S24_3LE or S32_LE"
)


def is_recording(path: Path) -> bool | None:
    """Return whether a file holds samples, by its suffix: audio, or a table of samples that states its rate.

    None for a table that looks like samples, but states no rate.
    """
    suffix = path.suffix.lower()
    return suffix in AUDIO_SUFFIXES or (suffix in TABLE_SUFFIXES and is_table(path))


class RecordingFile:
    """An open recording.

    Args:
        path: The file; audio or a table by its suffix.
        columns: Of a table: the columns to take as channels, in order; empty: those that look like a signal.

    Raises:
        RecordingError: It can't be read, or holds no samples.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self.path = path
        self._audio: AudioFile | None = None
        self._table: Table | None = None
        if path.suffix.lower() in TABLE_SUFFIXES:
            self._table = read_table(path, columns)
            self.info: RecordingInfo = self._table.info
        else:
            self._open_audio()
        if self.info.samples < 1:
            self.close()
            raise RecordingError(f"{path}: holds no samples")

    def _open_audio(self) -> None:
        suffix = self.path.suffix
        if suffix.lower() not in AUDIO_SUFFIXES:
            raise RecordingError(f"{self.path}: suffix {suffix!r}; expected one of {' '.join(SUFFIXES)}")
        try:
            self._audio = AudioFile(self.path)
        except FrameRejected as error:
            raise RecordingError(f"{self.path}: {error.detail}") from None
        self.info = self._audio.info

    def read(self, start: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return samples ``[channels, n]`` of the kind that ``info.kind`` says; fewer than asked for where it ends.

        Args:
            start: The first sample.
            count: At most how many; None: to the end.

        Raises:
            RecordingError: They can't be decoded.
        """
        count = self.info.samples - start if count is None else count
        if self._table is not None:
            return self._table.samples[:, start : start + max(0, count)]
        assert self._audio is not None
        try:
            return self._audio.read(start, count)
        except FrameRejected as error:
            raise RecordingError(f"{self.path}: {error.detail}") from None

    def floats(self, start: int = 0, count: int | None = None) -> Float32:
        """Return samples as float32 ``[channels, n]``, full scale ±1, C order.

        Raises:
            RecordingError: They can't be decoded, or one is NaN or infinite.
        """
        native = self.read(start, count)
        samples = as_float(native, self.info.kind)
        if self.info.kind == "float32":
            if found := first_not_finite(samples):
                raise RecordingError(f"{self.path}: {found}")
            limited(samples)
        return samples

    def warning(self) -> str | None:
        """Say what looks wrong about the samples, though they are read as they are; None if nothing does.

        Raises:
            RecordingError: They can't be decoded.
        """
        if self._audio is None:
            return None
        warnings = [unread_words(self._audio.unread()), self._odd_scale()]
        return "; ".join(filter(None, warnings)) or None

    def _odd_scale(self) -> str | None:
        if self.info.kind not in ("float32", "pcm32"):
            return None
        head = self.read(0, max(1, _LOOKED_AT // self.info.channels))
        if self.info.kind == "float32":
            peak = float(np.max(np.abs(head), initial=0.0))
            scale = "floats of up to {:.4g}, where full scale is 1; were they written at the scale of integers?"
            return scale.format(peak) if np.isfinite(peak) and peak > _LOUDEST else None
        low = bool((head >= -_QUIET).all() and (head < _QUIET).all() and (head & 0xFF).any())
        return _LOWER_24_BITS if low else None

    def close(self) -> None:
        """Close the file."""
        if self._audio is not None:
            self._audio.close()

    def __enter__(self) -> RecordingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def recording_info(path: Path, columns: Sequence[str] = ()) -> RecordingInfo:
    """Return what a recording holds, and what is to be said about it; of audio, little or nothing is decoded for it.

    Raises:
        RecordingError: The file can't be read, or holds no samples.
    """
    with RecordingFile(path, columns) as recording:
        return replace(recording.info, warning=recording.warning())


def read_recording(path: Path | str, columns: Sequence[str] = ()) -> Audio:
    """Return the signal of a recording of any length.

    Raises:
        RecordingError: The file can't be read, holds no samples, or a sample is NaN or infinite.
    """
    with RecordingFile(Path(path), columns) as recording:
        return Audio(recording.floats(), recording.info.rate_hz)
