"""MLflow's tracking server on a free port, with its runs and models in an SQLite file."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import urllib.request
from pathlib import Path
from typing import ClassVar

from tests.services.service import HOST, Child, Service, temporary_folder
from whirr.process import free_port


class Mlflow(Service):
    """One server. It can be killed and started again, and has then what it had before."""

    variable: ClassVar[str] = "WHIRR_TEST_MLFLOW_URI"

    def __init__(self) -> None:
        self.port = 0
        self._child: Child | None = None
        self._folder: Path | None = None

    @property
    def address(self) -> str:
        """Its URL, as the setting ``mlflow_tracking_uri``."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it and return when it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it, again if it was killed; see :meth:`wait` for when it answers."""
        if self._child is None:
            self._folder = temporary_folder("mlflow")
            self.port = free_port()
            self._child = Child("MLflow", self._folder)
        folder = self._child.folder
        stores: list[str | Path] = [
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            folder / "files",
        ]
        where = ["--host", HOST, "--port", str(self.port), "--workers", "1"]
        # No telemetry, and none of the processes that run jobs of language models: seven that take seconds to start.
        env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._child.start([sys.executable, "-m", "mlflow", "server", *stores, *where], env=env)

    def wait(self) -> None:
        """Return once it answers."""
        assert self._child is not None
        self._child.wait(self._answers)

    def kill(self) -> None:
        """End it as a power cut would; its files stay."""
        assert self._child is not None
        self._child.stop(first=signal.SIGKILL)

    def stop(self) -> None:
        """Stop it; its files go."""
        if self._child is not None:
            self._child.stop(first=signal.SIGKILL)
            self._child = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _answers(self) -> bool:
        url = f"{self.address}/health"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
        return False
