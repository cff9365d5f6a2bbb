"""What ``whirr evaluate`` prints for people: progress, two tables, and what to know when reading them."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from backtest.evaluation.evaluate import EvaluationObserver
from backtest.evaluation.result import Evaluation, MachineResult
from backtest.recording_metrics import NAMES, RecordingMetrics
from backtest.words import delay, early, false_alerts_a_day, rule
from commands._output import WithProgress, cell, print_line, print_notes, print_warning, stdout
from commands._recording_set import warn_of
from trainer.recording_set import RecordingSet
from whirr.counts import counted
from whirr.durations import as_duration

_GOOD, _POOR = 0.9, 0.7


class PrintingEvaluationObserver(WithProgress, EvaluationObserver):
    """Shows how an evaluation goes on; a context manager, for the progress bar.

    Args:
        quiet: Say nothing but what is to be said about recordings as they were read, on stderr.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        columns = (TextColumn("scoring   "), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=stdout, transient=True, disable=quiet or not stdout.is_terminal)
        self._task = self._progress.add_task("scoring", start=False)

    def on_found(self, found: RecordingSet) -> None:
        """Say what is to be said about recordings as they were read, and start the progress bar."""
        print_notes(found.notes)
        self._progress.update(self._task, total=len(found.recordings))
        self._progress.start()
        self._progress.start_task(self._task)

    def on_scored(self) -> None:
        """Move the progress bar."""
        self._progress.advance(self._task)


def print_evaluation(result: Evaluation) -> None:
    """Print the outcome: files not used, the model, two tables, notes."""
    warn_of(result.problems)
    for reason in result.optimistic:
        print_warning(reason)
    for line in _head(result):
        print_line(line)
    stdout.print(_recordings_table(result))
    if result.by_fault:
        stdout.print(_faults_table(result))
    stdout.print(_alerts_table(result))
    for note in result.notes:
        print_line(f"note       {note}", style="dim")


def _head(result: Evaluation) -> list[str]:
    metrics, machines = result.overall, len(result.machines)
    of = counted(machines, "machine")
    rules = dict.fromkeys(rule(one.route) for one in result.machines.values())
    left_out = f"; {result.in_train} in folders named train left out" if result.in_train else ""
    return [
        f"model      {result.model.name} {result.model.version} ({result.model.detector})",
        f"data       {metrics.normals} normal and {metrics.anomalies} anomalous recordings of {of}{left_out}",
        f"frames     of {result.pace.frame_s:.3g} s; a recording's score is the mean over its frames",
        f"rule       an incident opens when {' or '.join(rules)} frames exceed the alert threshold",
        *_early_lines(result),
    ]


def _early_lines(result: Evaluation) -> list[str]:
    """Say from when on machines have changed: once for all that share a model's test."""
    found: dict[str, list[str]] = {}
    for machine, one in result.machines.items():
        on = one.route.early and one.route.mode == "state"
        told = early(result.model.thresholds_for(machine)) if on else "none: the route wants none"
        found.setdefault(told, []).append(machine)
    lines = []
    for told, machines in found.items():
        named = "" if len(found) == 1 else f"{', '.join(machines[:3])}{', …' if len(machines) > 3 else ''}: "
        lines.append(f"early      {named}{told}")
    return lines


def _recordings_table(result: Evaluation) -> Table:
    table = _table("Recordings, judged by the decision threshold", NAMES, "flagged\nnormals")
    for machine, one in result.machines.items():
        table.add_row(cell(machine), *_metric_cells(one.metrics))
    if len(result.machines) > 1:
        table.add_section()
        for label, means in (("mean", result.arithmetic), ("harmonic mean", result.harmonic)):
            table.add_row(label, *(_value(means[name]) for name in NAMES), "")
        table.add_row(Text("all in one", "bold"), *_metric_cells(result.overall))
    return table


def _faults_table(result: Evaluation) -> Table:
    table = _table(
        "The same by fault, each against the normals of its machines", NAMES, "flagged\nnormals", first="fault"
    )
    for fault, metrics in result.by_fault.items():
        table.add_row(cell(fault), *_metric_cells(metrics))
    return table


def _metric_cells(metrics: RecordingMetrics) -> list[Text]:
    found = metrics.confusion
    hits, flagged = found.true_positives, found.true_positives + found.false_positives
    counts = {
        "recall": (hits, metrics.anomalies),
        "precision": (hits, flagged),
        "accuracy": (hits + found.true_negatives, metrics.anomalies + metrics.normals),
    }
    cells = []
    for name in NAMES:
        cell = _value(metrics.values[name])
        if name in metrics.intervals:
            low, high = metrics.intervals[name]
            cell.append(f"\n{_short(low)}-{_short(high)}", "dim")
        elif name in counts:
            cell.append(f"\n{counts[name][0]}/{counts[name][1]}", "dim")
        cells.append(cell)
    cells.append(Text(f"{found.false_positives}/{metrics.normals}", "red" if found.false_positives else ""))
    return cells


def _value(value: float | None) -> Text:
    if value is None:
        return Text("-", "dim")
    style = "green" if value >= _GOOD else "red" if value < _POOR else "yellow"
    return Text(f"{value:.3f}", style)


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def _alerts_table(result: Evaluation) -> Table:
    figures = ("fault", "delay", "false alerts", "a day (95 %)", "sensor")
    table = _table("What an operator notices, by the alert rule", figures)
    for machine, one in result.machines.items():
        table.add_row(cell(machine), *_alert_cells(one))
    if len(result.machines) > 1:
        table.add_section()
        totals = result.figures
        table.add_row(
            Text("all, median", "bold"),
            f"{totals.found} of {totals.faults}",
            delay(totals.delay_s_median),
            f"{totals.false_alerts} in {as_duration(totals.normal_s)}",
            false_alerts_a_day(totals),
            _count(result.sensor_alerts),
        )
    return table


def _table(title: str, *columns: str | tuple[str, ...], first: str = "machine") -> Table:
    """Return an empty table that fits 80 columns; its first column is for names."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0)
    table.add_column(first, overflow="fold")
    for column in columns:
        for name in (column,) if isinstance(column, str) else column:
            table.add_column(name, justify="right", no_wrap=True)
    return table


def _alert_cells(one: MachineResult) -> list[Text | str]:
    figures, delay_s = one.figures, one.figures.delay_s_median
    if not figures.faults:
        found = Text("no anomaly", "dim")
    elif figures.found:
        found = Text("found", "green")
    elif one.tally.findings.found:
        found, delay_s = Text("early", "yellow"), one.tally.findings.delay_s_median
    else:
        found = Text("open before" if figures.already_open else "MISSED", "bold red")
    false = Text(f"{figures.false_alerts} in {as_duration(figures.normal_s)}", "red" if figures.false_alerts else "")
    if figures.normal_open_share:
        false.append(f"\nopen {figures.normal_open_share:.0%} of it", "dim")
    if one.tally.false_early:
        false.append(f"\n{one.tally.false_early} early", "yellow")
    return [
        found,
        delay(delay_s),
        false,
        false_alerts_a_day(figures),
        _count(one.tally.sensor_alerts),
    ]


def _count(count: int) -> str:
    return str(count) if count else "-"
