"""Finding: which files of a folder may be recordings, in which order, and which can't be looked at."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from recordings.name_words import unlabelled
from recordings.recording import SUFFIXES, is_recording
from recordings.tables import NO_RATE
from schemas.errors import RecordingError

# Control characters, and halves of surrogate pairs (bytes that are no UTF-8), have no place in the name of a recording.
# Whatever else may be in it is shown, and written to pages, as data.
_UNFIT: Final = frozenset({"Cc", "Cs"})
_SPECIAL: Final = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was not used, and why. The name is fit to be printed, whatever the file's own is.

    Where many files have one reason, it names the first, and ``count`` says how many there are.
    """

    name: str
    reason: str
    count: int = 1


def checked_folder(folder: Path, expected: str) -> Path:
    """Return a folder of recordings.

    Raises:
        RecordingError: There is no such folder, or its path isn't UTF-8.
    """
    if not folder.is_dir():
        raise RecordingError(f"{printable(str(folder))!r} is no folder; expected one with {expected}")
    if any(unicodedata.category(char) == "Cs" for char in str(folder.absolute())):
        raise RecordingError(f"folder {printable(str(folder.absolute()))!r}: its path isn't UTF-8; rename it")
    return folder


def listed(folder: Path, expected: str, *, deep: bool = True) -> tuple[list[str], list[Problem]]:
    """Return the names of a folder's recordings in order (see :func:`sort_key`), and what can't be looked at.

    Args:
        folder: Where to look: see :func:`walk`.
        expected: What it is expected to hold, for the message if it is no folder.
        deep: Search the folders in it too.

    Raises:
        RecordingError: There is no such folder, or its path isn't UTF-8.
    """
    walked = list(walk(checked_folder(folder, expected), deep=deep))
    names = sorted((one for one in walked if isinstance(one, str)), key=sort_key)
    return names, [one for one in walked if isinstance(one, Problem)]


def walk(
    folder: Path,
    suffixes: Collection[str] = SUFFIXES,
    wanted: Callable[[Path], bool | None] | None = is_recording,
    *,
    deep: bool = True,
    leave: Path | None = None,
) -> Iterator[str | Problem]:
    """Yield the names of a folder's recordings, relative to it and with forward slashes, and what can't be looked at.

    Hidden files and folders are left alone. Links are followed, but none into the folder itself or to one that was
    searched already. What has one of the suffixes but is no file (devices, FIFOs, links to nothing), names that aren't
    UTF-8 or hold control characters, and folders that can't be read are problems. So are, as one, the tables that look
    like samples and state no rate.

    Args:
        folder: Where to look.
        suffixes: Of the files that may be recordings, in lower case.
        wanted: Says of such a file, which may be opened, whether it is a recording, or None: it would be,
            if it stated its rate. None in its place: they all are.
        deep: Search the folders in it too.
        leave: A folder to leave alone.
    """
    root = os.path.realpath(folder)
    searched = {_identity(root)}
    left = None if leave is None else os.path.realpath(leave)
    folders: list[tuple[str, str]] = [("", os.fspath(folder))]
    no_rate: list[str] = []
    while folders:
        inside, path = folders.pop()
        try:
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: sort_key(entry.name))
        except OSError as error:
            yield Problem(printable(inside) or ".", f"this folder can't be read ({error.strerror})")
            continue
        within = []
        for entry in found:
            name = f"{inside}{entry.name}"
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                if PurePosixPath(entry.name).suffix.lower() in suffixes:
                    yield from _file(entry, name, wanted, no_rate)
            elif deep and os.path.realpath(entry.path) != left:
                if problem := _folder_problem(entry, name, root, searched):
                    yield problem
                else:
                    searched.add(_identity(entry.path))
                    within.append((f"{name}/", entry.path))
        folders += reversed(within)
    yield from _unrated(no_rate)


def sort_key(name: str) -> str:
    """Return a text that sorts as recordings do: folder by folder, ``clip9`` before ``clip10``, labels aside."""
    head, _, file = name.rpartition("/")
    path = PurePosixPath(file)
    parts = [*(head.split("/") if head else ()), f"{unlabelled(path.stem)}{path.suffix}", name]
    return "\x01".join(re.sub(r"[0-9]+", _number, part) for part in parts)


def printable(name: str) -> str:
    r"""Return a name as text that can be printed: bytes that are no UTF-8 and control characters as ``\xff``."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNFIT else char for char in text
    )


def _unrated(names: list[str]) -> Iterator[Problem]:
    """Yield one problem for all tables that state no rate."""
    if len(names) == 1:
        yield Problem(printable(names[0]), f"holds numbers but {NO_RATE}")
    elif names:
        reason = f"hold numbers but {NO_RATE.replace('states', 'state', 1)}"
        yield Problem(f"{printable(names[0])} and {len(names) - 1} more", reason, len(names))


def _number(digits: re.Match[str]) -> str:
    value = digits[0].lstrip("0")
    return f"\x02{len(value):03}{value}"


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _unfit(name: str) -> str | None:
    unfit = next((char for char in name if unicodedata.category(char) in _UNFIT), None)
    if unfit is None:
        return None
    return "its name isn't UTF-8" if unicodedata.category(unfit) == "Cs" else "its name holds a control character"


def _file(
    entry: os.DirEntry[str], name: str, wanted: Callable[[Path], bool | None] | None, no_rate: list[str]
) -> Iterator[str | Problem]:
    """Yield the name of a file that is a recording, or what is wrong with one that should be.

    One that would be if it stated its rate is added to ``no_rate``.
    """
    try:
        kind = entry.stat().st_mode
    except OSError as error:
        broken = "a link to nothing" if entry.is_symlink() else f"can't be looked at ({error.strerror})"
        yield Problem(printable(name), broken)
        return
    if not stat.S_ISREG(kind):
        what = next((text for test, text in _SPECIAL if test(kind)), "something else")
        yield Problem(printable(name), f"{what}; expected a file")
        return
    is_wanted = wanted is None or wanted(Path(entry.path))
    if is_wanted is None:
        no_rate.append(name)
    elif is_wanted:
        reason = _unfit(entry.name)
        yield Problem(printable(name), f"{reason}; rename it") if reason else name


def _folder_problem(entry: os.DirEntry[str], name: str, root: str, searched: set[tuple[int, int]]) -> Problem | None:
    if reason := _unfit(entry.name):
        return Problem(printable(name), f"a folder {reason.replace('its', 'whose')}; rename it")
    if not entry.is_symlink():
        return None
    real = os.path.realpath(entry.path)
    if os.path.commonpath([real, root]) in {real, root} or _identity(real) in searched:
        return Problem(printable(name), f"a link to {printable(real)!r}, which is searched anyhow")
    return None
