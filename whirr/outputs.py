"""Where a command is to write: looked at before its work begins, so that no work is lost for want of a folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from schemas.errors import SettingsError, WhirrError


def check_file(path: Path, option: str) -> None:
    """Make the folder of a file that is to be written, and try that such a file can be.

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
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass
        if path.exists():
            with path.open("ab"):
                pass
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise SettingsError(f"{option} is {str(path)!r}, which can't be written: {_reason(error)}") from None


def check_folder(path: Path, option: str) -> None:
    """Make a folder that is to be written into, and try that files can be made there.

    Args:
        path: The folder.
        option: That names it, for the message.

    Raises:
        SettingsError: It is a file, or can't be made or written to.
    """
    try:
        if path.exists() and not path.is_dir():
            raise SettingsError(f"{option} is {str(path)!r}, a file; expected a folder")
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".whirr-", dir=path):
            pass
    except (OSError, ValueError) as error:
        raise SettingsError(f"{option} is {str(path)!r}, where no file can be written: {_reason(error)}") from None


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
