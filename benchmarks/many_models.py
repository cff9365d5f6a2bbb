"""``python -m benchmarks.many_models``: a model for each of 2,000 machines, beside one model for them all.

The same frames of one second at 16 kHz, one of each machine, in batches of 64, from the record to the score, in one
process and in turns; ratios of CPU time. Machines' models hold the same weights, but each in memory of its own: what a
frame costs more is that they come from there, and not from the processor's cache. ``WHIRR_BENCH_MODELS`` sets how many
machines; of a kind of model of which so many would take more than half of the memory that is free, as many as fit.
Each kind is measured in a process of its own: what the one before has given back would be taken again, and not be seen.
"""

from __future__ import annotations

import gc
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

import onnx
import orjson

from benchmarks import default_model
from benchmarks.environment import NOW_US, seed_model
from benchmarks.processes import rss_mb
from schemas import FrameRecord
from stream_app.pipeline import METADATA_KEY, Computed, Engine, Model, Router
from stream_app.pipeline.model import SESSION_SIZE
from stream_app.pipeline.model_stack import Stacks
from whirr.settings import Route

MACHINES: Final = int(os.environ.get("WHIRR_BENCH_MODELS", "2000"))
BATCH: Final = 64
ROUNDS: Final = 5
ALONE: Final = 200  # machines, where each model has a session: that takes more memory, and more would show nothing else
TEMPLATE: Final = "models:/whirr.{machine}@champion"


class Found(NamedTuple):
    """What one kind of model costs.

    Attributes:
        machines: So many had a model each.
        vs_one: Frames a second, over those with one model for all.
        sessions_vs_one: The same where each model has a session of its own, as one that is alone of its kind.
        rss_mb: Resident memory that the models took.
        load_ms: To load one.
        one_us: What a frame costs with one model for all.
    """

    machines: int
    vs_one: float
    sessions_vs_one: float
    rss_mb: float
    load_ms: float
    one_us: float


def measure() -> dict[str, Found]:
    """Return by detector what a model for each machine costs."""
    with tempfile.TemporaryDirectory(prefix="whirr-models-") as text:
        folder = Path(text)
        kinds = {"default": default_model.train_default(folder), "conv_ae": seed_model(folder, 1e6)}
        return {name: _in_its_own_process(file) for name, file in kinds.items()}


def _in_its_own_process(file: Path) -> Found:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_compared, file).result()


def _compared(file: Path) -> Found:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        return _measured(file, default_model.unheard())


def _measured(file: Path, values: Sequence[bytes]) -> Found:
    raw = file.read_bytes()
    machines = min(MACHINES, int(_free_bytes() / 2 / (SESSION_SIZE * len(raw))))
    began_us = NOW_US - 3_600_000_000
    records = [
        default_model.record(f"pump-{number}", values[number % len(values)], began_us + number)
        for number in range(machines)
    ]
    routes = [Route(model=str(file))]
    one = Engine(Router.from_routes(routes, {str(file): Model.load(file, raw)}))
    before_mb, began = rss_mb(os.getpid()), time.process_time()
    many = _of_machines(file, raw, machines, Stacks())
    load_ms = (time.process_time() - began) * 1e3 / machines
    models_mb = rss_mb(os.getpid()) - before_mb
    few = records[: min(ALONE, machines)]
    alone = _of_machines(file, raw, len(few), None)
    _check(one, many, alone, few)
    turns: dict[str, tuple[Engine, Sequence[FrameRecord]]] = {
        "one": (one, records),
        "many": (many, records),
        "alone": (alone, few),
    }
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(ROUNDS):
        for name, (engine, given) in turns.items():
            seconds[name].append(_timed(engine, given) / len(given))
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds["one"], seconds[name], strict=True)) for name in turns
    }
    return Found(machines, ratios["many"], ratios["alone"], models_mb, load_ms, statistics.median(seconds["one"]) * 1e6)


def _of_machines(file: Path, raw: bytes, machines: int, stacks: Stacks | None) -> Engine:
    """Return an engine in which each machine has a model of its own."""
    models = {
        TEMPLATE.replace("{machine}", f"pump-{number}"): Model.load(file, own, stacks)
        for number, own in enumerate(own_files(raw, machines))
    }
    gc.collect()
    return Engine(Router.from_routes([Route(model=TEMPLATE)], models))


def own_files(raw: bytes, machines: int) -> Iterator[bytes]:
    """Yield a model's file for each machine."""
    proto = onnx.load_model_from_string(raw)
    entry = next(one for one in proto.metadata_props if one.key == METADATA_KEY)
    metadata = orjson.loads(entry.value)
    for number in range(machines):
        entry.value = orjson.dumps(metadata | {"name": f"whirr.pump-{number}"}).decode()
        yield proto.SerializeToString()


def metadata_of(raw: bytes) -> str:
    """Return a model file's metadata, without its golden windows."""
    proto = onnx.load_model_from_string(raw)
    return orjson.dumps(
        orjson.loads(next(one.value for one in proto.metadata_props if one.key == METADATA_KEY)) | {"golden": []}
    ).decode()


def _check(one: Engine, many: Engine, alone: Engine, records: Sequence[FrameRecord]) -> None:
    """See to it that all say the same of the same frames."""
    told = []
    for engine in (one, many, alone):
        answers = [answer for batch in _batches(records) for answer in engine.compute(batch)]
        assert all(isinstance(answer, Computed) for answer in answers), answers[0]
        told.append([answer.score for answer in answers if isinstance(answer, Computed)])
    if not told[0] == told[1] == told[2]:
        raise RuntimeError("the scores differ")


def _timed(engine: Engine, records: Sequence[FrameRecord]) -> float:
    began = time.process_time()
    for batch in _batches(records):
        engine.compute(batch)
    return time.process_time() - began


def _batches(records: Sequence[FrameRecord]) -> Iterator[Sequence[FrameRecord]]:
    return (records[at : at + BATCH] for at in range(0, len(records), BATCH))


def _free_bytes() -> int:
    match = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert match is not None
    return int(match[1]) * 1024


def report(found: dict[str, Found]) -> dict[str, float]:
    """Print a table; return the figures."""
    print(f"{'a model for each machine':24} {'machines':>9} {'vs one':>7} {'sessions':>9} {'MB':>8} {'load ms':>8}")
    for name, one in found.items():
        figures = f"{one.vs_one:7.2f} {one.sessions_vs_one:9.2f} {one.rss_mb:8.0f} {one.load_ms:8.1f}"
        print(f"{name:24} {one.machines:9} {figures}   one model for all: {one.one_us:.0f} us a frame")
    return {
        "many_models_vs_one": found["default"].vs_one,
        "many_models_rss_mb": found["default"].rss_mb,
        "many_models_vs_one_conv_ae": found["conv_ae"].vs_one,
        "many_models_rss_mb_conv_ae": found["conv_ae"].rss_mb,
    }


def main() -> None:
    """Print the table, then one JSON object."""
    found = measure()
    figures = {name: round(value, 3) for name, value in report(found).items()}
    more = {name: {key: round(value, 3) for key, value in one._asdict().items()} for name, one in found.items()}
    print(orjson.dumps(figures | {"models": more}).decode())


if __name__ == "__main__":
    import logging

    logging.disable(logging.WARNING)
    main()
