"""PostgreSQL on a free port, with a database that any local client may use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from scripts.services.service import HOST, Child, Service, find_program, temporary_folder
from whirr import process
from whirr.errors import ServiceUnavailable

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
        """Make a cluster, start it and return when it answers; NotInstalled if this machine lacks it."""
        initdb, server, is_ready = (_program(name) for name in ("initdb", "postgres", "pg_isready"))
        user = "postgres" if os.geteuid() == _ROOT else None
        folder = temporary_folder("postgres")
        self._child = Child("PostgreSQL", folder)
        if user is not None:
            shutil.chown(folder, user)
        self.port = process.free_port()
        data = folder / "data"
        create: list[str | Path] = [initdb, "-D", data, "-U", _ROLE, "--auth=trust", "--encoding=UTF8", "--no-locale"]
        _run([*create, "--no-sync"], user)
        options = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        settings = [f"--{name}={value}" for name, value in options.items()]
        self._child.start([server, "-D", data, *settings], user)
        question: list[str | Path] = [is_ready, "-q", "-h", HOST, "-p", str(self.port), "-U", _ROLE, "-d", _DATABASE]
        self._child.wait(lambda: subprocess.run(question, check=False).returncode == 0)

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
