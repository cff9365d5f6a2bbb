"""Where the bytes of a recording are: in memory, or in a file that is read at any place."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from schemas.errors import RecordingError

_ID3V1_BYTES: Final = 128
_MOST_TAGS: Final = 16


class ByteSource(Protocol):
    """Bytes that can be read at any place; ``size`` is how many there are."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def read(self, at: int, count: int) -> bytes:
        """Return up to ``count`` bytes from the place ``at``; fewer where it ends."""
        ...


class Value:
    """Bytes in memory."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.size = len(value)

    def read(self, at: int, count: int) -> bytes:
        """Return bytes of the value."""
        return self.value[at : at + count]


class File:
    """A regular file, open until it is closed.

    Raises:
        RecordingError: It is missing, can't be opened, or is no regular file: a pipe would be waited for without end.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Without O_NONBLOCK the open of a FIFO waits for a writer.
            self._number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            what = "no such file" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
            raise RecordingError(f"{path}: {what}") from None
        except ValueError as error:  # a NUL in the name
            raise RecordingError(f"{path}: can't be read ({error})") from None
        status = os.fstat(self._number)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._number)
            raise RecordingError(f"{path}: no regular file")
        self.size = status.st_size

    def read(self, at: int, count: int) -> bytes:
        """Return bytes of the file."""
        found = bytearray()
        while count > 0 and (some := os.pread(self._number, min(count, 1 << 24), at)):
            found += some
            at += len(some)
            count -= len(some)
        return bytes(found)

    def close(self) -> None:
        """Close the file."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RangeFile(io.RawIOBase):
    """Part of a source as a file, for a library that reads from a file's beginning to its end."""

    def __init__(self, source: ByteSource, begin: int, end: int) -> None:
        self._source, self._begin, self._end, self._at = source, begin, end, begin

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: self._begin, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = min(max(base + offset, self._begin), self._end)
        return self._at - self._begin

    def tell(self) -> int:
        """Return the place."""
        return self._at - self._begin

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer."""
        data = self._source.read(self._at, min(len(buffer), self._end - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def extent(source: ByteSource) -> tuple[int, int]:
    """Return where a recording begins and ends, ID3 tags before and after it left out."""
    begin, end = 0, source.size
    for _ in range(_MOST_TAGS):
        head = source.read(begin, 10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 0x7F:
            break
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        begin += 10 + size + (10 if head[5] & 0x10 else 0)
    if end - begin > _ID3V1_BYTES and source.read(end - _ID3V1_BYTES, 3) == b"TAG":
        end -= _ID3V1_BYTES
    return min(begin, end), end
