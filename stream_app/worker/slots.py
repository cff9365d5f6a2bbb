"""Memory that the worker shares with its computing process: frames cross through it.

Sent through a socket, a batch of two megabytes arrives in dozens of pieces, and whoever takes them in holds up the
computation beside it for each.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence

SLOTS = 2  # one batch being computed, one at hand
SLOT_BYTES = 8 * 1024 * 1024

Place = tuple[int, int] | bytes | None


class SharedSlots:
    """A few slots, each for the values of one batch.

    Args:
        fd: A file of ``SLOTS * SLOT_BYTES``, such as :attr:`fd` of the other side's; it is closed with the object.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, SLOTS * SLOT_BYTES)

    @classmethod
    def create(cls) -> SharedSlots:
        """Return slots in memory of their own; pages that were never used take none.

        Raises:
            OSError: There is no room.
        """
        fd = os.memfd_create("whirr-frames") if hasattr(os, "memfd_create") else _unnamed_file()
        os.ftruncate(fd, SLOTS * SLOT_BYTES)
        return cls(fd)

    def put(self, slot: int, values: Sequence[bytes | None]) -> list[Place]:
        """Copy values into a slot and return where each is; one that has no room left is returned itself."""
        places: list[Place] = []
        start = slot * SLOT_BYTES
        end = start + SLOT_BYTES
        for value in values:
            if value is None or start + len(value) > end:
                places.append(value)
                continue
            stop = start + len(value)
            self._memory[start:stop] = value
            places.append((start, stop))
            start = stop
        return places

    def get(self, place: Place) -> bytes | None:
        """Return the value at a place."""
        if not isinstance(place, tuple):
            return place
        return self._memory[place[0] : place[1]]

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.fd)


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
