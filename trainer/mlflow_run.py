"""Tracking: training runs in MLflow. A model is saved before anything here runs; a dead server costs no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.detector import EpochLoss
from whirr.mlflow_client import TrackingServer, quiet
from whirr.settings import Settings


class MlflowRun:
    """One run of an experiment in MLflow; its id goes into the model.

    Args:
        settings: Tracking server and experiment.
        name: Shown for the run.
        started_at: When the training started.
        tags: That the run carries from its beginning on.

    Raises:
        ServiceUnavailable: The tracking server can't be reached or refuses.
    """

    def __init__(
        self, settings: Settings, name: str, started_at: datetime, tags: Mapping[str, str] | None = None
    ) -> None:
        self._server = TrackingServer(settings)
        with self._client() as client:
            self.run_id = self._open(client, settings, name, started_at, tags)

    def log(self, parameters: Mapping[str, Any], history: Sequence[EpochLoss], figures: Mapping[str, float]) -> None:
        """Log parameters, the losses of each epoch, and the figures that the run ended with.

        Raises:
            ServiceUnavailable: The tracking server can't be reached or refuses.
        """
        with self._client() as client:
            from mlflow.entities import Metric, Param
            from mlflow.utils.time import get_current_time_millis

            now_ms = get_current_time_millis()
            metrics = [Metric(name, value, now_ms, 0) for name, value in figures.items()]
            for loss in history:
                metrics.append(Metric("train_loss", loss.train_loss, now_ms, loss.epoch))
                metrics.append(Metric("held_out_loss", loss.held_out_loss, now_ms, loss.epoch))
            params = [Param(name, str(value)) for name, value in parameters.items()]
            for start in range(0, len(params), 100):  # the server's limit for one request
                client.log_batch(self.run_id, params=params[start : start + 100])
            for start in range(0, len(metrics), 1000):
                client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    def note(self, name: str, text: str) -> None:
        """Log a text as a file.

        Raises:
            ServiceUnavailable: The tracking server or its artifact store can't be reached or refuses.
        """
        with self._client() as client:
            client.log_text(self.run_id, text, name)

    def finish(self, files: Sequence[Path]) -> None:
        """Log files and end the run.

        Raises:
            ServiceUnavailable: The tracking server or its artifact store can't be reached or refuses.
        """
        with self._client() as client:
            for file in files:
                client.log_artifact(self.run_id, str(file))
            client.set_terminated(self.run_id)

    def _open(
        self, client: Any, settings: Settings, name: str, started_at: datetime, tags: Mapping[str, str] | None
    ) -> str:
        """Return the id of a new run."""
        started_ms = int(started_at.timestamp() * 1000)
        experiment_id = self._experiment(client, settings)
        run = client.create_run(experiment_id, start_time=started_ms, tags=dict(tags or {}), run_name=name)
        return str(run.info.run_id)

    def _experiment(self, client: Any, settings: Settings) -> str:
        found = client.get_experiment_by_name(settings.mlflow_experiment)
        if found is not None:
            self._server.check_place(found.artifact_location)
            return str(found.experiment_id)
        location = settings.mlflow_artifact_location or self._server.beside()
        return str(client.create_experiment(settings.mlflow_experiment, artifact_location=location))

    @contextmanager
    def _client(self) -> Iterator[Any]:
        with quiet(), self._server.client() as client:
            yield client
