"""The pushing process as the worker sees it: one message on its way at a time, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from whirr.settings import Settings

STOP_S = 5.0


class PushProcess:
    """A started pushing process.

    Feast takes seconds of processor time and some 700 MB to import, and a push of a thousand rows 0.15 s: in the
    worker's own process both would hold the event loop up.

    Args:
        settings: Handed to the process.
        on_answer: Called in the event loop with each answer but ``drained``.

    Attributes:
        used: Whether anything was sent.
    """

    def __init__(self, settings: Settings, on_answer: Callable[[str, Any], None]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "feature_repo.push.push_server", str(os.getpid()), str(theirs.fileno())]
            # A session of its own: Ctrl-C is for the worker. The child ends when it reads the end of the file, or when
            # the worker ends without closing it.
            self._child = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._connection = Connection(ours.detach())
        self._connection.send(settings)
        self._on_answer = on_answer
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="whirr-features")
        self._drained = asyncio.Event()
        self._sent_s: float | None = None
        self._gone = False
        self.used = False
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._read)

    @property
    def busy(self) -> bool:
        """Whether the last message has not been answered."""
        return self._sent_s is not None

    @property
    def unanswered_s(self) -> float:
        """How long the last message has waited for its answer; 0 where none does."""
        return 0.0 if self._sent_s is None else time.monotonic() - self._sent_s

    async def send(self, message: Callable[[], tuple[Any, ...]]) -> None:
        """Send a message, made in another thread.

        Raises:
            OSError: The process has gone.
        """
        if self._gone:
            raise OSError(f"exit code {self._child.poll()}")
        self._sent_s = time.monotonic()
        self.used = True
        await asyncio.get_running_loop().run_in_executor(self._sender, lambda: self._connection.send(message()))

    async def drain(self, message: Callable[[], tuple[Any, ...]]) -> None:
        """Send a last message, and return when the process has written what it could and forgotten the rest.

        Raises:
            OSError: The process has gone.
        """
        self._drained.clear()
        await self.send(message)
        await self._drained.wait()

    async def close(self) -> None:
        """End the process; it writes what it has, once."""
        with contextlib.suppress(OSError):
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()
        try:
            await asyncio.to_thread(self._child.wait, STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._sender.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> None:
        try:
            kind, answer = self._connection.recv()
        except (EOFError, OSError):
            self._gone = True
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            return
        self._sent_s = None
        if kind == "drained":
            self._drained.set()
        else:
            self._on_answer(kind, answer)
