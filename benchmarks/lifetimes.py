"""``make lifetimes``: bearings run to failure, live: when does the first alert come?

Each run trains on its first fifth, as a user would at default settings; then all of it goes through the backtest, which
is the live system minus Kafka, in time order, with the default alert rule. Wanted: no alert in the first half of life,
and one before its last tenth. The recordings lie beside the checkout and are not part of it:
``ROOT/BearingX_Y/*.flac``, 0.1 s every 10 s.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.table import Table

from recordings.find import sort_key
from schemas import Alert, FrameRecord, Score, frame_headers
from stream_app.pipeline import backtest
from stream_app.pipeline.model import Model
from whirr.settings import Route

RUNS = ("Bearing1_2", "Bearing2_2", "Bearing3_1")
EVERY_S = 10.0
NO_ALERT_BEFORE = 0.5
ALERT_BEFORE = 0.9


class Life(NamedTuple):
    """A run to failure, live. Shares are of its length.

    Attributes:
        frames: Of the whole run.
        threshold: The model's alert threshold.
        first: Share of life at the first alert; None if none came.
        false_alerts: Incidents that opened in the first half.
        open_share: Share of the frames during which an incident was open.
        ratios: Mean of score / threshold in each tenth of life.
    """

    frames: int
    threshold: float
    first: float | None
    false_alerts: int
    open_share: float
    ratios: Sequence[float]

    @property
    def in_time(self) -> bool:
        """Whether the first alert came when it should."""
        return self.first is not None and NO_ALERT_BEFORE <= self.first < ALERT_BEFORE


def live(folder: Path, detector: str, seed: int = 0, false_alerts: float = 1.0) -> Life:
    """Train on a run's first fifth, and play all of it."""
    from trainer.train import TrainConfig, train_model

    run = sorted(folder.glob("*.flac"), key=lambda path: sort_key(path.name))
    with tempfile.TemporaryDirectory(prefix="whirr-lifetimes-") as scratch:
        normal = Path(scratch, "normal")
        normal.mkdir()
        for path in run[: len(run) // 5]:
            (normal / path.name).symlink_to(path.resolve())
        order = TrainConfig(
            normal=normal,
            out=Path(scratch, "model.onnx"),
            machine=folder.name,
            detector=detector,
            seed=seed,
            false_alerts=false_alerts,
            mlflow=False,
        )
        model = Model.load(train_model(order).out)
    routes = [Route(model="models:/lifetimes@champion")]
    told = list(backtest(_frames(run, folder.name), {routes[0].model: model}, routes))
    scores = [one for one in told if isinstance(one, Score)]
    alerts = [
        (one.frame.frame_id, one.state)
        for one in told
        if isinstance(one, Alert) and one.kind == "machine" and one.frame
    ]
    if len(scores) != len(run):
        raise RuntimeError(f"{len(run)} recordings gave {len(scores)} scores")
    places = {one.frame_id: number for number, one in enumerate(scores)}
    opened = [places[frame] for frame, state in alerts if state == "opened"]
    closed = [places[frame] for frame, state in alerts if state == "closed"]
    ends = [*closed, len(run)][: len(opened)]
    ratios = [one.score / one.threshold for one in scores]
    tenths = [ratios[len(run) * tenth // 10 : len(run) * (tenth + 1) // 10] for tenth in range(10)]
    return Life(
        frames=len(run),
        threshold=scores[0].threshold,
        first=opened[0] / len(run) if opened else None,
        false_alerts=sum(place < NO_ALERT_BEFORE * len(run) for place in opened),
        open_share=sum(end - start for start, end in zip(opened, ends, strict=True)) / len(run),
        ratios=[sum(tenth) / len(tenth) for tenth in tenths],
    )


def _frames(run: Sequence[Path], machine: str) -> Iterator[FrameRecord]:
    for number, path in enumerate(run):
        recorded_us, value = round(number * EVERY_S * 1_000_000), path.read_bytes()
        headers = frame_headers(machine, None, recorded_us, value)
        yield FrameRecord(machine.encode(), value, headers, timestamp_ms=recorded_us // 1000)


def report(found: dict[str, dict[str, Life]]) -> Table:
    """Return a table with one row a run and detector."""
    tenths = "mean score / threshold in each tenth of life"
    table = Table("detector", "run", "first alert", "in first half", "open", tenths, "wanted")
    for detector, lives in found.items():
        for name, life in lives.items():
            first = "none" if life.first is None else f"{life.first:.3f} of life"
            ratios = " ".join(f"{ratio:.2f}" for ratio in life.ratios)
            wanted = "met" if life.in_time else "missed"
            table.add_row(detector, name, first, str(life.false_alerts), f"{life.open_share:.0%}", ratios, wanted)
    return table


def lifetimes(
    root: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("../shared/data/femto"),
    detector: Annotated[list[str] | None, typer.Option(help="May be repeated; default: conv_ae and auto.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    false_alerts: Annotated[float, typer.Option(help="As whirr train takes it.")] = 1.0,
) -> None:
    """Print when the first alert came in each run to failure; the last line is one JSON object."""
    runs = [name for name in RUNS if (root / name).is_dir()]
    if not runs:
        print(f"no recordings in {root}; expected {RUNS[0]} and others below it", file=sys.stderr)
        raise typer.Exit(2)
    found: dict[str, dict[str, Life]] = {}
    for name in detector or ["conv_ae", "auto"]:
        found[name] = {run: live(root / run, name, seed, false_alerts) for run in runs}
        print(f"{name}: {sum(life.in_time for life in found[name].values())} of {len(runs)} in time", file=sys.stderr)
    Console(width=None if sys.stdout.isatty() else 160).print(report(found))
    as_json = {
        name: {
            run: {
                "first_alert": None if life.first is None else round(life.first, 4),
                "false_alerts": life.false_alerts,
                "open_share": round(life.open_share, 4),
                "threshold": round(life.threshold, 4),
                "in_time": life.in_time,
            }
            for run, life in lives.items()
        }
        for name, lives in found.items()
    }
    print(orjson.dumps(as_json).decode())


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.run(lifetimes)
