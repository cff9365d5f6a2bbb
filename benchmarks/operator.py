"""``make operator``: what an operator sees of every row of ``make quality``, played live at default settings.

Each row trains as a user would; then its normal recordings and after them the anomalous ones go through the backtest,
which is the live system minus Kafka, cut into frames of the calibrated length and laid back to back. Runs to failure
train on their first fifth, and all that follows is played: normal up to half of their life, faulty in their last tenth;
between the two a finding is neither false nor late. Halves are those of ``make quality``: what was chosen was chosen on
half A.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.quality.protocol import condition_of, link_normals
from benchmarks.quality.rows import HALVES, ROWS, Split, is_here, split
from recordings import read_recording
from recordings.cut import frame_bounds
from recordings.encode import encoded_frames
from recordings.find import sort_key
from schemas import Alert, Condition, FrameRecord, Score, frame_headers
from schemas.condition import UNKNOWN
from schemas.times import MICROSECONDS
from stream_app.pipeline import Model, backtest
from whirr.settings import Route

NORMAL, NEITHER, FAULTY = range(3)
LIVES = "femto"  # runs to failure
LIFE_EVERY_S = 10.0
COVERED = 0.8


class Played(NamedTuple):
    """A recording, what its frames count as, and how the machine ran, where frames state that."""

    path: Path
    kind: int
    condition: Condition = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an operator sees of a row.

    Attributes:
        found: The highest level that began while the machine was faulty (a run to failure: in its second half).
        delay_frames: Faulty frames before the first such finding; of a run to failure negative before its last tenth.
        covered: Share of the faulty frames at whose end an incident was open, whatever its level.
        alarm_covered: The same of alarms alone.
        false_alarms, false_early: Alarms and early findings that began at normal frames.
        normal_frames, faulty_frames: Frames.
        open_before: Whether an incident was open already when the fault began.
        auc: Of the frames' scores.
        early: Why there are no early findings, or ''.
    """

    found: Literal["alarm", "early", ""]
    delay_frames: int | None
    covered: float
    alarm_covered: float
    false_alarms: int
    false_early: int
    normal_frames: int
    faulty_frames: int
    open_before: bool
    auc: float
    early: str

    @property
    def as_wanted(self) -> bool:
        """Whether it was found and covered, with one false finding at most and no false alarm."""
        return bool(self.found) and self.covered >= COVERED and self.false_early <= 1 and not self.false_alarms


def recordings_of(row: str, root: Path, made: Path) -> tuple[Split, list[Played]]:
    """Return a row's recordings, and those that are played after it has trained, in order."""
    parts = split(row, root, made)
    normal, faulty = set(parts.normal), set(parts.anomalous)
    if row.startswith(LIVES):
        played = sorted((root / row).iterdir(), key=lambda path: sort_key(path.name))[len(parts.train) :]
    else:
        played = [*parts.normal, *parts.anomalous]
    kinds = (NORMAL if path in normal else FAULTY if path in faulty else NEITHER for path in played)
    return parts, [Played(*one, condition_of(one[0], parts.told)) for one in zip(played, kinds, strict=True)]


def live(row: str, root: Path, made: Path, detector: str) -> Seen:
    """Train on a row's normals, and play the rest."""
    from trainer.train import TrainConfig, train_model

    parts, played = recordings_of(row, root, made)
    machine = row.partition("/")[2].replace(":", "-")
    with tempfile.TemporaryDirectory(prefix="whirr-operator-") as scratch:
        normal, out = Path(scratch, "normal"), Path(scratch, "model.onnx")
        naming = link_normals(parts, normal)
        order = TrainConfig(normal=normal, out=out, machine=machine, detector=detector, mlflow=False, **naming)
        model = Model.load(train_model(order).out)
    route = Route(model="models:/operator@champion")
    kinds: list[int] = []
    every_s = LIFE_EVERY_S if row.startswith(LIVES) else None
    frames = frames_of(played, machine, model.metadata.calibration.frame_s, every_s, kinds)
    told = list(backtest(frames, {route.model: model}, [route]))
    scores = [one for one in told if isinstance(one, Score)]
    if len(scores) != len(kinds):
        raise RuntimeError(f"{row}: {len(kinds)} frames gave {len(scores)} scores")
    places = {one.frame_id: number for number, one in enumerate(scores)}
    alerts = [
        (places[one.frame.frame_id], one)
        for one in told
        if isinstance(one, Alert) and one.kind == "machine" and one.frame
    ]
    no_early = model.metadata.thresholds_for(machine).no_early
    return judged(np.array([one.score for one in scores]), np.array(kinds), alerts, no_early)


def judged(scores: np.ndarray, kinds: np.ndarray, alerts: Sequence[tuple[int, Alert]], no_early: str = "") -> Seen:
    """Return what the alerts on frames amount to.

    Args:
        scores: Of each frame, in order.
        kinds: What each counts as; the faulty ones come last.
        alerts: Transitions of the machine's incident, each with its frame's place, in order.
        no_early: Why there are no early findings, or ''.
    """
    from sklearn.metrics import roc_auc_score

    is_open, alarm = (np.zeros(len(kinds), bool) for _ in range(2))
    for place, alert in alerts:
        is_open[place:] = alert.level is not None
        alarm[place:] = alert.level not in {None, "early"}
    faulty, normal = kinds == FAULTY, kinds == NORMAL
    onset = int(np.flatnonzero(faulty)[0])
    began = [
        (place, alert.state) for place, alert in alerts if alert.state in {"opened", "changed"} and not normal[place]
    ]
    states = {state for _, state in began}
    known = faulty | normal
    return Seen(
        found="alarm" if "opened" in states else "early" if states else "",
        delay_frames=began[0][0] - onset if began else None,
        covered=round(float(is_open[faulty].mean()), 4),
        alarm_covered=round(float(alarm[faulty].mean()), 4),
        false_alarms=sum(alert.state == "opened" and bool(normal[place]) for place, alert in alerts),
        false_early=sum(alert.state == "changed" and bool(normal[place]) for place, alert in alerts),
        normal_frames=int(normal.sum()),
        faulty_frames=int(faulty.sum()),
        open_before=bool(onset and is_open[onset - 1]),
        auc=round(float(roc_auc_score(faulty[known], scores[known])), 4),
        early=no_early,
    )


def frames_of(
    played: Sequence[Played], machine: str, frame_s: float, every_s: float | None, kinds: list[int]
) -> Iterator[FrameRecord]:
    """Yield what a gateway would have sent, and note what each frame counts as."""
    for path, kind, condition in played:
        audio = read_recording(path)
        bounds = frame_bounds(audio.samples.shape[1], audio.rate_hz, frame_s, frame_s / 2)
        for value in encoded_frames(path, bounds):
            recorded_us = round(len(kinds) * (every_s or frame_s) * MICROSECONDS)
            kinds.append(kind)
            headers = tuple(frame_headers(machine, None, recorded_us, value, condition=condition))
            yield FrameRecord(machine.encode(), value, headers, timestamp_ms=recorded_us // 1000)


def report(found: dict[str, Seen]) -> Table:
    """Return a table with one row a row of ``make quality``, half by half, and what each half amounts to."""
    table = Table("row", "AUC", "found", "delay", "covered", "by alarm", "false early", "false alarms", "remarks")
    for half, rows in HALVES.items():
        seen = {row: found[row] for row in rows if row in found}
        for row, one in seen.items():
            delay = "" if one.delay_frames is None else f"{one.delay_frames} of {one.faulty_frames}"
            remarks = ["open before"] if one.open_before else []
            remarks += [f"no early findings: {one.early}"] if one.early else []
            counts = [f"{count} in {one.normal_frames}" for count in (one.false_early, one.false_alarms)]
            shares = [f"{share:.0%}" for share in (one.covered, one.alarm_covered)]
            table.add_row(row, f"{one.auc:.3f}", one.found or "-", delay, *shares, *counts, "; ".join(remarks))
        if seen:
            table.add_row(f"half {half}", "", *_summary(list(seen.values())), end_section=True)
    return table


def _summary(seen: Sequence[Seen]) -> list[str]:
    found, covered = sum(bool(one.found) for one in seen), sum(one.covered >= COVERED for one in seen)
    normals = sum(one.normal_frames for one in seen)
    rates = [
        f"{1000 * sum(counts) / normals:.2g} in 1,000"
        for counts in ([one.false_early for one in seen], [one.false_alarms for one in seen])
    ]
    wanted = f"{sum(one.as_wanted for one in seen)} of {len(seen)} as wanted"
    return [f"{found} of {len(seen)}", "", f"{covered} above 80%", "", *rates, wanted]


def operator(
    root: Annotated[Path, typer.Option(help="Folder of real recordings.")] = Path("../shared/data"),
    build: Annotated[Path, typer.Option(help="Folder for simulated recordings.")] = Path("build/quality"),
    row: Annotated[list[str] | None, typer.Option(help="Only these, as SET/MACHINE; may be repeated.")] = None,
    detector: Annotated[str, typer.Option(help="As whirr train takes it.")] = "auto",
) -> None:
    """Print what an operator sees of each row; the last line is one JSON object."""
    if unknown := set(row or ()) - set(ROWS):
        print(f"no row {', '.join(sorted(unknown))}; expected some of {', '.join(ROWS)}", file=sys.stderr)
        raise typer.Exit(2)
    rows = [one for one in ROWS if (not row or one in row) and is_here(one, root)]
    missing = [one for one in row or ROWS if one not in rows]
    if missing:
        print(f"no recordings in {root} for {', '.join(missing)}", file=sys.stderr)
    if not rows or (row and missing):
        raise typer.Exit(2)
    found: dict[str, Seen] = {}
    for one in rows:
        seen = found[one] = live(one, root, build / "simulated", detector)
        print(f"{one}: {seen.found or 'not found'}, {seen.covered:.0%} covered", file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 200).print(report(found))
    print(orjson.dumps({name: asdict(seen) for name, seen in found.items()}).decode())


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.run(operator)
