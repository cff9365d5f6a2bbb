"""A service: a child process on a free port with files in a folder that goes when it stops."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from schemas.errors import ServiceUnavailable
from whirr import process

HOST = "127.0.0.1"
START_DEADLINE_S = 180.0
LOG_NAME = "output.log"


class NotInstalled(ServiceUnavailable):
    """This machine lacks what a service is made of: a reason to skip a test, where failing to start is none."""


class Service(ABC):
    """A service that runs for as long as the ``with`` block, or between ``start`` and ``stop``.

    Attributes:
        variable: Environment variable in which the tests look for its address.
    """

    variable: ClassVar[str]

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def start(self) -> None:
        """Start it and return when it answers; NotInstalled if this machine lacks it."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it; returns when it is gone, with its files."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Child:
    """One child process and its log; what the services are made of.

    Args:
        name: For messages.
        folder: Where its log goes; must exist.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; ServiceUnavailable when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise ServiceUnavailable(f"{self.name} is not running")
        return self._process.pid

    def start(
        self, command: Sequence[str | Path], user: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Start ``command``, as ``user`` and with ``env`` as its whole environment where they are given.

        See :meth:`wait` for when it is ready.
        """
        with (self.folder / LOG_NAME).open("ab") as log:
            self._process = process.start(command, output=log, cwd=self.folder, user=user, env=env)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return once ``ready`` holds.

        Raises:
            ServiceUnavailable: It ended, or was not ready within three minutes; with the end of its log.
        """
        deadline = time.monotonic() + START_DEADLINE_S
        while not ready():
            code = None if self._process is None else self._process.poll()
            if code is not None:
                raise ServiceUnavailable(f"{self.name} ended with exit code {code}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"{self.name} was not ready in {START_DEADLINE_S:g} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self, grace_s: float = 10.0, first: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, politely first; its files stay."""
        if self._process is not None:
            process.stop(self._process, grace_s, first)
            self._process = None

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        path = self.folder / LOG_NAME
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def find_program(name: str, package: str, *folders: Path) -> Path:
    """Return the path of a program, from PATH or ``folders``.

    Raises:
        NotInstalled: The message names Debian's package.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)])
    found = shutil.which(name, path=path)
    if found is None:
        raise NotInstalled(f"{name} is not installed (Debian's package: {package})")
    return Path(found)


def temporary_folder(name: str) -> Path:
    """Return a new, empty folder; whoever asked removes it."""
    return Path(tempfile.mkdtemp(prefix=f"whirr-{name}-"))
