"""What ``whirr replay`` prints for people: progress with rate and time left, a table, and what to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from backtest.replay.gates import Gate, failures
from backtest.replay.run import ReplayObserver
from backtest.score_store import StoredCounts
from backtest.scoring import ScoredBatch
from backtest.words import delay
from commands._output import (
    WithProgress,
    cell,
    print_error,
    print_json,
    print_line,
    print_notes,
    print_warning,
    stderr,
    stdout,
)
from schemas.errors import ReplayFailed
from schemas.times import parse_rfc3339
from whirr.counts import counted
from whirr.durations import as_duration

_SHOWN_MACHINES = 40
_SHOWN_MODELS = 5
_SHOWN_UNFAMILIAR = 5


class PrintingReplayObserver(WithProgress, ReplayObserver):
    """Shows how a replay goes on, on stderr; a context manager, for the progress bar.

    Args:
        quiet: Say nothing but what is to be said about recordings as they were read.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=stderr, transient=True, disable=quiet or not stderr.is_terminal)
        self._task = self._progress.add_task("looking", total=None, shown="")
        self._audio_s, self._quiet = 0.0, quiet
        self._progress.start()

    def on_looked(self, files: int) -> None:
        """Show how many files have been looked at."""
        self._progress.update(self._task, shown=counted(files, "file"))

    def on_notes(self, notes: tuple[str, ...]) -> None:
        """Say what is to be said about recordings as they were read."""
        print_notes(notes)

    def on_found(self, counts: StoredCounts, jobs: int) -> None:
        """Show how much there is to score."""
        if counts.scored and not self._quiet:
            stderr.print(f"{counts.scored} of {counts.frames} frames were scored before; going on")
        shown = f"{counted(counts.frames - counts.done, 'frame')} on {counted(jobs, 'core')}"
        self._progress.reset(self._task, description="scoring", total=counts.frames, completed=counts.done, shown=shown)

    def on_scored(self, answers: ScoredBatch) -> None:
        """Move the progress bar, and show the rate."""
        self._audio_s += answers.audio_s
        self._progress.advance(self._task, len(answers.frames) + len(answers.letters))
        elapsed_s = self._progress.tasks[0].elapsed
        if elapsed_s:
            task = self._progress.tasks[0]
            of = "" if task.total is None else f"/{task.total:.0f}"  # how many a topic retains is known at its end
            shown = f"{task.completed:.0f}{of} frames, {self._audio_s / elapsed_s:.0f} times real time"
            self._progress.update(self._task, shown=shown)

    def on_judged(self, frames: int) -> None:
        """Show how far the alert rule is."""
        self._progress.update(self._task, description="alerts", completed=frames, shown=counted(frames, "frame"))


def conclude(summary: Mapping[str, Any], gates: Sequence[Gate], as_json: bool, report: Path | None = None) -> None:
    """Print the outcome; exit with an error if a gate fails."""
    failed = failures(gates, summary)
    if as_json:
        print_json({**summary, "failed": failed})
    else:
        print_replay(summary)
        if report is not None:
            print_line(f"report     {report}")
    for line in failed:
        print_error(line)
    if failed:
        raise typer.Exit(ReplayFailed.exit_code)


def print_replay(summary: Mapping[str, Any]) -> None:
    """Print the outcome: what was replayed, one line a machine, and what to know of it."""
    for line in _head(summary):
        print_line(line)
    stdout.print(_table(summary))
    for note in notes(summary):
        print_warning(note)
    print_line(f"results    {summary['out']}: scores.parquet, scores.csv, alerts.jsonl, summary.json")


def _head(summary: Mapping[str, Any]) -> list[str]:
    named = (model for route in summary["routes"] for model in route.get("machines", {"": route}).values())
    models = list(dict.fromkeys(f"{model['name']} version {model['version']}" for model in named))
    if len(models) > _SHOWN_MODELS:
        models = [*models[:_SHOWN_MODELS], f"and {len(models) - _SHOWN_MODELS} more"]
    replayed = f"{counted(summary['files'], 'file')}, {counted(summary['frames'], 'frame')}"
    lines = [
        f"replayed   {replayed}, {as_duration(summary['audio_s'])} of signal",
        f"model      {', '.join(models) or 'none: all machines are learning'}",
    ]
    if summary["recorded_from"]:
        lines.append(f"recorded   {_when(summary)}")
    if summary["realtime_factor"]:
        lines.append(f"speed      {summary['realtime_factor']:.0f} times real time, {summary['seconds']:.1f} s")
    return lines


def _when(summary: Mapping[str, Any]) -> str:
    """Return when frames were recorded, without dates where they are made up."""
    if summary.get("times") != "pace":
        return f"{summary['recorded_from'][:19]}Z to {summary['recorded_until'][:19]}Z"
    took_s = (parse_rfc3339(summary["recorded_until"]) - parse_rfc3339(summary["recorded_from"])) / 1e6
    return f"not known when; taken back to back in the order of names, {as_duration(took_s)} for each sensor at most"


def _table(summary: Mapping[str, Any]) -> Table:
    # One space between columns: the ids of machines get what is left of 80 columns.
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=0)
    table.add_column("machine", overflow="fold")
    for name in ("frames", "opened", "early", "false", "faults", "delay", "AUC", "highest"):
        table.add_column(name, justify="right", no_wrap=True)
    machines = summary["machines"]
    for machine in list(machines)[:_SHOWN_MACHINES]:
        table.add_row(cell(machine), *_cells(machines[machine]))
    if len(machines) > _SHOWN_MACHINES:
        table.add_row(f"… and {len(machines) - _SHOWN_MACHINES} more", *[""] * 8)
    if len(machines) > 1:
        table.add_section()
        table.add_row("all, mean AUC", *_cells({**summary, "auc": summary["auc_mean"]}))
    return table


def _cells(one: Mapping[str, Any]) -> tuple[Text, ...]:
    labelled = one["false_alerts"] is not None
    found = f"{one['faults_found']} of {one['faults']}" if one["faults"] else "-"
    style = "" if not one["faults"] else "green" if one["faults_found"] == one["faults"] else "red"
    return (
        Text(str(one["frames"])),
        Text(str(one["incidents"] + one["sensor_alerts"])),
        Text(str(one["early_findings"]), "cyan" if one["early_findings"] else ""),
        Text(str(one["false_alerts"]) if labelled else "-", "red" if one["false_alerts"] else ""),
        Text(found, style),
        Text(delay(one["delay_s_median"])),
        Text("-" if one["auc"] is None else f"{one['auc']:.3f}"),
        Text(f"{one['highest_ratio']:.0f}" if one["highest_ratio"] >= 100 else f"{one['highest_ratio']:.2f}"),
    )


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what one should know when reading the figures."""
    found = []
    if summary["dead_letters"]:
        codes = ", ".join(f"{count} {code}" for code, count in summary["dead_letter_codes"].items())
        found.append(f"{summary['dead_letters']} could not be used ({codes}): see {summary['out']}/dead_letters.jsonl")
    if summary["late"]:
        found.append(
            f"{counted(summary['late'], 'frame is', 'frames are')} late, and moved no alert state: recordings of one "
            "machine and source overlap in time"
        )
    if summary["idle"]:
        found.append(
            f"{counted(summary['idle'], 'frame is', 'frames are')} idle (quiet, starting up, muted by their route, "
            "in a maintenance window, or learning)"
        )
    if learning := [name for name, one in summary["machines"].items() if one.get("learning")]:
        found.append(
            f"{counted(summary['learning'], 'frame is', 'frames are')} of machines that are learning "
            f"({_some(learning)}), having no model yet or being learnt anew: nothing judged them"
        )
    found += [_unfamiliar(reason, summary) for reason in summary.get("unfamiliar", {})]
    if untold := summary.get("condition_not_stated"):
        found.append(
            f"{untold} of {summary['frames']} frames don't state the speed or load that their model judges by: "
            "judged without"
        )
    if summary.get("in_train"):
        found.append(
            f"{counted(summary['in_train'], 'recording')} in folders named train left out; --include-train has them"
        )
    if not summary["normal_frames"] and not summary["anomalous_frames"] and summary["frames"]:
        found.append("nothing is labelled, so false alerts, faults and AUC can't be told")
    return found


_UNFAMILIAR = {
    "machine": "of machines that the model was not trained on",
    "rate": "of recordings whose sample rate leaves the model's highest bands empty",
    "length": "of another length than the model's threshold was made for",
    "condition": "at speeds or loads beyond those that the model learnt from",
}


def _some(machines: Sequence[str]) -> str:
    return ", ".join(machines[:_SHOWN_UNFAMILIAR]) + (", …" if len(machines) > _SHOWN_UNFAMILIAR else "")


def _unfamiliar(reason: str, summary: Mapping[str, Any]) -> str:
    machines = [name for name, one in summary["machines"].items() if one["unfamiliar"].get(reason)]
    named = _some(machines)
    count, what = summary["unfamiliar"][reason], _UNFAMILIAR.get(reason, reason)
    return f"{counted(count, 'frame is', 'frames are')} {what} ({named}): such scores and alerts may mean little"
