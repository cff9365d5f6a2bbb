"""The worker against the same computation in process, a bare aiokafka loop and quixstreams; its latency and memory.

All drain the same topic of one-second 16 kHz frames with the seed's autoencoder, one after the other in each round;
a ratio is the median over the rounds. Frames are counted between a tenth and nine tenths, so starting up and running
dry don't count. Kafka is the one that ``WHIRR_KAFKA_BOOTSTRAP_SERVERS`` names, else the embedded one.

``WHIRR_BENCH_FRAMES``, ``WHIRR_BENCH_ROUNDS``, ``WHIRR_BENCH_LATENCY_S`` and ``WHIRR_BENCH_MEMORY_FRAMES`` set how
much is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas import frame_headers
from stream_app.topics import ensure_topics
from whirr import process
from whirr.broker import EmbeddedBroker
from whirr.settings import Settings

FRAMES = int(os.environ.get("WHIRR_BENCH_FRAMES", "4000"))
ROUNDS = int(os.environ.get("WHIRR_BENCH_ROUNDS", "3"))
LATENCY_S = float(os.environ.get("WHIRR_BENCH_LATENCY_S", "20"))
MEMORY_FRAMES = int(os.environ.get("WHIRR_BENCH_MEMORY_FRAMES", "100000"))
MACHINES = 40
RATE_HZ = 16_000
VALUES = 64
NOW_US = time.time_ns() // 1000
DEADLINE_S = 600.0


class Bench(NamedTuple):
    """What every measurement needs."""

    settings: Settings
    folder: Path
    calm: Path
    nervous: Path
    values: list[bytes]


class Worker:
    """A worker process."""

    def __init__(self, bench: Bench, model: Path, worker_id: str, frames_topic: str, mode: str = "state") -> None:
        self.port = process.free_port()
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": bench.settings.bootstrap,
            "KAFKA_EMBEDDED": str(bench.settings.embedded).lower(),
            "WORKER_ID": worker_id,
            "FRAMES_TOPIC": frames_topic,
            "WORKER_DIR": str(bench.folder / worker_id),
            "LOG_LEVEL": "warning",
        }
        command = [sys.executable, "-c", "from whirr.cli import main; main()", "worker", "--model", str(model)]
        self._process = subprocess.Popen(
            [*command, "--web-port", str(self.port), "--mode", mode],
            env={**os.environ, **{f"WHIRR_{name}": value for name, value in given.items()}},
        )

    def metrics(self) -> dict[str, float]:
        """Samples without labels, and the frames scored as ``scored``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        scored = sum(float(value) for name, value in found.items() if name.startswith("whirr_frames_total"))
        return {"scored": scored, **{name: float(value) for name, value in found.items() if "{" not in name}}

    def wait_for(self, frames: float) -> tuple[float, float]:
        """Wait until so many frames are scored; return when, and how many they were."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the worker ended with exit code {self._process.returncode}")
            with contextlib.suppress(OSError):
                scored = self.metrics()["scored"]
                if scored >= frames:
                    return time.perf_counter(), scored
            time.sleep(0.05)
        raise TimeoutError(f"{frames} frames were not scored within {DEADLINE_S:g} s")

    def wait_until_ready(self) -> None:
        """Return when /ready says so."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready"):
                return
            time.sleep(0.05)
        raise TimeoutError("the worker did not get ready")

    def rss_mb(self) -> float:
        """Resident memory of the worker and its computing process."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        total_kb = 0
        for pid in [str(self._process.pid), *children]:
            match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            total_kb += int(match[1]) if match else 0
        return total_kb / 1024

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def measure() -> dict[str, float]:
    """Return the figures.

    Returns:
        ``worker_vs_inprocess``, ``worker_vs_aiokafka`` and ``worker_vs_quixstreams`` (the worker's rate over theirs),
        ``frames_per_second`` of the worker, ``latency_ms_p50`` and ``latency_ms_p99`` from before a frame is sent to
        when its alert has been received (mode ``every``, half of that rate), ``rss_growth_mb`` of the worker and its
        computing process over the last four fifths of 100,000 frames.
    """
    with _bench() as bench:
        asyncio.run(_fill(bench, bench.settings.frames_topic, FRAMES))
        rates = [_round(bench, index) for index in range(ROUNDS)]
        result = {"frames_per_second": statistics.median(rate["worker"] for rate in rates)}
        for rival in ("inprocess", "aiokafka", "quixstreams"):
            result[f"{rival}_per_second"] = statistics.median(rate[rival] for rate in rates)
            result[f"worker_vs_{rival}"] = statistics.median(rate["worker"] / rate[rival] for rate in rates)
        result |= _latency(bench, result["frames_per_second"] / 2)
        result |= _memory(bench)
    return {name: round(value, 3) for name, value in result.items()}


@contextlib.contextmanager
def _bench() -> Iterator[Bench]:
    given = os.environ.get("WHIRR_KAFKA_BOOTSTRAP_SERVERS")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whirr-bench-")))
        bootstrap = given or stack.enter_context(EmbeddedBroker()).bootstrap
        settings = Settings(
            kafka_bootstrap_servers=bootstrap, kafka_embedded=given is None, frames_topic="bench-frames"
        )
        rng = np.random.default_rng(0)
        values = [_wav(rng.normal(0, 0.05, RATE_HZ)) for _ in range(VALUES)]
        yield Bench(settings, folder, _model(folder, 1e6), _model(folder, 1e-9), values)


def _wav(samples: np.ndarray[Any, Any]) -> bytes:
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _model(folder: Path, alert_threshold: float) -> Path:
    """Export the seed's autoencoder, untrained: what it costs does not depend on its weights."""
    import torch

    from tests.models import tiny_metadata
    from trainer.conv_ae.torch_model import ConvAutoEncoder
    from trainer.export import export

    torch.manual_seed(0)
    module = ConvAutoEncoder(1, 128, 30)
    module.set_normalisation(np.full((1, 128), -8.0), np.full((1, 128), 2.0))
    check = np.random.default_rng(0).normal(-8, 2, (2, 1, 128, 30)).astype(np.float32)
    metadata = tiny_metadata()
    thresholds = replace(metadata.thresholds, alert_threshold=alert_threshold)
    path = folder / f"conv-ae-{alert_threshold:g}.onnx"
    export(module, (1, 128, 30), check).save(path, replace(metadata, name="conv-ae", thresholds=thresholds))
    return path


async def _fill(bench: Bench, topic: str, frames: int) -> None:
    await ensure_topics(bench.settings.model_copy(update={"frames_topic": topic, "worker_id": f"filler-{topic}"}))
    async with _producer(bench) as producer:
        for begin in range(0, frames, 500):
            await asyncio.gather(
                *[await _send(bench, producer, topic, i) for i in range(begin, min(begin + 500, frames))]
            )


def _producer(bench: Bench) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=bench.settings.bootstrap, acks="all", max_batch_size=500_000)


async def _send(bench: Bench, producer: AIOKafkaProducer, topic: str, index: int) -> asyncio.Future[Any]:
    machine_id, value = f"pump-{index % MACHINES}", bench.values[index % VALUES]
    recorded_us = NOW_US - 3_600_000_000 + index * 1000
    headers = frame_headers(machine_id, None, recorded_us, value, index // MACHINES, "audio/wav")
    sent: asyncio.Future[Any] = await producer.send(topic, value, key=machine_id.encode(), headers=headers)
    return sent


def _round(bench: Bench, index: int) -> dict[str, float]:
    rates = {"inprocess": _rival(bench, "inprocess")}
    with Worker(bench, bench.calm, f"bench-{index}", bench.settings.frames_topic) as worker:
        began, first = worker.wait_for(FRAMES / 10)
        ended, last = worker.wait_for(FRAMES * 9 / 10)
    rates["worker"] = (last - first) / (ended - began)
    rates["aiokafka"] = _rival(bench, "aiokafka")
    rates["quixstreams"] = _rival(bench, "quixstreams")
    print(f"round {index + 1}: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()), flush=True)
    return rates


def _rival(bench: Bench, name: str) -> float:
    settings = bench.settings
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.rivals", name]
    ended = subprocess.run(
        [*program, str(bench.calm), settings.bootstrap, settings.frames_topic, str(FRAMES)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    return float(json.loads(ended.stdout.splitlines()[-1])["frames_per_second"])


def _latency(bench: Bench, frames_per_second: float) -> dict[str, float]:
    topic = "bench-latency"
    settings = bench.settings.model_copy(update={"frames_topic": topic, "worker_id": "bench-latency"})
    asyncio.run(ensure_topics(settings))
    with Worker(bench, bench.nervous, "bench-latency", topic, "every") as worker:
        worker.wait_until_ready()
        taken_s = asyncio.run(_answer_times(bench, topic, frames_per_second))
    ordered = sorted(taken_s)
    return {
        "latency_ms_p50": 1000 * ordered[len(ordered) // 2],
        "latency_ms_p99": 1000 * ordered[int(len(ordered) * 0.99)],
    }


async def _answer_times(bench: Bench, topic: str, frames_per_second: float) -> list[float]:
    """Send at a steady pace; return, for all but the first fifth, the seconds until the alert was received."""
    frames = int(frames_per_second * LATENCY_S)
    sent_s: dict[int, float] = {}
    taken_s: list[float] = []
    consumer = AIOKafkaConsumer(
        "anomalies", bootstrap_servers=bench.settings.bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=4
    )

    async def receive() -> None:
        async for message in consumer:
            now_s = time.perf_counter()
            frame = orjson.loads(message.value)["frame"]
            if frame["sequence"] >= frames // 5:
                taken_s.append(now_s - sent_s.pop(frame["sequence"]))
            if frame["sequence"] == frames - 1:
                return

    async with consumer, _producer(bench) as producer:
        receiving = asyncio.create_task(receive())
        await consumer.seek_to_end()
        began_s = time.perf_counter()
        for index in range(frames):
            await asyncio.sleep(max(began_s + index / frames_per_second - time.perf_counter(), 0))
            sent_s[index] = time.perf_counter()
            machine_id, value = f"pump-{index % MACHINES}", bench.values[index % VALUES]
            headers = frame_headers(machine_id, None, time.time_ns() // 1000, value, index, "audio/wav")
            await producer.send(topic, value, key=machine_id.encode(), headers=headers)
        await asyncio.wait_for(receiving, 60)
    return taken_s


def _memory(bench: Bench) -> dict[str, float]:
    """Feed many frames while the worker takes them, so that they need not all be kept."""
    topic = "bench-memory"
    settings = bench.settings.model_copy(update={"frames_topic": topic, "worker_id": "bench-memory"})
    asyncio.run(ensure_topics(settings))
    with Worker(bench, bench.calm, "bench-memory", topic) as worker:
        worker.wait_until_ready()
        asyncio.run(_fill(bench, topic, MEMORY_FRAMES))
        worker.wait_for(MEMORY_FRAMES / 5)
        before_mb = worker.rss_mb()
        worker.wait_for(MEMORY_FRAMES)
        after_mb = worker.rss_mb()
    return {"rss_mb": after_mb, "rss_growth_mb": after_mb - before_mb}


def report() -> dict[str, float]:
    """Measure, print a table, and return the figures."""
    figures = measure()
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>10.3f}")
    return figures


if __name__ == "__main__":
    print(orjson.dumps(report()).decode())
