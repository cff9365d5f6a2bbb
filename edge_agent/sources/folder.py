"""Recordings, one after another."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from edge_agent.block import Block
from recordings import KINDS, Notes, RecordingFile, RecordingInfo, recording_info
from recordings.find import Problem, listed, printable
from recordings.layout import home_machine
from schemas.errors import RecordingError
from whirr.counts import counted

log = logging.getLogger(__name__)
OnError = Literal["skip", "fail"]
Order = Literal["number", "name"]


class PlayedFile(NamedTuple):
    """A file that could be opened."""

    path: Path
    info: RecordingInfo


class FolderSource:
    """Audio files and tables of samples in order, each a recording of its own.

    16 bit and narrower files are read as ``pcm16``, .ogg and .mp3 as well; 24 and 32 bit and float keep their width
    (64 bit float becomes 32). A file that can't be read is named and left, or with ``on_error`` = ``fail`` ends the
    source.

    Args:
        paths: Files, and folders whose audio files (not those of folders within) are taken in ``order``.
        loop: Begin anew after the last file, for ever.
        on_error: What to do about a file that can't be used.
        order: ``number`` sorts a folder by the numbers in its files' names (2 before 10), labels such as ``normal_``
            aside, so what `whirr simulate` wrote comes in the order of time; ``name`` sorts by name alone.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.

    Raises:
        RecordingError: Nothing usable, or a file that can't be used with ``on_error`` = ``fail``.
    """

    live = False

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        loop: bool = False,
        on_error: OnError = "skip",
        order: Order = "number",
        columns: Sequence[str] = (),
    ) -> None:
        self._loop, self._on_error, self._columns = loop, on_error, columns
        self._files_read = 0
        self._damaged: set[Path] = set()
        self._others_damaged = 0  # that are named by their number alone
        self.files = list(self._usable(found(paths, order)))
        if not self.files:
            raise RecordingError(f"no usable audio in {', '.join(map(str, paths))}; expected {KINDS}")
        self.formats = tuple(dict.fromkeys(file.info.format for file in self.files))
        self.duration_s: float | None = sum(file.info.samples / file.info.rate_hz for file in self.files)

    def counts(self) -> dict[str, int]:
        """Return files read (each round anew) and files that were damaged."""
        return {"files_read": self._files_read, "files_damaged": len(self._damaged) + self._others_damaged}

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Yield the files' signal, a second or less at a time."""
        while True:
            heard = False
            for file in self.files:
                for block in self._read(file):
                    heard = True
                    yield block
            if not heard:
                raise RecordingError(f"of {counted(len(self.files), 'file')} none could be read")
            if not self._loop:
                return

    def _usable(self, paths: Iterable[Path | Problem]) -> Iterator[PlayedFile]:
        notes = Notes()
        for path in paths:
            if isinstance(path, Problem):
                self._refuse(Path(path.name), RecordingError(path.reason))
                self._others_damaged += path.count - 1
                continue
            try:
                info = recording_info(path, self._columns)
                yield PlayedFile(path, info)
                notes.add(path.name, info, converted=True)
            except RecordingError as error:
                self._refuse(path, error)
        for line in notes.lines():
            log.warning("%s", line)

    def _read(self, file: PlayedFile) -> Iterator[Block]:
        """Yield one file's signal; its last block ends the recording."""
        path, signal_format, held, heard = file.path, file.info.format, None, 0
        try:
            with RecordingFile(path, self._columns) as recording:
                while (samples := recording.read(heard, signal_format.rate_hz)).shape[1]:
                    if held is not None:
                        yield Block(held, signal_format)
                    held = samples
                    heard += samples.shape[1]
            if heard < file.info.samples:
                raise RecordingError(f"{path}: it ends after {heard} samples; it had {file.info.samples}")
            self._files_read += 1
        except RecordingError as error:
            self._refuse(path, error)
        if held is not None:
            yield Block(held, signal_format, ends_recording=True)

    def _refuse(self, path: Path, error: RecordingError) -> None:
        message = f"{path}: {str(error).removeprefix(f'{path}: ')}"
        if self._on_error == "fail":
            raise RecordingError(message) from None
        if path not in self._damaged:
            log.warning("skipped: %s", message)
        self._damaged.add(path)


def found(paths: Iterable[Path], order: Order = "number") -> Iterator[Path | Problem]:
    """Yield files as given, and folders' recordings in order; and what can't be looked at.

    Raises:
        RecordingError: A path that does not exist.
    """
    for path in paths:
        if path.is_dir():
            names, problems = listed(path, "recordings", deep=False)
            yield from problems
            yield from (path / name for name in (names if order == "number" else sorted(names)))
        elif path.exists():
            yield path  # whatever it is: a pipe is refused when it is looked at
        else:
            raise RecordingError(f"{printable(str(path))} does not exist")


def folder_machine_id(path: Path) -> str | None:
    """Return whose signal a folder or file is: ``pump-1`` for ``pump-1``, ``pump-1/test`` and the files there.

    Raises:
        RecordingError: The folder's name can't be a machine's.
    """
    return home_machine(path if path.is_dir() else path.absolute().parent)
