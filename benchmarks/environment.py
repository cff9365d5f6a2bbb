"""What the worker's benchmarks stand on: a broker, a topic of frames, a model, and a worker to measure.

Kafka is the one that ``WHIRR_KAFKA_BOOTSTRAP_SERVERS`` names; else Apache Kafka, started for the occasion, where this
machine has Java and its jars (``python -m tests.services fetch``); else the embedded broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer

from schemas import frame_headers
from stream_app.worker.topic_setup import ensure_topics
from tests.services import KAFKA_VERSION, KafkaCluster
from tests.services.service import NotInstalled
from whirr import process
from whirr.broker import EmbeddedBroker
from whirr.settings import Settings

MACHINES = 40
RATE_HZ = 16_000
VALUES = 64
NOW_US = time.time_ns() // 1000
DEADLINE_S = 600.0
EMBEDDED = "the embedded broker"


def machine() -> str:
    """Return which processor this is, and of how many cores: what ratios may depend on."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return f"{found[1]}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


class Bench(NamedTuple):
    """What every measurement needs.

    Attributes:
        broker: What Kafka is.
        calm, nervous: Model files: one never alerts, one always does.
        values: WAV files of a second each.
    """

    settings: Settings
    broker: str
    folder: Path
    calm: Path
    nervous: Path
    values: list[bytes]


class Worker:
    """A worker process; ``more`` are settings besides, by the names of their environment variables."""

    def __init__(
        self,
        bench: Bench,
        model: Path | str,
        worker_id: str,
        frames_topic: str,
        mode: str = "state",
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.port = process.free_port()
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": bench.settings.bootstrap,
            "WORKER_ID": worker_id,
            "FRAMES_TOPIC": frames_topic,
            "ALERTS_TOPIC": bench.settings.alerts_topic,
            "WORKER_DIR": str(bench.folder / worker_id),
            "LOG_LEVEL": "warning",
            **(more or {}),
        }
        command = [sys.executable, "-c", "from commands import main; main()", "worker", "--model", str(model)]
        self._process = subprocess.Popen(
            [*command, "--web-port", str(self.port), "--mode", mode],
            env={**os.environ, **{f"WHIRR_{name}": value for name, value in given.items()}},
        )

    @property
    def pid(self) -> int:
        """Its process id; what it computes with is a child of it."""
        return self._process.pid

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
            time.sleep(0.2)  # each look takes time from the worker
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


@contextlib.contextmanager
def prepared() -> Iterator[Bench]:
    """Yield what every measurement needs; the broker stops with the ``with`` block if it was started for it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whirr-bench-")))
        name, bootstrap = _broker(stack)
        settings = Settings(
            kafka_bootstrap_servers=bootstrap,
            frames_topic="bench-frames",
            alerts_topic="bench-anomalies",
        )
        print(f"Kafka: {name} at {bootstrap}", flush=True)
        rng = np.random.default_rng(0)
        values = [_wav(rng.normal(0, 0.05, RATE_HZ)) for _ in range(VALUES)]
        yield Bench(settings, name, folder, seed_model(folder, 1e6), seed_model(folder, 1e-9), values)


def _broker(stack: contextlib.ExitStack) -> tuple[str, str]:
    """Return name and address of a broker."""
    given = os.environ.get("WHIRR_KAFKA_BOOTSTRAP_SERVERS")
    if given:
        return "as given", given
    with contextlib.suppress(NotInstalled):
        return f"Apache Kafka {KAFKA_VERSION}", stack.enter_context(KafkaCluster()).address
    return EMBEDDED, stack.enter_context(EmbeddedBroker()).bootstrap


def _wav(samples: np.ndarray[Any, Any]) -> bytes:
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def seed_model(folder: Path, alert_threshold: float, **changes: Any) -> Path:
    """Export the seed's autoencoder, untrained: what it costs does not depend on its weights; ``changes``: metadata."""
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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"conv-ae-{alert_threshold:g}.onnx"
    metadata = replace(metadata, name="conv-ae", thresholds=thresholds, **changes)
    export(module, (1, 128, 30), check).save(path, metadata)
    return path


async def fill(bench: Bench, topic: str, frames: int) -> None:
    """Create a topic and put frames of one second into it."""
    await ensure_topics(settings_for(bench, topic))
    async with make_producer(bench) as producer:
        for begin in range(0, frames, 500):
            numbers = range(begin, min(begin + 500, frames))
            await asyncio.gather(*[await send(bench, producer, topic, number) for number in numbers])


def settings_for(bench: Bench, topic: str) -> Settings:
    """Return settings for a worker and a frames topic of the same name."""
    return bench.settings.model_copy(update={"frames_topic": topic, "worker_id": topic})


def make_producer(bench: Bench) -> AIOKafkaProducer:
    """Return a producer that sends as fast as it is given records."""
    return AIOKafkaProducer(bootstrap_servers=bench.settings.bootstrap, acks="all", max_batch_size=500_000)


async def send(
    bench: Bench, producer: AIOKafkaProducer, topic: str, number: int, recorded_us: int | None = None
) -> asyncio.Future[Any]:
    """Hand one frame to a producer; the numbers go round the machines."""
    machine_id, value = f"pump-{number % MACHINES}", bench.values[number % len(bench.values)]
    if recorded_us is None:
        recorded_us = NOW_US - 3_600_000_000 + number * 1000
    headers = frame_headers(machine_id, None, recorded_us, value, number // MACHINES, "audio/wav")
    sent: asyncio.Future[Any] = await producer.send(topic, value, key=machine_id.encode(), headers=headers)
    return sent
