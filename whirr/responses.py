"""How a broker's responses are read from a connection: in the pieces in which they come, put together once.

A fetch brings megabytes. asyncio's reader copies each piece into one growing buffer, stops reading whenever more than
twice aiokafka's limit waits there, though the whole response is asked for, and copies it out again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiokafka import conn


class ResponseReader(asyncio.StreamReader):
    """A stream that is read by :meth:`readexactly` alone; what waits is at most the response that is asked for.

    A broker answers one request of a connection after the other and begins none that was not asked for, so what comes
    beyond is little.
    """

    _pieces: deque[bytes | memoryview]
    _waiting: int
    _wanted: int

    @classmethod
    def take_over(cls, reader: asyncio.StreamReader) -> None:
        """Make a reader that aiokafka made, and that nothing has come to yet, one of this class."""
        assert isinstance(reader, asyncio.StreamReader)
        reader.__class__ = cls
        reader._pieces, reader._waiting, reader._wanted = deque(), 0, 0  # type: ignore[attr-defined]

    def feed_data(self, data: Any) -> None:
        """Take a piece in; wake the one who reads once it is enough."""
        if data:
            self._pieces.append(bytes(data))
            self._waiting += len(data)
            if self._waiting >= self._wanted:
                self._wakeup_waiter()  # type: ignore[attr-defined]

    def at_eof(self) -> bool:
        """Whether the stream has ended and nothing of it waits."""
        return bool(self._eof) and not self._waiting  # type: ignore[attr-defined]

    async def readexactly(self, n: int) -> bytes:
        """Return the next ``n`` bytes.

        Raises:
            IncompleteReadError: The stream ended before.
            ValueError: ``n`` is negative: what claims to be a response is none.
        """
        if n < 0:
            raise ValueError(f"a response of {n} bytes; expected a length from 0")
        self._wanted = n
        while self._waiting < n:
            if (error := self.exception()) is not None:
                raise error
            if self._eof:  # type: ignore[attr-defined]
                raise asyncio.IncompleteReadError(b"".join(self._pieces), n)
            await self._wait_for_data("readexactly")  # type: ignore[attr-defined]
        taken: list[bytes | memoryview] = []
        left = n
        while left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(memoryview(piece)[left:])
                piece = memoryview(piece)[:left]
            taken.append(piece)
            left -= len(piece)
        self._waiting -= n
        return b"".join(taken)


class ResponseProtocol(conn.AIOKafkaProtocol):  # type: ignore[misc]
    """aiokafka's, with a :class:`ResponseReader`."""

    def __init__(self, closed: Any, reader: asyncio.StreamReader, **options: Any) -> None:
        ResponseReader.take_over(reader)
        super().__init__(closed, reader, **options)
