"""The report: one HTML file that holds everything and fetches nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from backtest.evaluation import charts
from backtest.evaluation.alerting import AlertTotals
from backtest.evaluation.details import Detail, look_into, worst_false_alarms, worst_misses
from backtest.evaluation.metrics import NAMES, Metrics, Sample
from backtest.evaluation.result import Evaluation, MachineResult
from backtest.evaluation.scoring import ScoredRecording
from backtest.evaluation.style import STYLE
from backtest.evaluation.words import ENOUGH_S, delay, duration, false_alerts_a_day, figure, rule
from stream_app.pipeline import Model
from whirr.html import escape
from whirr.rates import per_day, per_day_interval

SHOWN: Final = 4  # misses, and false alarms, with their spectrograms
NAMED: Final = 50  # files that were not used
_TITLES: Final = {
    "auc": "AUC",
    "pauc": "pAUC",
    "f1": "F1",
    "recall": "recall",
    "precision": "precision",
    "accuracy": "accuracy",
}


@dataclass(frozen=True, slots=True)
class _Html:
    """Text that is HTML already; everything else is escaped."""

    text: str


Cell = str | _Html


def render(result: Evaluation, model: Model) -> str:
    """Return the report as one HTML document.

    Args:
        result: The evaluation.
        model: The model that was evaluated, to look into single recordings.

    Raises:
        RecordingError: A recording can't be read any more.
    """
    title = f"Evaluation of {result.model.name} {result.model.version}"
    recordings = [one for machine in result.machines.values() for one in machine.course.recordings]
    body = [
        f"<h1>{escape(title)}</h1>",
        _summary(result),
        _notes(result),
        _section("Recordings, judged by the decision threshold", _recordings_table(result)),
        _section("What an operator feels, by the alert rule", _alerts_table(result)),
        *(_machine(name, one) for name, one in result.machines.items()),
        _cases(
            "Worst misses",
            "no anomalous recording passed as normal",
            worst_misses(recordings, SHOWN),
            model,
            result,
        ),
        _cases(
            "Worst false alarms",
            "no normal recording was flagged",
            worst_false_alarms(recordings, SHOWN),
            model,
            result,
        ),
        _reproduce(result),
        _not_used(result),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main>{"".join(body)}</main></body></html>\n'


def _summary(result: Evaluation) -> str:
    totals = result.alerts
    tiles = [
        *(_metric_tile(result, name) for name in ("auc", "pauc")),
        (
            "faults found",
            _Html(f"{totals.found} of {totals.faults}"),
            f"median delay {delay(totals.delay_s_median)}" if totals.found else "",
        ),
        _false_alerts_tile(totals),
    ]
    return f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>'


def _metric_tile(result: Evaluation, name: str) -> tuple[str, _Html, str]:
    """Return the mean over machines, the worst by name: scores of different machines have no common scale."""
    by_machine = {
        machine: value for machine, one in result.machines.items() if (value := one.metrics.values[name]) is not None
    }
    if len(result.machines) < 2 or not by_machine:
        return _TITLES[name], _figure(result.overall, name), ""
    worst = min(by_machine, key=lambda machine: by_machine[machine])
    means = f"harmonic mean {_number(result.harmonic[name])}; worst {by_machine[worst]:.3f}, {worst}"
    return (
        f"{_TITLES[name]}, mean of {len(by_machine)} machine{'s' * (len(by_machine) != 1)}",
        _Html(_number(result.arithmetic[name])),
        f"{means}; all scores in one, without regard to the machine: {_number(result.overall.values[name])}",
    )


def _false_alerts_tile(totals: AlertTotals) -> tuple[str, _Html, str]:
    """Return false alerts a day with their interval; from less than a day, the count that there was."""
    heard = f"{totals.false_alerts} in {duration(totals.normal_s)} of normal signal"
    a_day = per_day(totals.false_alerts, totals.normal_s)
    interval = per_day_interval(totals.false_alerts, totals.normal_s)
    if a_day is None or interval is None:
        return "false alerts", _Html("-"), "no normal signal"
    between = f"95 % sure: {figure(interval[0])} to {figure(interval[1])} a machine and day"
    if totals.normal_s < ENOUGH_S:
        return "false alerts", _Html(str(totals.false_alerts)), f"{heard}: too short to tell how many a day; {between}"
    return "false alerts a machine and day", _Html(figure(a_day)), f"{heard}; {between}"


def _tile(name: str, value: _Html, below: str) -> str:
    return f"<div><small>{escape(name)}</small><b>{value.text}</b><small>{escape(below)}</small></div>"


def _notes(result: Evaluation) -> str:
    warnings = "".join(f'<p class="warning">{escape(reason)}</p>' for reason in result.optimistic)
    return f"{warnings}<ul>{''.join(f'<li>{escape(note)}</li>' for note in result.notes)}</ul>"


def _recordings_table(result: Evaluation) -> str:
    head = ["machine", *(_TITLES[name] for name in NAMES), "anomalies flagged", "normals flagged", "threshold"]
    rows: list[list[Cell]] = [
        [name, *_metric_cells(one.metrics), f"{one.course.recordings[0].threshold:.4g}"]
        for name, one in result.machines.items()
    ]
    if len(rows) > 1:
        for label, means in (("mean", result.arithmetic), ("harmonic mean", result.harmonic)):
            rows.append([label, *(_number(means[name]) for name in NAMES), "", "", ""])
        rows.append([_Html("<b>all in one</b>"), *_metric_cells(result.overall), ""])
    return _table(head, rows) + _below_recordings(result)


def _below_recordings(result: Evaluation) -> str:
    texts = []
    reasons = sorted({reason for one in result.machines.values() for reason in one.metrics.reasons.values()})
    if reasons:
        texts.append(f"- where a machine has {' or '.join(reasons)}.")
    if result.overall.intervals:
        interval = "95 % confidence interval, stratified bootstrap"
        texts.append(f"Below AUC, pAUC and F1: {interval} of {result.config.resamples} resamples.")
    return f"<p><small>{escape(' '.join(texts))}</small></p>"


def _metric_cells(metrics: Metrics) -> list[Cell]:
    found = metrics.confusion
    return [
        *(_figure(metrics, name) for name in NAMES),
        f"{found.true_positives} of {metrics.anomalies}",
        f"{found.false_positives} of {metrics.normals}",
    ]


def _figure(metrics: Metrics, name: str) -> _Html:
    text = _number(metrics.values[name])
    if name not in metrics.intervals:
        return _Html(text)
    low, high = metrics.intervals[name]
    return _Html(f"{text}<small>{low:.3f} to {high:.3f}</small>")


def _alerts_table(result: Evaluation) -> str:
    head = [
        "machine",
        "fault",
        "delay",
        "false alerts",
        "a day (95 %)",
        "incident open",
        "sensor alerts",
        "rule",
        "threshold",
    ]
    rows = [[name, *_alert_cells(one)] for name, one in result.machines.items()]
    return _table(head, rows)


def _alert_cells(one: MachineResult) -> list[Cell]:
    alerts = one.alerts
    found = "no anomaly" if not alerts.fault else "found" if alerts.found else "missed"
    if alerts.already_open:
        found += ", was open before"
    return [
        _Html(f'<span class="bad">{found}</span>') if found.startswith("missed") else found,
        delay(alerts.delay_s),
        f"{alerts.false_alerts} in {duration(alerts.normal_s)}",
        false_alerts_a_day(
            per_day(alerts.false_alerts, alerts.normal_s), per_day_interval(alerts.false_alerts, alerts.normal_s)
        ),
        _Html(f"{_share(alerts.open_share)} of fault<small>{_share(alerts.false_open_share)} of normal</small>"),
        str(alerts.sensor_alerts),
        rule(one.route),
        f"{alerts.threshold:.4g}",
    ]


def _machine(name: str, one: MachineResult) -> str:
    drawn = [charts.histogram(one.course.recordings)]
    if one.metrics.normals and one.metrics.anomalies:
        drawn.insert(0, charts.roc(Sample.of(one.course.recordings), one.metrics))
    return _section(f"Machine {name}", f'<div class="charts">{"".join(drawn)}</div>{charts.course(one.course)}')


def _cases(title: str, none: str, chosen: Sequence[ScoredRecording], model: Model, result: Evaluation) -> str:
    if not chosen:
        return _section(title, f"<p>None: {none}.</p>")
    cases = "".join(_case(look_into(one, model, result.pace)) for one in chosen)
    told = (
        "<p><small>Log-mel spectrogram (brighter is louder), and beside it what each band contributed above its mean "
        "over held-out normals: red drove the score up.</small></p>"
    )
    return _section(title, f'{told}<div class="cases">{cases}</div>')


def _case(detail: Detail) -> str:
    scored = detail.scored
    bands = ", ".join(f"{band.from_hz:.0f} to {band.to_hz:.0f} Hz ({band.share:.0%})" for band in detail.bands[:3])
    text = f"score {scored.score:.4g}, {scored.ratio:.2f} times the threshold of {scored.machine}"
    return (
        f"<figure><figcaption><b>{escape(scored.labelled.name)}</b><br>{escape(text)}<br>"
        f"{escape(bands or 'no band stands out')}</figcaption>{charts.spectrogram(detail)}</figure>"
    )


def _reproduce(result: Evaluation) -> str:
    pairs = {
        "model": f"{result.model.name}, version {result.model.version}, detector {result.model.detector}",
        "model file": f"{result.config.model.name}, SHA-256 {result.digest}",
        "run": result.model.run_id or "not logged",
        "trained on": f"data hash {result.model.data_hash}",
        "evaluated on": f"data hash {result.data_hash}",
        "with": ", ".join(f"{name} {version(name)}" for name in ("whirr", "numpy", "scikit-learn", "onnxruntime")),
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs.items())
    return _section("How to reproduce", f"<pre>{escape(command(result))}</pre><dl>{rows}</dl>")


def command(result: Evaluation) -> str:
    """Return the command that evaluates the same again."""
    config = result.config
    options = {
        "--labels": config.labels,
        "--machine": config.machine,
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


def _not_used(result: Evaluation) -> str:
    if not result.problems:
        return ""
    rows: list[list[Cell]] = [[problem.name, problem.reason] for problem in result.problems[:NAMED]]
    more = len(result.problems) - len(rows)
    below = f"<p>And {more} more; the output of --json names all.</p>" if more else ""
    return _section(f"{len(result.problems)} files not used", _table(["file", "why"], rows, "texts") + below)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[Cell]], kind: str = "figures") -> str:
    names = [escape(name) for name in head]
    first = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(_cell(cell, name) for cell, name in zip(row, names, strict=True))}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(cell: Cell, name: str) -> str:
    # A narrow screen shows a row as a list, each figure by its name.
    return f'<td data-name="{name}"><span>{_text(cell)}</span></td>'


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, _Html) else escape(cell)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
