"""What ``whirr train`` prints for people: what was found, what was taken and why, progress, thresholds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from trainer.feature_choice import Choice
from trainer.fit import EpochLoss
from trainer.job import Observer, TrainResult
from trainer.recordings import Found, Problem
from whirr.cli._output import print_warning, stdout

NAMED = 5  # files that can't be used, and machines, that are shown by name


class PrintingObserver(Observer):
    """Prints a training as it goes on; a context manager, for the progress bar."""

    def __init__(self, epochs: int) -> None:
        bar = (TextColumn("training   epoch {task.completed}/{task.total}"), BarColumn(), TimeRemainingColumn())
        loss = TextColumn("loss {task.fields[train]:.3f}, held out {task.fields[held_out]:.3f}")
        self._progress = Progress(*bar, loss, console=stdout, transient=True, disable=not stdout.is_terminal)
        self._task = self._progress.add_task("training", total=epochs, train=0.0, held_out=0.0, start=False)

    def __enter__(self) -> PrintingObserver:
        """Print nothing yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the progress bar off the screen, however training ended."""
        self._progress.stop()

    def on_found(self, found: Found) -> None:
        """Say what the folder holds."""
        _print(_found_lines(found))

    def on_features(self, choice: Choice, frame_s: float) -> None:
        """Say which features were taken, and why."""
        _print(_feature_lines(choice, frame_s))

    def on_problems(self, problems: Sequence[Problem]) -> None:
        """Name files that can't be used."""
        _warn(problems)

    def on_windows(self, windows: int, held_out: int) -> None:
        """Say how much there is to train on, and start the progress bar."""
        _print([f"windows    {windows} to train on, {held_out} held out for thresholds"])
        self._progress.start()
        self._progress.start_task(self._task)

    def on_epoch(self, loss: EpochLoss) -> None:
        """Move the progress bar."""
        self._progress.update(self._task, advance=1, train=loss.train_loss, held_out=loss.held_out_loss)

    def on_saved(self, result: TrainResult) -> None:
        """Say how it went and where the model is."""
        self._progress.stop()
        _print(_result_lines(result))


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        stdout.print(Text(line))


def _found_lines(found: Found) -> list[str]:
    machines = [f"{machine} {count}" for machine, count in found.machines.items() if machine is not None]
    named = f": {', '.join(machines[:NAMED])}{', …' if len(machines) > NAMED else ''}" if machines else ""
    whose = f" of {len(machines)} machine{'s' * (len(machines) != 1)}" if machines else ""
    lines = [f"data       {len(found.recordings)} recordings{whose}, {found.duration_s:.0f} s{named}"]
    if len(found.rates_hz) > 1:
        rates = ", ".join(f"{count} at {rate_hz} Hz" for rate_hz, count in found.rates_hz.most_common())
        lines.append(f"           mixed sample rates ({rates}); resampled to the model's")
    return lines


def _feature_lines(choice: Choice, frame_s: float) -> list[str]:
    f = choice.features
    channels = "1 channel" if f.channels == 1 else f"{f.channels} channels as one signal"
    bands = f"{f.sample_rate_hz} Hz, {channels}, {f.bands} {f.scale} bands to {f.fmax_hz:g} Hz"
    spectra = f"n_fft {f.n_fft}, hop {f.hop}, windows of {f.window_s:.3g} s ({f.window_columns} columns)"
    return [
        f"features   {choice.why}",
        f"           {bands}, {spectra}",
        f"frames     of {frame_s:.3g} s: send such, or train with --frame-s",
    ]


def _result_lines(result: TrainResult) -> list[str]:
    metadata = result.metadata
    lines = [_fitted_line(result)]
    shown = [("pooled", metadata.thresholds), *list(metadata.machine_thresholds.items())[:NAMED]]
    for label, own in shown:
        both = f"alert {own.alert_threshold:.3g}, decision {own.decision_threshold:.3g}"
        lines.append(f"threshold  {label}: {both}, from {own.normals} held-out frames")
    if len(metadata.machine_thresholds) > NAMED:
        lines.append(f"           and {len(metadata.machine_thresholds) - NAMED} machines more")
    checkpoint = "" if result.checkpoint is None else f", checkpoint {result.checkpoint}"
    lines.append(f"model      {result.out} ({metadata.name} {metadata.version}){checkpoint}")
    return lines


def _fitted_line(result: TrainResult) -> str:
    name, best = result.metadata.detector, result.best
    why = f"; {result.detector_why}" if result.detector_why else ""
    if best is None:
        return f"trained    {name} in {result.seconds:.0f} s{why}"
    losses = f"loss {best.train_loss:.3f}, held out {best.held_out_loss:.3f}"
    epochs = f"{len(result.history)} epochs in {result.seconds:.0f} s; best was epoch {best.epoch}: {losses}"
    return f"trained    {name}, {epochs}{why}"


def _warn(problems: Sequence[Problem]) -> None:
    for problem in problems[:NAMED]:
        print_warning(f"{problem.name}: {problem.reason}; not used")
    if len(problems) > NAMED:
        reasons = Counter(problem.reason.partition(" (")[0] for problem in problems)
        print_warning(f"{len(problems)} files not used: {', '.join(f'{n} {why}' for why, n in reasons.most_common(3))}")
