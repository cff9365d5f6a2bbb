"""``whirr worker`` as a program of its own, as a supervisor would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from tests.helpers import eventually
from whirr import process
from whirr.settings import Settings

START_S = 60.0
STOP_S = 20.0


class WorkerProcess:
    """A worker under test; killed with the ``with`` block if it still runs.

    Args:
        settings: Handed over through the environment.
        folder: Where its log goes.
        args: Of the command line.
        first: A program to run in the process before the command line.
    """

    def __init__(self, settings: Settings, folder: Path, *args: str, first: str = "") -> None:
        self.port = process.free_port()
        self.log_path = folder / f"worker-{self.port}.log"
        self._log = self.log_path.open("wb")
        program = f"{first}\nfrom commands import main; main()"
        command = [sys.executable, "-c", program, "worker", "--web-port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *args], stdout=self._log, stderr=self._log, env=environment(settings), cwd=folder
        )

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text()

    def get(self, page: str) -> tuple[int, bytes]:
        """Return a page's status and body; 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def readiness(self) -> dict[str, Any]:
        """Return what /ready says, {} while nothing listens."""
        _, body = self.get("/ready")
        return json.loads(body) if body else {}

    def wait_until_ready(self) -> Self:
        """Return when /ready says so; fail with the log if the process ends."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return self.get("/ready")[0] == 200

        eventually(ready, START_S, "the worker is ready")
        return self

    def metric(self, name: str, /, **labels: str) -> float:
        """Return one sample of /metrics, 0 if it is not there."""
        wanted = "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}" if labels else ""
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(f"{name}{wanted} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Return the exit code once it has ended."""
        return self.process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()
        if error is not None:
            sys.stderr.write(self.log)


def environment(settings: Settings) -> dict[str, str]:
    """Return an environment that gives a program these settings."""
    given = settings.model_dump(mode="json", exclude_none=True)
    given |= {name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return {**os.environ, **{f"WHIRR_{name.upper()}": text for name, text in texts.items()}}
