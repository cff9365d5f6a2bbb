"""What ``whirr train`` prints for people: what was found, what was taken and why, progress, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from backtest.words import early
from commands._output import WithProgress, print_notes, print_warning, stdout
from commands._recording_set import NAMED, feature_lines, found_lines, print_lines, warn_of, warn_of_screening
from recordings.find import Problem
from schemas import Calibration, StatisticsReference, Thresholds
from trainer.detector import EpochLoss, find_detector
from trainer.false_alarms import FalseAlarmCheck
from trainer.feature_choice import Choice
from trainer.recording_set import RecordingSet
from trainer.screening import LeftOut
from trainer.train_options import TrainConfig
from trainer.train_result import Observer, TrainResult
from trainer.trimming import Stray
from whirr.counts import counted
from whirr.durations import as_duration


class QuietTrainingObserver(Observer):
    """Says nothing but what is to be said about recordings as they were read, on stderr."""

    def on_found(self, found: RecordingSet) -> None:
        """Say it."""
        print_notes(found.notes)


class PrintingTrainingObserver(WithProgress, Observer):
    """Prints a training as it goes on; a context manager, for the progress bar."""

    def __init__(self, order: TrainConfig) -> None:
        self._epochs = order.epochs if find_detector(order.detector).by_gradient else None
        bar = (TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        note = TextColumn("{task.fields[note]}")
        self._progress = Progress(*bar, note, console=stdout, transient=True, disable=not stdout.is_terminal)
        self._task = self._progress.add_task("reading   ", total=None, note="")

    def on_found(self, found: RecordingSet) -> None:
        """Say what the folder holds."""
        print_lines(found_lines(found))
        print_notes(found.notes)

    def on_features(self, choice: Choice, frame_s: float) -> None:
        """Say which features were taken, and why, and start the progress bar."""
        print_lines([*feature_lines(choice), f"frames     of {frame_s:.3g} s: send such, or train with --frame-s"])
        self._progress.start()

    def on_recording(self, done: int, of: int) -> None:
        """Move the progress bar."""
        self._progress.update(self._task, completed=done, total=of)

    def on_problems(self, problems: Sequence[Problem]) -> None:
        """Name files that can't be used."""
        warn_of(problems)

    def on_screened(self, left_out: Sequence[LeftOut], remarks: Sequence[Problem]) -> None:
        """Name what is left out of files that are used, and what sets some apart."""
        warn_of_screening(left_out, remarks)

    def on_trimmed(self, strays: Sequence[Stray], judged: int, learnt: int) -> None:
        """Name what is not learnt for being unlike its neighbours: someone should hear it."""
        print_lines(_stray_lines(strays, judged, learnt))

    def on_windows(self, windows: int, held_out: int) -> None:
        """Say how much there is to train on, and start the progress bar anew."""
        print_lines([f"windows    {windows} to train on, {held_out} held out for thresholds"])
        what = "fitting   " if self._epochs is None else "epoch     "
        self._progress.remove_task(self._task)  # to reset it would keep its total where the new one is not known
        self._task = self._progress.add_task(what, total=self._epochs, note="")

    def on_epoch(self, loss: EpochLoss) -> None:
        """Move the progress bar."""
        note = f"loss {loss.train_loss:.3f}, held out {loss.held_out_loss:.3f}"
        self._progress.update(self._task, completed=loss.epoch, note=note)

    def on_saved(self, result: TrainResult) -> None:
        """Say how it went and where the model is."""
        self._progress.stop()
        print_lines(_result_lines(result))
        for warning in result.warnings:
            print_warning(warning)
        if result.check.exceeded:
            print_warning(
                "more false alarms on left-out normals than allowed: the held-out normals change over time; record more"
            )


def _stray_lines(strays: Sequence[Stray], judged: int, learnt: int) -> list[str]:
    more = f"{learnt} as unlike those before and after them are learnt: no more may be left out (--trim)"
    if not strays:
        return [f"learnt     {judged} recordings or parts of them; {more}"] if learnt else []
    held_out = sum(stray.for_thresholds for stray in strays)
    counted = f", {held_out} of them used for thresholds all the same" if held_out else ""
    named = [f"{one.name} from {one.start_s:.4g} to {one.stop_s:.4g} s ({one.surprise:.1f})" for one in strays[:NAMED]]
    return [
        f"not learnt {len(strays)} of {judged} recordings or parts of them, unlike those before and after{counted}:",
        *(f"           {name}" for name in named),
        *(["           and more: --json names all, and so does the model"] if len(strays) > NAMED else []),
        *([f"           {more}"] if learnt else []),
        "           (in standard deviations.) Listen to them; if they are normal, --trim 0 learns them too",
    ]


def _result_lines(result: TrainResult) -> list[str]:
    metadata = result.metadata
    lines = [_fitted_line(result)]
    lines += _threshold_lines(metadata.thresholds, metadata.machine_thresholds)
    lines += _check_lines(result.check, metadata.calibration)
    lines += _reference_lines(metadata.statistics_reference)
    checkpoint = "" if result.checkpoint is None else f", checkpoint {result.checkpoint}"
    lines.append(f"model      {result.out} ({metadata.name} {metadata.version}){checkpoint}")
    return lines


def _threshold_lines(pooled: Thresholds, machines: Mapping[str, Thresholds]) -> list[str]:
    of_all = [] if list(machines.values()) == [pooled] else [("pooled", pooled)]  # one machine's are the same
    shown = [*of_all, *list(machines.items())[:NAMED]]
    more = len(machines) - NAMED
    others = [f"           and {counted(more, 'machine')} more"] if more > 0 else []
    lines = []
    for label, own in shown:
        both = f"alert {own.alert_threshold:.3g}, decision {own.decision_threshold:.3g}"
        lines.append(f"threshold  {label}: {both}, from {own.normals} held-out frames")
    return [*lines, *others, *(f"early      {label}: {early(own)}" for label, own in shown), *others]


def _reference_lines(reference: dict[str, StatisticsReference]) -> list[str]:
    if not reference:
        return []
    rows = sum(own.rows for own in reference.values())
    first, last = min(own.first_at for own in reference.values()), max(own.last_at for own in reference.values())
    what = f"{counted(len(reference), 'machine')} from {counted(rows, 'normal row')}"
    return [f"reference  statistics of {what}, {first[:16]} to {last[:16]}"]


def _fitted_line(result: TrainResult) -> str:
    name, best = result.metadata.detector, result.best
    why = f"; {result.detector_why}" if result.detector_why else ""
    if best is None:
        return f"trained    {name} in {result.seconds:.0f} s{why}"
    losses = f"loss {best.train_loss:.3f}, held out {best.held_out_loss:.3f}"
    epochs = f"{counted(len(result.history), 'epoch')} in {result.seconds:.0f} s; best was epoch {best.epoch}: {losses}"
    return f"trained    {name}, {epochs}{why}"


def _check_lines(check: FalseAlarmCheck, calibration: Calibration) -> list[str]:
    names = {"rule": f"{calibration.k} of {calibration.n} frames", "frame": "single frames"}
    length = as_duration(check.overall.hours * 3600)
    lines = [f"check      false alarms per machine and day, on {length} of held-out normals:"]
    for level, rate in (("rule", check.overall.openings), ("frame", check.overall.frames)):
        targeted = level == calibration.threshold_level and check.target_per_day is not None
        allowed = f" of {check.target_per_day:.3g} allowed" if targeted else ""
        sure = f"at most {_figure(rate.at_most_per_day)}" if rate.at_most_per_day < 100 else "of little, so short it is"
        left_out = f"{_figure(rate.left_out_per_day)} (95 % sure: {sure})"
        lines.append(
            f"           {names[level]}: expected {_figure(rate.expected_per_day)}{allowed}, "
            f"observed {_figure(rate.observed_per_day)}, on left-out fifths {left_out}"
        )
    return lines


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
