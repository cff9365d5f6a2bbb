"""Folders that a script makes anew each time it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from whirr.errors import WhirrError


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
