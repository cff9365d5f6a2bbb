"""Redis on a free port, in memory."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from typing import ClassVar

from tests.services.service import HOST, Child, Service, find_program, temporary_folder
from whirr.process import free_port


class Redis(Service):
    """One Redis server that keeps nothing on disk."""

    variable: ClassVar[str] = "WHIRR_TEST_REDIS_URL"

    def __init__(self) -> None:
        self.port = 0
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """Its URL."""
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it, again if it was killed, and return when it answers; NotInstalled if this machine lacks it."""
        program = find_program("redis-server", "redis-server")
        if self._child is None:
            self.port = free_port()
            self._child = Child("Redis", temporary_folder("redis"))
        options = ["--bind", HOST, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._child.start([program, *options])
        self._child.wait(self._answers)

    def kill(self) -> None:
        """Kill it; :meth:`start` starts an empty one in its place."""
        if self._child is not None:
            self._child.stop(first=signal.SIGKILL)

    def stop(self) -> None:
        """Stop it; its data is lost."""
        if self._child is not None:
            self._child.stop()
            shutil.rmtree(self._child.folder, ignore_errors=True)
            self._child = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False
