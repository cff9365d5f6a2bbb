"""``make false-alarms``: what a verdict ``false_alarm`` quiets, and what is found all the same.

Each row of ``make quality`` trains as a user would. Where half of what is strange among its normal recordings has
raised a finding, a person calls that a false alarm; then the rest of the normals is played, and after it the anomalous
ones. On the motor's rows each condition of the anomalous recordings takes the part of the normals once: half of it is
called a false alarm, then the other half is played, and then each of the other conditions.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.operator import FAULTY, LIFE_EVERY_S, LIVES, NORMAL, frames_of, recordings_of
from benchmarks.quality.protocol import link_normals
from benchmarks.quality.rows import HALVES, ROWS, is_here
from schemas import DeadLetter, Verdict, format_rfc3339
from schemas.times import MICROSECONDS
from schemas.verdict import VERDICT_DELAY_S, verdict_id
from stream_app.pipeline import Computed, Engine, Model, Router, StreamState, Verdicts
from stream_app.pipeline.cusum import adds_evidence
from whirr.settings import Route

ENOUGH = 10  # strange frames, for a case
_CONDITION = re.compile(r"anomaly_(c\d+)_")


class Case(NamedTuple):
    """What is called a false alarm once it was heard, what is played then, and the faults after that."""

    heard: Sequence[Computed]
    rest: Sequence[Computed]
    faults: Sequence[Sequence[Computed]]


@dataclass(slots=True)
class Tried:
    """What became of false alarms.

    Attributes:
        false_alarms: Those whose rest would have raised a finding.
        again: Of these, those whose rest raised one all the same.
        faults: Faults that are found where nobody called anything a false alarm.
        found: Of these, those that are found after it, too.
        delays: By how many frames later, of each of these; negative where it is earlier.
    """

    false_alarms: int = 0
    again: int = 0
    faults: int = 0
    found: int = 0
    delays: list[int] = field(default_factory=list)

    def add(self, other: Tried) -> None:
        """Add what became of others."""
        self.false_alarms += other.false_alarms
        self.again += other.again
        self.faults += other.faults
        self.found += other.found
        self.delays += other.delays


class Stream:
    """A machine's one stream, its frames laid back to back.

    Args:
        router: With the machine's model.
        every_s: From one frame's beginning to the next one's.
    """

    def __init__(self, router: Router, every_s: float) -> None:
        self._engine = Engine(router)
        self._every_us = round(every_s * MICROSECONDS)
        self._state: StreamState | None = None
        self._at_us = 0

    def play(self, frames: Sequence[Computed]) -> int | None:
        """Play frames; return after which of them an incident was open first; None for after none."""
        began: int | None = None
        for number, one in enumerate(frames):
            self._at_us += self._every_us
            name = f"{self._at_us:032x}"
            frame = replace(one.frame, frame_id=name, recorded_us=self._at_us, sequence=None)
            outcome = self._engine.advance(replace(one, frame=frame), self._state, self._at_us)
            self._state = outcome.state
            if began is None and self._state is not None and self._state.machine.incident_id:
                began = number
        return began

    def call_false(self) -> bool:
        """Call all that is remembered a false alarm, half a minute ago; return whether there is anything."""
        known = () if self._state is None else self._state.remembered
        at = format_rfc3339(self._at_us - round(VERDICT_DELAY_S * MICROSECONDS))
        said = [_false_alarm(one.incident_id, at) for one in known if one.incident_id]
        self._engine.verdicts = Verdicts(said)
        return bool(said)

    def branch(self) -> Stream:
        """Return another stream that has heard the same."""
        other = Stream(self._engine.router, 1.0)
        other._engine.verdicts = self._engine.verdicts
        other._every_us, other._state, other._at_us = self._every_us, self._state, self._at_us
        return other


def _false_alarm(incident_id: str, at: str) -> Verdict:
    return Verdict(
        verdict_id=verdict_id(incident_id, "false_alarm", "make false-alarms", at),
        incident_id=incident_id,
        machine_id="m",
        source=None,
        kind="machine",
        verdict="false_alarm",
        by="make false-alarms",
        time=at,
        began_at=at,
    )


def tried(case: Case, router: Router, every_s: float) -> Tried:
    """Return what becomes of a case; nothing where nothing is found in what is heard."""
    found = Tried()
    stream = Stream(router, every_s)
    stream.play(case.heard)
    if not stream.call_false():
        return found
    again = stream.play(case.rest) is not None
    if Stream(router, every_s).play(case.rest) is not None:
        found.false_alarms, found.again = 1, int(again)
    for fault in case.faults:
        without, after = Stream(router, every_s).play(fault), stream.branch().play(fault)
        if without is not None:
            found.faults += 1
            if after is not None:
                found.found += 1
                found.delays.append(after - without)
    return found


def cases(row: str, names: Sequence[str], kinds: Sequence[int], frames: Sequence[Computed]) -> Iterator[Case]:
    """Yield a row's cases.

    Args:
        row: Its name.
        names: Of each frame's recording.
        kinds: What each frame counts as.
        frames: In order.
    """
    normal, faulty = ([one for one, is_kind in zip(frames, kinds, strict=True) if is_kind == kind]
                      for kind in (NORMAL, FAULTY))  # fmt: skip
    strange = [number for number, one in enumerate(normal) if _is_strange(one)]
    if len(strange) >= ENOUGH:
        cut = strange[len(strange) // 2] + 1
        yield Case(normal[:cut], normal[cut:], [faulty])
    if not row.startswith("motor/"):
        return
    by_condition: dict[str, list[Computed]] = {}
    for name, kind, one in zip(names, kinds, frames, strict=True):
        if kind == FAULTY and (condition := _CONDITION.match(name)):
            by_condition.setdefault(condition[1], []).append(one)
    for condition, own in by_condition.items():
        if sum(map(_is_strange, own)) >= ENOUGH:
            half = len(own) // 2
            yield Case(own[:half], own[half:], [other for name, other in by_condition.items() if name != condition])


def _is_strange(one: Computed) -> bool:
    test = one.routed.early_test_for(one.frame.machine_id)
    if test is not None:
        return adds_evidence(one.score, test)
    return one.score > one.routed.threshold_for(one.frame.machine_id)


def live(row: str, root: Path, made: Path, detector: str) -> tuple[Tried, Tried]:
    """Train on a row, and return what became of false alarms on its normals, and of one fault called so."""
    from trainer.train import TrainConfig, train_model

    parts, played = recordings_of(row, root, made)
    with tempfile.TemporaryDirectory(prefix="whirr-false-alarms-") as scratch:
        normal, out = Path(scratch, "normal"), Path(scratch, "model.onnx")
        naming = link_normals(parts, normal)
        order = TrainConfig(normal=normal, out=out, machine="m", detector=detector, mlflow=False, **naming)
        model = Model.load(train_model(order).out)
    frame_s = model.metadata.calibration.frame_s
    every_s = LIFE_EVERY_S if row.startswith(LIVES) else frame_s
    engine = Engine(Router.from_routes([Route(model="m")], {"m": model}))
    names: list[str] = []
    kinds: list[int] = []
    frames: list[Computed] = []
    for one in played:
        records = list(frames_of([one], "m", frame_s, every_s, []))
        for answer in engine.compute(records):
            if isinstance(answer, DeadLetter):
                raise RuntimeError(f"{row}: {one.path.name}: {answer.detail}")
            frames.append(answer)
            names.append(one.path.name)
            kinds.append(one.kind)
    on_normals, on_faults = Tried(), Tried()
    for number, case in enumerate(cases(row, names, kinds, frames)):
        is_of_normals = not number and sum(map(len, (case.heard, case.rest))) == kinds.count(NORMAL)
        (on_normals if is_of_normals else on_faults).add(tried(case, engine.router, every_s))
    return on_normals, on_faults


def report(found: dict[str, tuple[Tried, Tried]]) -> Table:
    """Return a table with a line a row that has any false alarm, and what each half amounts to."""
    table = Table("row", "false alarms", "found again", "faults", "found after it", "frames later")
    for half, rows in HALVES.items():
        sums = Tried(), Tried()
        for row in (one for one in rows if one in found):
            for total, own in zip(sums, found[row], strict=True):
                total.add(own)
            if found[row][0].faults:
                table.add_row(row, *_cells(found[row][0]))
        table.add_row(f"half {half}", *_cells(sums[0]))
        table.add_row(f"half {half}, one fault called so", *_cells(sums[1]), end_section=True)
    return table


def _cells(one: Tried) -> list[str]:
    later = f"{min(one.delays)} to {max(one.delays)}" if one.delays else ""
    return [*map(str, (one.false_alarms, one.again, one.faults, one.found)), later]


def false_alarms(
    root: Annotated[Path, typer.Option(help="Folder of real recordings.")] = Path("../shared/data"),
    build: Annotated[Path, typer.Option(help="Folder for simulated recordings.")] = Path("build/quality"),
    row: Annotated[list[str] | None, typer.Option(help="Only these, as SET/MACHINE; may be repeated.")] = None,
    detector: Annotated[str, typer.Option(help="As whirr train takes it.")] = "auto",
) -> None:
    """Print what false alarms quiet, and what is found after them; the last line is one JSON object."""
    rows = [one for one in ROWS if (not row or one in row) and is_here(one, root)]
    if not rows or len(rows) < len(row or ()):
        print(f"no recordings in {root} for some of {', '.join(row or ROWS)}", file=sys.stderr)
        raise typer.Exit(2)
    logging.getLogger("stream_app.pipeline.engine").setLevel(logging.ERROR)  # each stream would say it anew
    found: dict[str, tuple[Tried, Tried]] = {}
    for one in rows:
        found[one] = live(one, root, build / "simulated", detector)
        print(f"{one}: {found[one][0].false_alarms} false alarms", file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 120).print(report(found))
    told = {name: {"normals": asdict(own), "one_fault": asdict(other)} for name, (own, other) in found.items()}
    print(orjson.dumps(told).decode())


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.run(false_alarms)
