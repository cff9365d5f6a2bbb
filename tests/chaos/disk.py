"""A small disk that can be filled to its last byte: a file system in memory, mounted where a spool is."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

SIZE_KB = 2048
BALLAST = "ballast"
CHUNK_BYTES = 4096


class SmallDisk:
    """A folder with little room.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room."""
        file = os.open(self.folder / BALLAST, os.O_WRONLY | os.O_CREAT)
        try:
            for size in (CHUNK_BYTES, 1):
                with contextlib.suppress(OSError):  # no space left on device
                    while True:
                        os.write(file, bytes(size))
        finally:
            os.close(file)

    def clear(self) -> None:
        """Make room again."""
        (self.folder / BALLAST).unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk | None]:
    """Yield a small disk mounted on ``folder`` for as long as the ``with`` block; None if this user may mount none."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KB}k", "whirr-chaos", str(folder)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except OSError:  # no such program
        mounted = False
    try:
        yield SmallDisk(folder) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
