"""PostgreSQL on a free port, with a database that any local client may use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from schemas.errors import ServiceUnavailable
from tests.services.service import HOST, Child, Service, find_program, temporary_folder
from whirr import process

_ROLE = "whirr"
_DATABASE = "postgres"
_ROOT = 0


class Postgres(Service):
    """One PostgreSQL server. It refuses to run as root, so root runs it as the user ``postgres``."""

    variable: ClassVar[str] = "WHIRR_TEST_POSTGRES_DSN"

    def __init__(self) -> None:
        self.port = 0
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """Its connection URI."""
        return f"postgresql://{_ROLE}@{HOST}:{self.port}/{_DATABASE}"

    def start(self) -> None:
        """Start it, again if it was killed, and return when it answers; NotInstalled if this machine lacks it."""
        server, is_ready = (_program(name) for name in ("postgres", "pg_isready"))
        user = "postgres" if os.geteuid() == _ROOT else None
        child = self._child = self._child or self._cluster(user)
        options = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        settings = [f"--{name}={value}" for name, value in options.items()]
        child.start([server, "-D", child.folder / "data", *settings], user)
        question: list[str | Path] = [is_ready, "-q", "-h", HOST, "-p", str(self.port), "-U", _ROLE, "-d", _DATABASE]
        child.wait(lambda: subprocess.run(question, check=False).returncode == 0)

    def _cluster(self, user: str | None) -> Child:
        """Return the child that is to serve a new cluster, in a folder of its own."""
        initdb = _program("initdb")
        folder = temporary_folder("postgres")
        child = self._child = Child("PostgreSQL", folder)
        if user is not None:
            shutil.chown(folder, user)
        self.port = process.free_port()
        create: list[str | Path] = [initdb, "-D", folder / "data", "-U", _ROLE, "--auth=trust", "--encoding=UTF8"]
        _run([*create, "--no-locale", "--no-sync"], user)
        return child

    def kill(self) -> None:
        """End it at once, as in a crash; :meth:`start` starts it again with what it had committed."""
        if self._child is not None:
            # SIGKILL would leave its processes and shared memory to be waited for.
            self._child.stop(first=signal.SIGQUIT)

    def stop(self) -> None:
        """Stop it; its data is lost."""
        if self._child is not None:
            # SIGTERM would wait for clients to leave; SIGINT sends them away.
            self._child.stop(first=signal.SIGINT)
            shutil.rmtree(self._child.folder, ignore_errors=True)
            self._child = None


def _program(name: str) -> Path:
    # Debian keeps the server's programs out of PATH, one folder per version.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return find_program(name, "postgresql", *folders)


def _run(command: list[str | Path], user: str | None) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, user=user, cwd="/")
    if done.returncode:
        raise ServiceUnavailable(f"{command[0]} failed with exit code {done.returncode}:\n{done.stderr.strip()}")
