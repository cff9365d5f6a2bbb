"""The outcome of an evaluation, and the one JSON object that it is printed as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backtest.alerting import AlertFigures
from backtest.bootstrap import LEVEL
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.evaluation.scored_set import Pace, ScoredRecording
from backtest.recording_metrics import NAMES, Confusion, RecordingMetrics
from backtest.streams import ScoredStream
from backtest.tally import MachineTally
from recordings.find import Problem
from schemas import ModelMetadata
from whirr.label_spans import LabelSpan
from whirr.settings import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineResult:
    """One machine: metrics of its recordings, what its frames and alerts amount to, the rule, and the recordings."""

    metrics: RecordingMetrics
    tally: MachineTally
    route: Route
    recordings: tuple[ScoredRecording, ...]

    @property
    def figures(self) -> AlertFigures:
        """What its incidents amount to."""
        return self.tally.figures

    @property
    def stream(self) -> ScoredStream:
        """Its one stream."""
        return self.tally.streams[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an evaluation gave.

    Attributes:
        model: What the model file says of itself; ``digest`` is the file's SHA-256, in hex.
        data_hash: Over names and contents of the recordings that were used.
        pace: How recordings became streams.
        overall: Metrics of all recordings together.
        by_fault: Metrics of each fault that has a name, against the normals of the machines that had it.
        arithmetic, harmonic: Means over the machines, by metric.
        optimistic: Why figures may be better than on unseen data; empty where nothing is known to be.
        notes: What else to know when reading the figures.
        in_train: Files that were left out because they lie in a folder named ``train``.
        labelled_by: The label spans that recordings were labelled by.
    """

    config: EvaluateConfig
    model: ModelMetadata
    digest: str
    data_hash: str
    pace: Pace
    overall: RecordingMetrics
    machines: Mapping[str, MachineResult]
    by_fault: Mapping[str, RecordingMetrics]
    arithmetic: Mapping[str, float | None]
    harmonic: Mapping[str, float | None]
    figures: AlertFigures
    sensor_alerts: int
    problems: tuple[Problem, ...]
    in_train: int
    optimistic: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    labelled_by: tuple[LabelSpan, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values: figures over all at the top, and the same by machine."""
        return {
            **_metrics(self.overall),
            "alerts": _totals(self.figures, self.sensor_alerts),
            "arithmetic_mean": dict(self.arithmetic),
            "harmonic_mean": dict(self.harmonic),
            "by_fault": {name: _metrics(one) for name, one in self.by_fault.items()},
            "machines": {name: _machine(one) for name, one in self.machines.items()},
            "model": self._model(),
            "data": self._data(),
            "bootstrap": {"resamples": self.config.resamples, "seed": self.config.seed, "level": LEVEL},
            "optimistic": list(self.optimistic),
            "notes": list(self.notes),
            "not_used": [asdict(problem) for problem in self.problems],
            "seconds": round(self.seconds, 3),
        }

    def _model(self) -> dict[str, Any]:
        return {
            "file": str(self.config.model),
            "sha256": self.digest,
            "name": self.model.name,
            "version": self.model.version,
            "detector": self.model.detector,
            "run_id": self.model.run_id,
            "data_hash": self.model.data_hash,
        }

    def _data(self) -> dict[str, Any]:
        return {
            "folder": str(self.config.folder),
            "labels": None if self.config.labels is None else str(self.config.labels),
            "data_hash": self.data_hash,
            "recordings": self.overall.normals + self.overall.anomalies,
            "left_out_in_train": self.in_train,
            "frame_s": self.pace.frame_s,
            "every_s": self.pace.every_s,
        }


def _machine(one: MachineResult) -> dict[str, Any]:
    return {
        **_metrics(one.metrics),
        "decision_threshold": one.recordings[0].threshold,
        "alert_threshold": one.stream.threshold,
        "alerts": _alerts(one),
    }


def _metrics(metrics: RecordingMetrics) -> dict[str, Any]:
    return {
        **{name: metrics.values[name] for name in NAMES},
        "confusion": confusion_dict(metrics.confusion),
        "normals": metrics.normals,
        "anomalies": metrics.anomalies,
        "intervals": {name: list(bounds) for name, bounds in metrics.intervals.items()},
        "reasons": dict(metrics.reasons),
    }


def confusion_dict(confusion: Confusion) -> dict[str, int]:
    """Return a confusion matrix by the usual short names."""
    return {
        "tp": confusion.true_positives,
        "fp": confusion.false_positives,
        "fn": confusion.false_negatives,
        "tn": confusion.true_negatives,
    }


def _alerts(one: MachineResult) -> dict[str, Any]:
    figures, names = one.figures, ("mode", "k", "n", "m", "hysteresis", "running_dbfs", "start_up_s")
    return {
        "fault": bool(figures.faults),
        "found": bool(figures.found) if figures.faults else None,
        "delay_s": _rounded(figures.delays_s[0]) if figures.faults else None,
        "already_open_at_onset": bool(figures.already_open),
        "open_share_of_fault": figures.anomalous_open_share,
        "open_share_of_normal": figures.normal_open_share,
        **_false_alerts(figures),
        "sensor_alerts": one.tally.sensor_alerts,
        **_early(one.tally),
        "rule": {name: getattr(one.route, name) for name in names},
    }


def _early(tally: MachineTally) -> dict[str, Any]:
    """Return what incidents amount to from their first level on, be it an early finding or an alarm."""
    figures = tally.findings
    return {
        "early_findings": tally.early,
        "false_early": tally.false_early,
        "found_early": bool(figures.found) if figures.faults else None,
        "early_delay_s": _rounded(figures.delays_s[0]) if figures.faults else None,
    }


def _totals(figures: AlertFigures, sensor_alerts: int) -> dict[str, Any]:
    return {
        "faults": figures.faults,
        "found": figures.found,
        "delay_s_median": _rounded(figures.delay_s_median),
        "delay_s_max": _rounded(figures.delay_s_max),
        **_false_alerts(figures),
        "sensor_alerts": sensor_alerts,
    }


def _false_alerts(figures: AlertFigures) -> dict[str, Any]:
    return {
        "false_alerts": figures.false_alerts,
        "normal_hours": hours(figures.normal_s),
        "false_alerts_per_machine_day": figures.false_alerts_a_day,
        "false_alerts_per_machine_day_interval": figures.false_alerts_a_day_interval,
    }


def hours(seconds: float) -> float:
    """Return seconds as hours."""
    return seconds / 3600


def _rounded(seconds: float | None) -> float | None:
    """Return seconds to the microsecond: sums of frames' lengths have no more to say."""
    return None if seconds is None else round(seconds, 6)
