"""``python -m benchmarks.recovery``: how long a worker takes to have 100,000 streams again, and their memory.

A changelog is filled with as many streams' states, each as it is after some frames, and a worker is started on it:
from its start until it is ready, less what a worker with an empty changelog takes. Kafka is as ``make bench`` finds
it. Then, in this process: the memory of as many states that are all in use, of what a worker's event loop keeps of
2,000 machines' models, and of those that are loaded while each of the machines sends a frame, at most
``max_model_mb``. ``WHIRR_BENCH_STREAMS`` and ``WHIRR_BENCH_MODELS`` set how many.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks import default_model
from benchmarks.environment import NOW_US, Bench, Worker, fill, make_producer, prepared, settings_for
from benchmarks.many_models import metadata_of, own_files
from benchmarks.processes import rss_mb
from schemas import FrameRecord, frame_headers
from stream_app.pipeline import Computed, Engine, Model, Router, StreamState
from stream_app.worker.resident_models import ResidentModels
from stream_app.worker.states import StreamStates, state_key
from stream_app.worker.topic_setup import ensure_topics
from whirr.settings import DEFAULT_MODEL_MB, Route, changelog_topic

STREAMS: Final = int(os.environ.get("WHIRR_BENCH_STREAMS", "100000"))
MODELS: Final = int(os.environ.get("WHIRR_BENCH_MODELS", "2000"))
FRAMES: Final = 12  # that each stream has sent
AT_ONCE: Final = 5_000


def measure(bench: Bench) -> dict[str, float]:
    """Return how long recovery takes, and what is held in memory then."""
    state = _state(bench.calm, bench.values)
    _started(bench, "bench-first")  # a broker that is new takes its time
    empty_s, empty_mb, _ = _started(bench, "bench-empty")
    asyncio.run(_fill_changelog(bench, "bench-recovery", state.to_bytes()))
    full_s, full_mb, streams = _started(bench, "bench-recovery")
    if streams < STREAMS:
        raise RuntimeError(f"{streams:.0f} streams came back; expected {STREAMS}")
    return {
        "recovery_s": max(full_s - empty_s, 0.0),
        "recovered_streams": streams,
        "start_s": empty_s,
        "start_with_recovery_s": full_s,
        "worker_rss_mb": empty_mb,
        "recovered_rss_mb": full_mb,
    } | in_use(state)


def in_use(state: StreamState) -> dict[str, float]:
    """Return what states that are all in use take, and the models of machines as the event loop knows them."""
    states = StreamStates()
    raw = state.to_bytes()

    def put() -> object:
        for number in range(STREAMS):
            states.put(number % 8, state_key((f"pump-{number}", "mic")), StreamState.from_bytes(raw))
        return states

    found = {"streams_in_use_mb": _growth_mb(put)}
    with tempfile.TemporaryDirectory(prefix="whirr-recovery-") as folder:
        model = Model.load(default_model.train_default(Path(folder)))
        text = model.metadata_json()

        def describe() -> object:
            return [Model.described(text, model.path, f"{number:064x}") for number in range(MODELS)]

        found["described_models_mb"] = _growth_mb(describe)
        found["max_model_mb"] = float(DEFAULT_MODEL_MB)
        found["resident_models_mb"] = _resident_mb(Path(folder), model.path.read_bytes())
    return found


def _resident_mb(folder: Path, raw: bytes) -> float:
    """Return the most that a process grows by while each of the machines sends a frame."""
    resident = ResidentModels(DEFAULT_MODEL_MB << 20)
    before_mb, most_mb = rss_mb(os.getpid()), 0.0
    for own in own_files(raw, MODELS):
        path = folder / "own.onnx"
        path.write_bytes(own)
        model = Model.described(metadata_of(own), path, hashlib.sha256(own).hexdigest())
        resident.need(model)
        resident.trim()
        most_mb = max(most_mb, rss_mb(os.getpid()) - before_mb)
    return most_mb


def _state(model: Path, values: list[bytes]) -> StreamState:
    """Return a stream's state after some frames."""
    engine = Engine(Router.from_routes([Route(model="model")], {"model": Model.load(model)}))
    state: StreamState | None = None
    for number in range(FRAMES):
        recorded_us = NOW_US - 3_600_000_000 + number * 1_000_000
        headers = tuple(frame_headers("pump-1", "mic", recorded_us, values[number], number))
        record = FrameRecord(b"pump-1", values[number], headers, recorded_us // 1000)
        computed = engine.compute([record])[0]
        assert isinstance(computed, Computed), computed
        state = engine.advance(computed, state, NOW_US).state
    assert state is not None
    return state


def _started(bench: Bench, topic: str) -> tuple[float, float, float]:
    """Return how long a worker takes until it is ready, its memory then, and how many streams it has."""
    asyncio.run(ensure_topics(settings_for(bench, topic)))
    began = time.perf_counter()
    with Worker(bench, bench.calm, topic, topic) as worker:
        worker.wait_until_ready()
        took_s, worker_mb = time.perf_counter() - began, worker.rss_mb()
        asyncio.run(fill(bench, topic, 1))  # how many streams there are is said with the next batch
        worker.wait_for(1)
        return took_s, worker_mb, worker.metrics()["whirr_streams"]


async def _fill_changelog(bench: Bench, topic: str, state: bytes) -> None:
    settings = settings_for(bench, topic)
    partitions = await ensure_topics(settings)
    changelog = changelog_topic(settings.worker_id)
    async with make_producer(bench) as producer:
        for begin in range(0, STREAMS, AT_ONCE):
            sent: list[Any] = []
            for number in range(begin, min(begin + AT_ONCE, STREAMS)):
                key = state_key((f"machine-{number}", "mic"))
                sent.append(await producer.send(changelog, state, key=key, partition=number % partitions))
            await asyncio.gather(*sent)


def _growth_mb(make: Callable[[], object]) -> float:
    gc.collect()
    before_mb = rss_mb(os.getpid())
    made = make()
    gc.collect()
    grown_mb = rss_mb(os.getpid()) - before_mb
    del made
    return grown_mb


def main() -> None:
    """Print the figures, then one JSON object."""
    with prepared() as bench:
        found = {name: round(value, 3) for name, value in measure(bench).items()}
    for name, value in found.items():
        print(f"{name:<22} {value:>10.1f}")
    print(orjson.dumps({"broker": bench.broker, "streams": STREAMS, "models": MODELS, **found}).decode())


if __name__ == "__main__":
    main()
