"""The report of an evaluation: what the page of it shows."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from markupsafe import Markup

from backtest.alerting import AlertFigures
from backtest.evaluation.details import Detail, look_into, worst_false_alarms, worst_misses
from backtest.evaluation.result import Evaluation, MachineResult
from backtest.evaluation.scored_set import ScoredRecording, sample_of
from backtest.recording_metrics import MAX_FPR, NAMES, RecordingMetrics
from backtest.report import charts
from backtest.report.page import Cell, Tile, render
from backtest.words import bands, delay, false_alerts_a_day, figure, rule
from stream_app.pipeline import Model
from whirr.counts import counted
from whirr.durations import as_duration

SHOWN: Final = 4  # misses, and false alarms, with their spectrograms
NAMED: Final = 50  # files that were not used
TITLES: Final = dict(zip(NAMES, ("AUC", "pAUC", "F1", "recall", "precision", "accuracy"), strict=True))

Row = dict[str, str | Cell]


def evaluation_page(result: Evaluation, model: Model) -> str:
    """Return the report as one HTML document.

    Args:
        result: The evaluation.
        model: The model that was evaluated, to look into single recordings.

    Raises:
        RecordingError: A recording can't be read any more.
    """
    every = [one for machine in result.machines.values() for one in machine.recordings]

    def cases(chosen: Sequence[ScoredRecording]) -> list[tuple[Detail, Markup]]:
        details = [look_into(one, model, result.pace) for one in chosen]
        return [(detail, charts.detail(detail)) for detail in details]

    return render(
        "evaluation.html",
        title=f"Evaluation of {result.model.name} {result.model.version}",
        result=result,
        tiles=_tiles(result),
        recordings=_recordings(result),
        below_recordings=_below_recordings(result),
        alerts=[{"machine": name, **_alerts(one)} for name, one in result.machines.items()],
        machines=[
            (name, _curves(one), charts.course(one.stream, one.tally.spans)) for name, one in result.machines.items()
        ],
        cases=[
            ("Worst misses", "no anomalous recording passed as normal", cases(worst_misses(every, SHOWN))),
            ("Worst false alarms", "no normal recording was flagged", cases(worst_false_alarms(every, SHOWN))),
        ],
        bands=bands,
        command=command(result),
        facts=_facts(result),
        not_used=[{"file": problem.name, "why": problem.reason} for problem in result.problems[:NAMED]],
    )


def _tiles(result: Evaluation) -> list[Tile]:
    figures = result.figures
    return [
        _metric_tile(result, "auc"),
        _metric_tile(result, "pauc"),
        Tile(
            "faults found",
            f"{figures.found} of {figures.faults}",
            f"median delay {delay(figures.delay_s_median)}" if figures.found else "",
        ),
        _false_alerts_tile(figures),
    ]


def _metric_tile(result: Evaluation, name: str) -> Tile:
    """Return the mean over machines, the worst by name: scores of different machines have no common scale."""
    by_machine = {
        machine: value for machine, one in result.machines.items() if (value := one.metrics.values[name]) is not None
    }
    if len(result.machines) < 2 or not by_machine:
        return Tile(TITLES[name], _number(result.overall.values[name]), _interval(result.overall, name))
    worst = min(by_machine, key=lambda machine: by_machine[machine])
    means = f"harmonic mean {_number(result.harmonic[name])}; worst {by_machine[worst]:.3f}, {worst}"
    return Tile(
        f"{TITLES[name]}, mean of {counted(len(by_machine), 'machine')}",
        _number(result.arithmetic[name]),
        f"{means}; all scores in one, without regard to the machine: {_number(result.overall.values[name])}",
    )


def _false_alerts_tile(figures: AlertFigures) -> Tile:
    """Return false alerts a day with their interval; from less than a day, the count that there was."""
    heard = f"{figures.false_alerts} in {as_duration(figures.normal_s)} of normal signal"
    a_day, interval = figures.false_alerts_a_day, figures.false_alerts_a_day_interval
    if a_day is None or interval is None:
        return Tile("false alerts", "-", "no normal signal")
    between = f"95 % sure: {figure(interval[0])} to {figure(interval[1])} a machine and day"
    if not figures.enough:
        return Tile("false alerts", str(figures.false_alerts), f"{heard}: too short to tell how many a day; {between}")
    return Tile("false alerts a machine and day", figure(a_day), f"{heard}; {between}")


def _recordings(result: Evaluation) -> list[Row]:
    rows: list[Row] = [
        {"machine": name, **_metrics(one.metrics), "threshold": f"{one.recordings[0].threshold:.4g}"}
        for name, one in result.machines.items()
    ]
    if len(rows) > 1:
        for label, means in (("mean", result.arithmetic), ("harmonic mean", result.harmonic)):
            values: Row = {TITLES[name]: _number(means[name]) for name in NAMES}
            rows.append({**dict.fromkeys(rows[0], ""), "machine": label, **values})
        rows.append({"machine": Cell("all in one", kind="strong"), **_metrics(result.overall), "threshold": ""})
    return rows


def _below_recordings(result: Evaluation) -> str:
    texts = []
    reasons = sorted({reason for one in result.machines.values() for reason in one.metrics.reasons.values()})
    if reasons:
        texts.append(f"- where a machine has {' or '.join(reasons)}.")
    if result.overall.intervals:
        interval = "95 % confidence interval, stratified bootstrap"
        texts.append(f"Below AUC, pAUC and F1: {interval} of {result.config.resamples} resamples.")
    return " ".join(texts)


def _metrics(metrics: RecordingMetrics) -> Row:
    found = metrics.confusion
    return {
        **{TITLES[name]: Cell(_number(metrics.values[name]), _interval(metrics, name)) for name in NAMES},
        "anomalies flagged": f"{found.true_positives} of {metrics.anomalies}",
        "normals flagged": f"{found.false_positives} of {metrics.normals}",
    }


def _interval(metrics: RecordingMetrics, name: str) -> str:
    low, high = metrics.intervals.get(name, (None, None))
    return "" if low is None else f"{low:.3f} to {high:.3f}"


def _alerts(one: MachineResult) -> Row:
    figures = one.figures
    findings = one.tally.findings
    found = "no anomaly" if not figures.faults else "found" if figures.found else "missed"
    if found == "missed" and findings.found:
        found = f"found early, after {delay(findings.delay_s_median)}; no alarm"
    before = ", was open before" if figures.already_open else ""
    return {
        "fault": Cell(found + before, kind="bad" if found == "missed" else ""),
        "delay": delay(figures.delay_s_median),
        "early findings": Cell(str(one.tally.early), f"{one.tally.false_early} false" if one.tally.false_early else ""),
        "false alerts": f"{figures.false_alerts} in {as_duration(figures.normal_s)}",
        "a day (95 %)": Cell(false_alerts_a_day(figures), "" if figures.enough else "too short to tell"),
        "incident open": Cell(
            f"{_share(figures.anomalous_open_share)} of fault", f"{_share(figures.normal_open_share)} of normal"
        ),
        "sensor alerts": str(one.tally.sensor_alerts),
        "rule": rule(one.route),
        "threshold": f"{one.stream.threshold:.4g}",
    }


def _curves(one: MachineResult) -> list[Markup]:
    metrics, drawn = one.metrics, [charts.histogram(one.recordings)]
    if metrics.normals and metrics.anomalies:
        sample, found = sample_of(one.recordings), metrics.confusion
        at = found.false_positives / metrics.normals, found.true_positives / metrics.anomalies
        curve = charts.roc(
            sample.anomalous,
            sample.scores,
            at,
            "at the decision threshold",
            f"ROC: AUC {metrics.values['auc']:.3f}, pAUC {metrics.values['pauc']:.3f}",
            shaded=MAX_FPR,
        )
        drawn.insert(0, curve)
    return drawn


def _facts(result: Evaluation) -> list[tuple[str, str]]:
    return [
        ("model", f"{result.model.name}, version {result.model.version}, detector {result.model.detector}"),
        ("model file", f"{result.config.model.name}, SHA-256 {result.digest}"),
        ("run", result.model.run_id or "not logged"),
        ("trained on", f"data hash {result.model.data_hash}"),
        ("evaluated on", f"data hash {result.data_hash}"),
        ("with", ", ".join(f"{name} {version(name)}" for name in ("whirr", "numpy", "scikit-learn", "onnxruntime"))),
    ]


def command(result: Evaluation) -> str:
    """Return the command that evaluates the same again."""
    config = result.config
    options: dict[str, Any] = {
        "--labels": config.labels,
        "--machine": config.machine,
        "--pattern": config.pattern,
        "--columns": ",".join(config.columns) or None,
        "--on-error": config.on_error,
        "--frame-s": config.frame_s,
        "--every-s": config.every_s,
        "--bootstrap": config.resamples,
        "--seed": config.seed,
    }
    words = ["whirr", "evaluate", str(config.folder), "--model", str(config.model)]
    for name, value in options.items():
        words += [] if value is None else [name, str(value)]
    return shlex.join([*words, *(["--routes"] if config.use_routes else [])])


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
