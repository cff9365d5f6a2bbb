"""``make quality``: what each detector reaches on real recordings, by one protocol, and what it costs.

Train on normal recordings alone, one score a recording (the mean over its windows, the worst channel of a one-channel
model), nothing chosen by looking at test labels. The recordings lie beside the checkout and are not part of it:
``ROOT/SET/MACHINE/train`` and ``…/test/{normal,anomaly}*``; a run to failure (``femto``) trains on its first fifth, and
is tested on what follows up to the half (normal) and on its last tenth (anomalous).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import orjson
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from recordings import read_recording
from stream_app.pipeline import Model, resample, windows
from trainer.detector import DETECTORS
from trainer.reading import signals_of

ROWS = (
    ("motor", "motor"),
    ("fan_high", "fan"),
    ("fan_moving", "fan"),
    ("femto", "Bearing1_2"),
    ("femto", "Bearing2_2"),
    ("femto", "Bearing3_1"),
)
SINGLE = tuple(name for name in DETECTORS if name != "auto")


class Split(NamedTuple):
    """Recordings to train on, and to test on."""

    train: Sequence[Path]
    normal: Sequence[Path]
    anomalous: Sequence[Path]


class Figures(NamedTuple):
    """What a detector reached on one machine, and what it costs."""

    auc: float
    pauc: float
    windows_per_second: float
    size_kb: float
    training_s: float
    why: str


def split(folder: Path) -> Split:
    """Return a machine's recordings."""
    if folder.parent.name == "femto":
        run = sorted(folder.glob("*.flac"))
        return Split(run[: len(run) // 5], run[len(run) // 5 : len(run) // 2], run[-len(run) // 10 :])
    test = sorted((folder / "test").glob("*"))
    normal, anomalous = ([path for path in test if path.name.startswith(kind)] for kind in ("normal", "anomaly"))
    return Split(sorted((folder / "train").glob("*")), normal, anomalous)


def measure(folder: Path, detector: str, seed: int = 0) -> Figures:
    """Train a detector on a machine's normals and judge it on the rest."""
    from sklearn.metrics import roc_auc_score

    from trainer.train import TrainConfig, train_model

    parts = split(folder)
    with tempfile.TemporaryDirectory(prefix="whirr-quality-") as scratch:
        normal, out = Path(scratch, "normal"), Path(scratch, "model.onnx")
        normal.mkdir()
        for path in parts.train:
            (normal / path.name).symlink_to(path.resolve())
        began_s = time.perf_counter()
        result = train_model(TrainConfig(normal=normal, out=out, detector=detector, seed=seed, mlflow=False))
        training_s = time.perf_counter() - began_s
        model = Model.load(out)
        size_kb = out.stat().st_size / 1024
    scores = [recording_score(model, path) for path in (*parts.normal, *parts.anomalous)]
    truth = [0] * len(parts.normal) + [1] * len(parts.anomalous)
    auc, pauc = float(roc_auc_score(truth, scores)), float(roc_auc_score(truth, scores, max_fpr=0.1))
    return Figures(auc, pauc, _windows_per_second(model), size_kb, training_s, result.detector_why)


def recording_score(model: Model, path: Path) -> float:
    """Return the score of a whole recording: the mean over its windows, of a one-channel model's signals the worst."""
    config = model.metadata.features
    audio = read_recording(path)
    scores = []
    for signal in signals_of(audio.samples, config):
        log_mel = model.features.log_mel(resample(signal, audio.rate_hz, config.sample_rate_hz))
        scores.append(model.score(windows(log_mel, config))[0].astype(np.float64).mean())
    return float(max(scores))


def _windows_per_second(model: Model, seconds: float = 0.5) -> float:
    config = model.metadata.features
    shape = (64, config.channels, config.bands, config.window_columns)
    batch: NDArray[np.float32] = np.random.default_rng(0).normal(-8, 2, shape).astype(np.float32)
    model.score(batch)
    scored, began_s = 0, time.process_time()
    while time.process_time() < began_s + seconds:
        model.score(batch)
        scored += len(batch)
    return scored / (time.process_time() - began_s)


def report(found: dict[str, dict[str, Figures]]) -> Table:
    """Return a table with one row a machine and detector."""
    table = Table("set / machine", "detector", "AUC", "pAUC", "windows/s", "kB", "training s", "chosen")
    for detector, rows in found.items():
        for row, figures in rows.items():
            numbers = (f"{figures.auc:.3f}", f"{figures.pauc:.3f}", f"{figures.windows_per_second:.0f}")
            table.add_row(row, detector, *numbers, f"{figures.size_kb:.0f}", f"{figures.training_s:.1f}", figures.why)
    return table


def summary(found: dict[str, dict[str, Figures]]) -> list[str]:
    """Return the harmonic mean of each detector's AUC over the rows, and the regret of ``auto``."""
    lines = []
    for detector, rows in found.items():
        aucs = np.array([figures.auc for figures in rows.values()])
        lines.append(f"{detector:12} harmonic mean of AUC over {len(aucs)} rows: {len(aucs) / (1 / aucs).sum():.3f}")
    singles = [rows for detector, rows in found.items() if detector in SINGLE]
    if "auto" in found and singles:
        regrets = [max(rows[row].auc for rows in singles) - of_auto.auc for row, of_auto in found["auto"].items()]
        lines.append(
            f"auto's regret to the best single detector: mean {np.mean(regrets):.3f}, worst {max(regrets):.3f}"
        )
    return lines


def quality(
    root: Annotated[Path, typer.Option(help="Folder of recordings.")] = Path("../shared/data"),
    detector: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="Only these, as SET/MACHINE; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Print what each detector reaches on real recordings; the last line is one JSON object."""
    rows = [f"{set_name}/{machine}" for set_name, machine in ROWS]
    rows = [one for one in rows if (root / one).is_dir() and (not row or one in row)]
    if not rows:
        print(f"no recordings in {root}; expected {ROWS[0][0]}/{ROWS[0][1]} and others below it", file=sys.stderr)
        raise typer.Exit(2)
    found: dict[str, dict[str, Figures]] = {}
    for name in detector or list(DETECTORS):
        found[name] = {}
        for one in rows:
            found[name][one] = measure(root / one, name, seed)
            print(f"{name} {one}: AUC {found[name][one].auc:.3f}", file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 160).print(report(found))
    print("\n".join(summary(found)))
    as_json = {
        name: {one: {"auc": round(f.auc, 4), "pauc": round(f.pauc, 4)} for one, f in of_rows.items()}
        for name, of_rows in found.items()
    }
    print(orjson.dumps(as_json).decode())


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.run(quality)
