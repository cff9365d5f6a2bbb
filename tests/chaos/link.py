"""A link between an edge agent and the brokers that can be cut: one TCP proxy a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from tests.services.service import HOST
from whirr.process import free_port

Cut = Literal["refused", "stalled"]
CHUNK_BYTES = 64 * 1024


class Link:
    """Relays TCP connections until it is cut, and again once it is mended.

    Args:
        size: How many brokers there are.

    Attributes:
        ports: Where a client connects, one port a broker; known before the brokers are, which have to advertise them.
    """

    def __init__(self, size: int) -> None:
        self.ports = [free_port() for _ in range(size)]
        self._targets: Sequence[int] = ()
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()

    @property
    def address(self) -> str:
        """Its ports as a client's ``bootstrap_servers``."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    async def open(self, targets: Sequence[int]) -> None:
        """Relay to these ports, one for each of :attr:`ports`."""
        self._targets = targets
        await self.mend()

    async def cut(self, kind: Cut) -> None:
        """Let nothing through.

        Args:
            kind: ``refused`` ends the connections and takes no new one, as where the route is gone; ``stalled``
                keeps them and delivers nothing, as where packets are dropped.
        """
        self._flowing.clear()
        if kind == "refused":
            self._close()

    async def mend(self) -> None:
        """Let everything through."""
        if not self._servers:
            pairs = zip(self.ports, self._targets, strict=True)
            self._servers = [await asyncio.start_server(self._relay(target), HOST, port) for port, target in pairs]
        self._flowing.set()

    def close(self) -> None:
        """End all connections and take no new one."""
        self._close()

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []
        for writer in list(self._writers):
            writer.transport.abort()

    def _relay(self, target: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                await self._flowing.wait()
                beyond_reader, beyond = await asyncio.open_connection(HOST, target)
                self._writers.add(beyond)
                try:
                    async with asyncio.TaskGroup() as ways:
                        ways.create_task(self._pump(reader, beyond))
                        ways.create_task(self._pump(beyond_reader, writer))
                finally:
                    self._writers.discard(beyond)
                    beyond.transport.abort()
            except (OSError, ExceptionGroup, asyncio.IncompleteReadError):
                pass  # one end has gone; so does the other
            finally:
                self._writers.discard(writer)
                writer.transport.abort()

        return connected

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._flowing.wait()
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError  # ends the other way too
