"""What an evaluation leaves: a report, and in MLflow its figures, in the run that trained the model."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backtest.alerting import AlertFigures
from backtest.evaluation.result import Evaluation
from backtest.recording_metrics import NAMES, RecordingMetrics
from backtest.report.evaluation import evaluation_page
from backtest.report.page import write_page
from schemas.errors import ModelError
from stream_app.pipeline import Model
from trainer.mlflow_run import MlflowRun
from whirr.label_spans import label_groups
from whirr.settings import Settings

FOLDER = "evaluation"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_ .:-]")  # of figures in MLflow


class EvaluationRun(MlflowRun):
    """The run that trained a model, if the tracking server knows it, else a new one.

    Args:
        settings: Tracking server and experiment.
        name: Shown for a new run.
        trained_by: Id of the run that trained the model, or None.

    Raises:
        ServiceUnavailable: The tracking server can't be reached or refuses.
    """

    def __init__(self, settings: Settings, name: str, trained_by: str | None) -> None:
        self._trained_by = trained_by
        super().__init__(settings, name, datetime.now(UTC))

    def add(self, figures: dict[str, float], tags: dict[str, str], file: Path) -> None:
        """Log figures, tags and a file; a run that trained keeps its end, a new one ends here.

        Raises:
            ServiceUnavailable: The tracking server or its artifact store can't be reached or refuses.
        """
        with self._client() as client:
            from mlflow.entities import Metric, RunTag
            from mlflow.utils.time import get_current_time_millis

            now_ms = get_current_time_millis()
            metrics = [Metric(name, value, now_ms, 0) for name, value in figures.items()]
            for start in range(0, len(metrics), 1000):  # the server's limit for one request
                client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
            client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
            client.log_artifact(self.run_id, str(file), artifact_path=FOLDER)
            if self.run_id != self._trained_by:
                client.set_terminated(self.run_id)

    def _open(
        self, client: Any, settings: Settings, name: str, started_at: datetime, tags: Mapping[str, str] | None
    ) -> str:
        if self._trained_by is not None and _knows(client, self._trained_by):
            self._server.check_place(client.get_run(self._trained_by).info.artifact_uri)
            return self._trained_by
        return super()._open(client, settings, name, started_at, tags)


def _knows(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        # The model may have been trained elsewhere; any other trouble is the server's.
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return False
        raise


def publish_evaluation(result: Evaluation, report: Path | None, settings: Settings | None) -> str | None:
    """Write the report, and log it with the figures.

    Args:
        result: The evaluation.
        report: The file to write; None for none.
        settings: For MLflow; None for no logging.

    Returns:
        The id of the run that it was logged to, or None.

    Raises:
        SettingsError: The report can't be written.
        ModelError: The model file is another one by now.
        RecordingError: A recording can't be read any more.
        ServiceUnavailable: MLflow can't be used; the report has been written before.
    """
    model = Model.load(result.config.model)
    if model.digest != result.digest:
        raise ModelError(f"model {str(result.config.model)!r} was replaced during the evaluation; run it again")
    text = evaluation_page(result, model)
    if report is not None:
        write_page(report, text)
    if settings is None:
        return None
    with tempfile.TemporaryDirectory(prefix="whirr-evaluate-") as folder:
        file = Path(folder) / "report.html"
        file.write_text(text, encoding="utf-8")
        return _log_evaluation(result, file, settings)


def _log_evaluation(result: Evaluation, report: Path, settings: Settings) -> str:
    """Return the id of the run that an evaluation was logged to."""
    run = EvaluationRun(settings, f"{result.model.name}-evaluation", result.model.run_id)
    tags = {
        f"{FOLDER}.data_hash": result.data_hash,
        f"{FOLDER}.model_version": result.model.version,
        f"{FOLDER}.optimistic": "; ".join(result.optimistic) or "nothing known",
        **{f"{FOLDER}.{name}": value for name, value in label_groups(result.labelled_by).items()},
    }
    run.add(dict(figures(result)), tags, report)
    return run.run_id


def figures(result: Evaluation) -> Iterator[tuple[str, float]]:
    """Yield figures by their names in MLflow, such as ``evaluation/auc`` or ``evaluation/auc/<machine>``."""
    yield from _metrics(result.overall, "")
    for kind, means in (("arithmetic_mean", result.arithmetic), ("harmonic_mean", result.harmonic)):
        yield from ((f"{FOLDER}/{name}/{kind}", value) for name, value in means.items() if value is not None)
    for machine, one in result.machines.items():
        yield from _metrics(one.metrics, f"/{machine}")
        yield from _alerts(one.figures, f"/{machine}")
    names: Counter[str] = Counter()
    for fault, metrics in result.by_fault.items():
        names[name := _NOT_IN_NAMES.sub("_", fault)] += 1  # two faults may differ in what MLflow doesn't take
        yield from _metrics(metrics, f"/fault {name}" + (f" {names[name]}" if names[name] > 1 else ""))
    yield from _alerts(result.figures, "")
    yield f"{FOLDER}/faults", float(result.figures.faults)
    yield f"{FOLDER}/faults_found", float(result.figures.found)


def _metrics(metrics: RecordingMetrics, suffix: str) -> Iterator[tuple[str, float]]:
    for name in NAMES:
        value = metrics.values[name]
        if value is not None:
            yield f"{FOLDER}/{name}{suffix}", value
    for name, (low, high) in metrics.intervals.items():
        yield f"{FOLDER}/{name}_low{suffix}", low
        yield f"{FOLDER}/{name}_high{suffix}", high


def _alerts(figures: AlertFigures, suffix: str) -> Iterator[tuple[str, float]]:
    yield f"{FOLDER}/false_alerts{suffix}", float(figures.false_alerts)
    if figures.false_alerts_a_day is not None:
        yield f"{FOLDER}/false_alerts_per_machine_day{suffix}", figures.false_alerts_a_day
    if figures.delay_s_median is not None:
        yield f"{FOLDER}/delay_s{suffix}", figures.delay_s_median
