"""Tracking: training runs in MLflow. A model is saved before anything here runs; a dead server costs no model."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainer.fit import EpochLoss
from whirr.errors import ServiceUnavailable
from whirr.settings import Settings

CONNECT_S = 5.0


class Run:
    """One run of an experiment in MLflow; its id goes into the model.

    Args:
        settings: Tracking server and experiment.
        name: Shown for the run.
        started_at: When the training started.

    Raises:
        ServiceUnavailable: The tracking server can't be reached or refuses.
    """

    def __init__(self, settings: Settings, name: str, started_at: datetime) -> None:
        self._uri = settings.mlflow_tracking_uri
        if settings.mlflow_password is not None:
            os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own default waits for minutes
        _knock(self._uri)
        with self._service():
            from mlflow.tracking import MlflowClient  # takes seconds

            self._client = MlflowClient(tracking_uri=self._uri)
            self.run_id = self._open(settings.mlflow_experiment, name, started_at)

    def log(self, parameters: Mapping[str, Any], history: Sequence[EpochLoss], figures: Mapping[str, float]) -> None:
        """Log parameters, the losses of each epoch, and the figures that the run ended with.

        Raises:
            ServiceUnavailable: The tracking server can't be reached or refuses.
        """
        with self._service():
            from mlflow.entities import Metric, Param
            from mlflow.utils.time import get_current_time_millis

            now_ms = get_current_time_millis()
            metrics = [Metric(name, value, now_ms, 0) for name, value in figures.items()]
            for loss in history:
                metrics.append(Metric("train_loss", loss.train_loss, now_ms, loss.epoch))
                metrics.append(Metric("held_out_loss", loss.held_out_loss, now_ms, loss.epoch))
            params = [Param(name, str(value)) for name, value in parameters.items()]
            for start in range(0, len(params), 100):  # the server's limit for one request
                self._client.log_batch(self.run_id, params=params[start : start + 100])
            for start in range(0, len(metrics), 1000):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    def finish(self, files: Sequence[Path]) -> None:
        """Log files and end the run.

        Raises:
            ServiceUnavailable: The tracking server or its artifact store can't be reached or refuses.
        """
        with self._service():
            for file in files:
                self._client.log_artifact(self.run_id, str(file))
            self._client.set_terminated(self.run_id)

    def _open(self, experiment: str, name: str, started_at: datetime) -> str:
        """Return the id of a new run."""
        started_ms = int(started_at.timestamp() * 1000)
        run = self._client.create_run(self._experiment(experiment), start_time=started_ms, run_name=name)
        return str(run.info.run_id)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=_beside_sqlite(self._uri)))

    @contextmanager
    def _service(self) -> Iterator[None]:
        """Turn whatever MLflow and its database raise into one error with one clear message."""
        try:
            with _quiet():
                yield
        except Exception as error:  # MLflow, SQLAlchemy, requests and boto have no common ancestor
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ServiceUnavailable(f"MLflow at {_shown(self._uri)} can't be used: {first[:300]}") from error


def _knock(uri: str) -> None:
    """Fail at once where no server listens, in place of MLflow's long series of retries."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        raise ServiceUnavailable(f"MLflow at {_shown(uri)} can't be reached: {error}") from None


def _beside_sqlite(uri: str) -> str | None:
    """Return where a new experiment in an SQLite file keeps its artifacts: beside the file, not where we stand."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix) or uri == prefix:
        return None
    database = Path(uri.removeprefix(prefix)).absolute()
    database.parent.mkdir(parents=True, exist_ok=True)
    return (database.parent / "mlruns").as_uri()


def _shown(uri: str) -> str:
    """Return an address without user and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the migrations that a new SQLite file goes through, and other chatter, off the terminal."""
    names = ("alembic", "alembic.runtime.migration", "mlflow", "mlflow.store.db.utils")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
