"""Files that are written: where they go is looked at before the work begins, and each appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from schemas.errors import SettingsError, WhirrError


def check_file(path: Path, option: str) -> None:
    """Try that a file can be written, and leave nothing behind: :func:`replacing` makes its folder.

    Args:
        path: The file; it is left as it is.
        option: That names it, for the message.

    Raises:
        SettingsError: It is a folder or no ordinary file, its name can't be, or its folder can't be made or written to.
    """
    try:
        if path.is_dir():
            raise SettingsError(f"{option} is {str(path)!r}, a folder; expected a file")
        if path.exists() and not path.is_file():
            raise SettingsError(f"{option} is {str(path)!r}, a device or pipe; expected a file")
        with _there(path.parent), tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass
        if path.exists():
            with path.open("ab"):
                pass
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise SettingsError(f"{option} is {str(path)!r}, which can't be written: {_reason(error)}") from None


def check_folder(path: Path, option: str) -> None:
    """Try that files can be made in a folder that is to be written into, and leave nothing behind.

    Args:
        path: The folder; whoever writes makes it.
        option: That names it, for the message.

    Raises:
        SettingsError: It is a file, or can't be made or written to.
    """
    try:
        if path.exists() and not path.is_dir():
            raise SettingsError(f"{option} is {str(path)!r}, a file; expected a folder")
        with _there(path), tempfile.NamedTemporaryFile(prefix=".whirr-", dir=path):
            pass
    except (OSError, ValueError) as error:
        raise SettingsError(f"{option} is {str(path)!r}, where no file can be written: {_reason(error)}") from None


@contextmanager
def _there(folder: Path) -> Iterator[None]:
    """Make a folder for the time being."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # another process may have put something there
            for one in missing:
                one.rmdir()


@contextmanager
def replacing(path: Path, *, text: bool = False, durable: bool = False, unfinished: str = "") -> Iterator[IO[Any]]:
    """Yield a file that takes its name, in place of one that had it, when it is complete, or else is gone.

    By hand, since the one library for it (atomicwrites) is given up by its author.

    Args:
        path: Its name; the folder is made.
        text: Whether it takes text, as UTF-8, in place of bytes.
        durable: Whether it is complete after a power cut, too; that waits for the disk.
        unfinished: Name of the file while it is written; default: hidden, of this process.

    Raises:
        OSError: It can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(unfinished or f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w" if text else "wb", encoding="utf-8" if text else None) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def make_anew(out: Path, script: str) -> Path:
    """Make ``out`` an empty folder, and return it.

    Raises:
        WhirrError: It holds something that ``script`` did not put there.
    """
    mark = out / f".whirr-{script}"
    if out.exists() and not out.is_dir():
        raise WhirrError(f"{out} is a file; expected a folder")
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise WhirrError(f"{out} holds something that the {script} did not put there; choose another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    mark.touch()
    return out


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
