"""One computing process as its parent sees it: started, asked in turn, and killed when it takes too long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

START_S = 300.0  # for what it imports, and compiles once on a machine, however much else that has to do
GRACE_S = 2.0
_PIECE_BYTES = 256 * 1024
_LENGTH = struct.Struct("!i")  # before each message, as multiprocessing's connections have it


class ChildLost(Exception):
    """The process ended, or took too long and was killed.

    Attributes:
        timed_out: Whether it took too long.
        in_turn: Whether it was working on what it was asked; else that was only at hand.
    """

    def __init__(self, what: str, *, timed_out: bool = False, in_turn: bool = True) -> None:
        super().__init__(what)
        self.timed_out = timed_out
        self.in_turn = in_turn


class ChildProcess:
    """A started process that answers requests one after the other, in the order in which they are asked.

    Args:
        module: What it runs; given the descriptor of its socket and this process's id.
        arguments: What it is given besides.
        files: Descriptors that it inherits, given before ``arguments``.
    """

    def __init__(self, module: str, arguments: Sequence[str] = (), files: Sequence[int] = ()) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            handed = [theirs.fileno(), *files]
            command = [sys.executable, "-m", module, str(os.getpid()), *map(str, handed), *arguments]
            # A session of its own: Ctrl-C is for the worker, which then ends the child.
            self._process = subprocess.Popen(command, pass_fds=handed, stdin=subprocess.DEVNULL, start_new_session=True)
        self._connection = Connection(os.dup(self._ours.fileno()))
        self._sending = asyncio.Lock()
        self._came = bytearray()  # what was read and not taken
        self._last: asyncio.Future[None] | None = None
        self._lost: ChildLost | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether it can't be asked any more."""
        return self._lost is not None or self._process.poll() is not None

    async def ask(self, request: Callable[[], tuple[Any, ...]], limit_s: float) -> Any:
        """Send a request and return its answer.

        Args:
            request: Makes it.
            limit_s: How long it may take from its turn on; then the process is killed.

        Raises:
            ChildLost: There will be no answer, to this request or any other.
        """
        if self._lost is not None:
            raise ChildLost(str(self._lost), in_turn=False)
        message = pickle.dumps(request(), pickle.HIGHEST_PROTOCOL)
        before, mine = self._last, asyncio.get_running_loop().create_future()
        self._last = mine
        sending = asyncio.create_task(self._send(message))
        try:
            if before is not None:
                await asyncio.shield(before)
            if self._lost is not None:
                raise ChildLost(str(self._lost), in_turn=False)
            async with asyncio.timeout(limit_s):
                await sending
                return pickle.loads(await self._receive())  # noqa: S301 - a process of ours
        except TimeoutError:
            raise self._lose(f"the computing process {self.pid} took more than {limit_s:g} s", timed_out=True) from None
        except (EOFError, OSError) as error:
            raise self._lose(f"the computing process {self.pid} has gone{self._how(error)}") from None
        except asyncio.CancelledError:
            self._lose("nobody waits for its answer any more")  # the next one would be taken for that to the next
            raise
        finally:
            sending.cancel()
            if not mine.done():
                mine.set_result(None)

    async def _send(self, message: bytes) -> None:
        """Send a message after those that were given before; whoever waits for the answer learns if it can't be."""
        self._ours.setblocking(False)
        async with self._sending:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(self._ours, _LENGTH.pack(len(message)) + message)

    async def _receive(self) -> bytes:
        """Return the next message.

        Raises:
            EOFError, OSError: None will come.
        """
        came = self._came
        while True:
            if len(came) >= _LENGTH.size:
                size = _LENGTH.size + _LENGTH.unpack_from(came)[0]
                if len(came) >= size:
                    break
            piece = await asyncio.get_running_loop().sock_recv(self._ours, _PIECE_BYTES)
            if not piece:
                raise EOFError("the stream has ended")
            came += piece
        message = bytes(memoryview(came)[_LENGTH.size : size])
        del came[:size]  # the answer to the next request may have come with it
        return message

    def ask_now(self, request: tuple[Any, ...], limit_s: float) -> Any:
        """Ask without an event loop; not to be mixed with :meth:`ask`.

        Raises:
            ChildLost: There is no answer.
        """
        try:
            self._connection.send(request)
            if not self._connection.poll(limit_s):
                raise self._lose(f"it took more than {limit_s:g} s", timed_out=True)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lose(f"it ended the process{self._how(error)}") from None

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()  # works on one that is stopped, too
        with contextlib.suppress(OSError):  # Should it still not end, as when it waits for a disk, nobody waits for it.
            self._ours.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL should it not heed that."""
        if self._lost is None:
            self._process.terminate()
        for _ in range(2):
            try:
                self._process.wait(GRACE_S)
                break
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.kill()  # what still waits for the child learns of it by the end of the stream
        self._ours.close()
        self._connection.close()

    def _lose(self, what: str, timed_out: bool = False) -> ChildLost:
        self._lost = ChildLost(what, timed_out=timed_out)
        self.kill()
        return self._lost

    def _how(self, error: Exception) -> str:
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return f": {error!r}"
        return f": signal {-code}" if code < 0 else f": exit code {code}"
