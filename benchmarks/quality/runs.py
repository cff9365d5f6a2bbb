"""Many measurements: in parallel, and each kept as soon as it is made, so that an interrupted run goes on.

A result is kept by its row, recordings, detector, design and seed, the source of the detector
(:mod:`benchmarks.quality.sources`) and of the protocol, and holds as long as the options of the training are the same.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson

from benchmarks.quality import baseline, protocol
from benchmarks.quality.baseline import BASELINES
from benchmarks.quality.designs import DESIGNS, Design
from benchmarks.quality.protocol import Measured, contaminants, contaminated, measure
from benchmarks.quality.rows import split
from benchmarks.quality.sources import detector_hash, dumped
from trainer.detector import DETECTORS

PATHS = ("normal", "out", "name", "seed")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where recordings and results are.

    Attributes:
        root: Folder of the real recordings.
        build: Folder for what is made: simulated recordings and results.
        fresh: Measure what has been measured before, too.
    """

    root: Path
    build: Path
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One detector by one design on one row, with one or several seeds.

    Attributes:
        contaminate: Share of anomalous recordings among those that train.
    """

    row: str
    detector: str
    design: str = "default"
    seeds: int = 1
    contaminate: float = 0.0


def run(tasks: Sequence[Task], places: Places, jobs: int) -> dict[Task, tuple[Measured, ...]]:
    """Return what each task gave, one entry a seed; a single one where the training doesn't use its seed.

    Args:
        tasks: What to measure.
        places: Where recordings and results are.
        jobs: Processes, of one thread each.
    """
    found: dict[Task, tuple[Measured, ...]] = {}
    began_s = time.monotonic()
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read by a process when it starts
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            waiting = {pool.submit(_measured, task, places): task for task in tasks}
            try:
                for number, done in enumerate(as_completed(waiting), 1):
                    task = waiting[done]
                    found[task] = done.result()
                    _tell(task, found[task], f"[{number}/{len(tasks)} {time.monotonic() - began_s:.0f} s]")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    return {task: found[task] for task in tasks}


def _tell(task: Task, measured: Sequence[Measured], progress: str) -> None:
    what = " ".join([task.detector, *([task.design] if task.design != "default" else []), task.row])
    if task.contaminate:
        what += f", {task.contaminate:.0%} contaminated"
    aucs = " ".join(f"{one.auc:.3f}" for one in measured)
    print(f"{progress} {what}: AUC {aucs}", file=sys.stderr, flush=True)


def _measured(task: Task, places: Places) -> tuple[Measured, ...]:
    """Measure a task with each seed, or read what was measured."""
    parts = split(task.row, places.root, places.build / "simulated")
    if task.contaminate:
        parts = contaminated(parts, contaminants(parts, task.contaminate))
    design: Design = {} if task.detector in BASELINES else DESIGNS[task.detector][task.design]
    options = _options(task, design)
    found: list[Measured] = []
    for seed in range(task.seeds):
        path = _path(places.build / "results", task, _about(task, options, parts.digest(), seed))
        measured = None if places.fresh else _read(path, options)
        if measured is None:
            measured = measure(parts, task.detector, design, seed, known=found[0] if found else None)
            _write(path, measured, options)
        if found and (measured.version == found[0].version):
            break  # the seed isn't used
        found.append(measured)
    return tuple(found)


def _about(task: Task, options: dict[str, Any], recordings: str, seed: int) -> str:
    """Return a hash over what a result rests on, options aside."""
    if task.detector in BASELINES:
        source = dumped(Path(baseline.__file__))
    else:
        source = detector_hash([task.detector, *(name for name in _texts(options) if name in DETECTORS)])
    told = [task.row, recordings, f"{task.contaminate:g}", str(seed), source, dumped(Path(protocol.__file__))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _texts(options: dict[str, Any]) -> Iterator[str]:
    for value in options.values():
        if isinstance(value, str):
            yield from value.split(",")


def _options(task: Task, design: Design) -> dict[str, Any]:
    """Return every option of a task's training, as a plain value."""
    if task.detector in BASELINES:
        return {}
    from trainer.train_options import TrainConfig, options_of

    config = TrainConfig(normal=Path(), out=Path("model.onnx"), detector=task.detector, mlflow=False, **design)
    return {name: value for name, value in options_of(config).items() if name not in PATHS}


def _path(folder: Path, task: Task, about: str) -> Path:
    row = task.row.replace("/", "-").replace(":", "-")
    return folder / task.detector / task.design / f"{row}-{about}.json"


def _read(path: Path, options: dict[str, Any]) -> Measured | None:
    """Return a result that was kept, if its training's options still have the values that they had."""
    if not path.is_file():
        return None
    kept = orjson.loads(path.read_bytes())
    # An option that there was not yet is one of code that the result's hash knows of.
    if any(options.get(name) != value for name, value in kept.pop("options").items()):
        return None
    normal, anomalous = (tuple(kept.pop(name)) for name in ("normal", "anomalous"))
    return Measured(normal=normal, anomalous=anomalous, **kept)


def _write(path: Path, measured: Measured, options: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_bytes(orjson.dumps({**asdict(measured), "options": options}))
    scratch.replace(path)
