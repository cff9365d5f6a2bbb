"""``make quality``: see ``docs/training.md``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.quality import report
from benchmarks.quality.baseline import BASELINES
from benchmarks.quality.designs import ABLATIONS, DESIGNS
from benchmarks.quality.protocol import Measured, contaminants
from benchmarks.quality.rows import ROWS, is_here, split
from benchmarks.quality.runs import Places, Task, run
from benchmarks.quality.simulated import MADE
from trainer.detector import DEFAULT

Results = Mapping[Task, tuple[Measured, ...]]


def quality(  # noqa: PLR0913, PLR0917 - the options of a command
    root: Annotated[Path, typer.Option(help="Folder of real recordings.")] = Path("../shared/data"),
    build: Annotated[Path, typer.Option(help="Folder for simulated recordings and results.")] = Path("build/quality"),
    detector: Annotated[list[str] | None, typer.Option(help="Only these and the baselines; may be repeated.")] = None,
    design: Annotated[list[str] | None, typer.Option(help="Only these designs; may be repeated.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="Only these, as SET/MACHINE; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, of detectors that use the seed.")] = 3,
    contaminate: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of anomalous recordings to train on, too.")
    ] = 0.0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what has been measured.")] = False,
) -> None:
    """Print what detectors reach on machines that no one chose their design with; the last line is one JSON object."""
    rows = _rows(row, root)
    names = [*BASELINES, *(name for name in detector or DESIGNS if name not in BASELINES)]
    places = Places(root=root, build=build, fresh=fresh)
    tasks = [
        Task(one, name, of_name, 1 if name in BASELINES else seeds)
        for one in rows
        for name in names
        for of_name in _designs(name, design)
    ]
    measured = run(tasks, places, jobs)
    found = {name: report.Judged.of(_by_design(name, measured)) for name in names}
    out = Console(width=None if sys.stdout.isatty() else 240)
    out.print(report.rows_table(found, DEFAULT))
    if any(len(judged.designs) > 1 for judged in found.values()):
        out.print(report.designs_table(found))
    out.print(report.summary_table(found))
    for line in report.differences(found):
        print(line)
    if contaminate:
        out.print(_contaminated(found, places, contaminate, seeds, jobs))
    print(orjson.dumps(report.as_json(found)).decode())


def _rows(wanted: Sequence[str] | None, root: Path) -> list[str]:
    """Return the rows to measure, with a word on those that can't be."""
    for name in set(wanted or ()) - set(ROWS):
        _refuse(f"no row {name!r}; expected one of {', '.join(ROWS)}")
    rows = [one for one in ROWS if not wanted or one in wanted]
    here = [one for one in rows if is_here(one, root)]
    if missing := [one for one in rows if one not in here]:
        print(f"no recordings in {root} for {', '.join(missing)}", file=sys.stderr)
    if not here or (not wanted and set(here) <= set(MADE)):
        _refuse(f"no recordings in {root}; expected {ROWS[0]} and others below it")
    return here


def _designs(name: str, wanted: Sequence[str] | None) -> list[str]:
    """Return the designs of a detector to measure: of those that have none of the wanted names, the default."""
    own = [] if name in BASELINES else list(DESIGNS[name])
    tried = [one for one in own if one in wanted] if wanted else [one for one in own if one not in ABLATIONS]
    return tried or own[:1] or ["default"]


def _by_design(name: str, measured: Results) -> dict[str, dict[str, tuple[Measured, ...]]]:
    found: dict[str, dict[str, tuple[Measured, ...]]] = {}
    for task, of_task in measured.items():
        if task.detector == name:
            found.setdefault(task.design, {})[task.row] = of_task
    return found


def _contaminated(found: report.Found, places: Places, share: float, seeds: int, jobs: int) -> Table:
    """Measure each row that has enough anomalous recordings once more, with some of them among those that train."""
    rows = next(iter(found.values())).rows
    drawn = {row: contaminants(split(row, places.root, places.build / "simulated"), share) for row in rows}
    drawn = {row: places_ for row, places_ in drawn.items() if places_}
    tasks = [
        Task(row, name, judged.design_of[row], 1 if name in BASELINES else seeds, share)
        for row in drawn
        for name, judged in found.items()
    ]
    measured = run(tasks, places, jobs)
    clean = {
        name: {row: [one.without(drawn[row]) for one in judged.rows[row]] for row in drawn}
        for name, judged in found.items()
    }
    dirty: dict[str, dict[str, tuple[Measured, ...]]] = {name: {} for name in found}
    for task, of_task in measured.items():
        dirty[task.detector][task.row] = of_task
    return report.contamination_table(clean, dirty, share)


def _refuse(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.run(quality)
