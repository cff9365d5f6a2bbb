"""Audio files, one after another."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from edge_agent.stretch import SampleKind, SignalFormat, Stretch
from whirr.errors import RecordingError

log = logging.getLogger(__name__)
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
OnError = Literal["skip", "fail"]
Order = Literal["number", "name"]

# Subtypes that a frame can hold as they are. Narrower ones widen to 16 bit without loss; lossy ones are decoded to it.
_KINDS: dict[str, SampleKind] = {
    "PCM_24": "pcm24",
    "PCM_32": "pcm32",
    "FLOAT": "float32",
    "DOUBLE": "float32",
}
_LOSSY = ("VORBIS", "OPUS", "MPEG")
_LABEL = re.compile(r"^(normal|anomaly|anomalous)[_-]")


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A file that could be opened."""

    path: Path
    format: SignalFormat
    frames: int


class FolderSource:
    """Audio files in order, each a recording of its own.

    16 bit and narrower files are read as ``pcm16``, .ogg and .mp3 as well; 24 and 32 bit and float keep their width
    (64 bit float becomes 32). A file that can't be read, or that ends before its header says, is named and left from
    there on, or with ``on_error`` = ``fail`` ends the source.

    Args:
        paths: Files, and folders whose audio files (not those of folders within) are taken in ``order``.
        loop: Begin anew after the last file, for ever.
        on_error: What to do about a file that can't be used.
        order: ``number`` sorts a folder by the numbers in its files' names (2 before 10) and past a leading label such
            as ``normal_``, so what `whirr simulate` wrote comes in the order of time; ``name`` sorts by name alone.

    Raises:
        RecordingError: Nothing usable, or a file that can't be used with ``on_error`` = ``fail``.
    """

    live = False

    def __init__(
        self, paths: Sequence[Path], *, loop: bool = False, on_error: OnError = "skip", order: Order = "number"
    ) -> None:
        self._loop, self._on_error = loop, on_error
        self._files_read = 0
        self._damaged: set[Path] = set()
        self.files = list(self._usable(found(paths, order)))
        if not self.files:
            raise RecordingError(
                f"no usable audio in {', '.join(map(str, paths))}; expected .wav .flac .ogg .mp3 files"
            )
        self.formats = tuple(dict.fromkeys(file.format for file in self.files))
        self.duration_s: float | None = sum(file.frames / file.format.rate_hz for file in self.files)

    def counts(self) -> dict[str, int]:
        """Return files read (each round anew) and files that were damaged."""
        return {"files_read": self._files_read, "files_damaged": len(self._damaged)}

    async def __aiter__(self) -> AsyncIterator[Stretch]:
        """Yield the files' signal, a second or less at a time."""
        while True:
            heard = False
            for file in self.files:
                for stretch in self._read(file):
                    heard = True
                    yield stretch
            if not heard:
                raise RecordingError(f"none of {len(self.files)} files could be read")
            if not self._loop:
                return

    def _usable(self, paths: Iterable[Path]) -> Iterator[AudioFile]:
        for path in paths:
            try:
                with soundfile.SoundFile(path) as file:
                    audio = AudioFile(
                        path, SignalFormat(file.samplerate, file.channels, sample_kind(file)), file.frames
                    )
                if audio.frames < 1:
                    raise RecordingError("it has no samples")
                yield audio
            except (soundfile.SoundFileError, OSError, RuntimeError, RecordingError) as error:
                self._refuse(path, error)

    def _read(self, audio: AudioFile) -> Iterator[Stretch]:
        """Yield one file's signal; its last stretch ends the recording."""
        rate_hz, held, heard = audio.format.rate_hz, None, 0
        try:
            with soundfile.SoundFile(audio.path) as file:
                while (samples := read_samples(file, rate_hz)).shape[1]:
                    if held is not None:
                        yield Stretch(held, audio.format)
                    held = samples
                    heard += samples.shape[1]
            if heard < audio.frames and not _lossy(file.subtype):
                raise RecordingError(f"it ends after {heard} samples; its header says {audio.frames}")
            self._files_read += 1
        except (soundfile.SoundFileError, OSError, RuntimeError, RecordingError) as error:
            self._refuse(audio.path, error)
        if held is not None:
            yield Stretch(held, audio.format, ends_recording=True)

    def _refuse(self, path: Path, error: Exception) -> None:
        message = f"{path}: {_reason(error)}"
        if self._on_error == "fail":
            raise RecordingError(message) from None
        if path not in self._damaged:
            log.warning("skipped: %s", message)
        self._damaged.add(path)


def found(paths: Iterable[Path], order: Order = "number") -> Iterator[Path]:
    """Yield files as given, and folders' audio files in order.

    Raises:
        RecordingError: A path that does not exist.
    """
    for path in paths:
        if path.is_dir():
            files = (file for file in path.iterdir() if file.suffix.lower() in AUDIO_SUFFIXES)
            yield from sorted(files, key=_by_number if order == "number" else _by_name)
        elif path.is_file():
            yield path
        else:
            raise RecordingError(f"{path} does not exist")


def folder_machine_id(path: Path) -> str:
    """Return whose signal a folder or file is: ``pump-1`` for ``pump-1``, ``pump-1/test`` and the files there."""
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return folder.parent.name if folder.name in ("train", "test") else folder.name


def _by_name(path: Path) -> tuple[Any, ...]:
    return (path.name,)


def _by_number(path: Path) -> tuple[Any, ...]:
    parts = re.split(r"(\d+)", _LABEL.sub("", path.stem))
    return (*((int(part), "") if part.isdecimal() else (-1, part) for part in parts if part), (-2, path.name))


def sample_kind(file: Any) -> SampleKind:
    """Return the kind of number that an open file's samples are read as."""
    return _KINDS.get(file.subtype, "pcm16")


def _lossy(subtype: str) -> bool:
    return subtype.startswith(_LOSSY)


def read_samples(file: Any, most: int) -> npt.NDArray[Any]:
    """Return the file's next samples, ``[channels, n]``, ``n`` at most ``most``, of its kind's type."""
    kind = sample_kind(file)
    if kind == "float32" or _lossy(file.subtype):
        samples = file.read(most, dtype="float32", always_2d=True).T
        # A lossy decoder may overshoot full scale; converted by the library, that would wrap around.
        if kind == "pcm16":
            samples = np.rint(np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16)
        return np.asarray(samples)
    return np.asarray(file.read(most, dtype="int16" if kind == "pcm16" else "int32", always_2d=True).T)


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, without the library's own prefix (it repeats the path)."""
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".") or type(error).__name__
