"""The live part: a broker, a worker, an edge agent a machine, all as processes of their own, and what came out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiokafka.admin import AIOKafkaAdminClient

from examples.demo.machines import DemoMachine
from examples.demo.observer import Observer, Received
from schemas import format_rfc3339
from schemas.errors import ServiceUnavailable, WhirrError
from stream_app.worker.topic_setup import ensure_topics
from whirr import process
from whirr.settings import Settings

READY_DEADLINE_S = 60.0
ANSWER_DEADLINE_S = 30.0
FRAMES_PER_SECOND = 250.0  # what two cores can simulate a gateway for, encode, score and draw at the same time
SHORTEST_PLAY_S = 15.0


@dataclass(frozen=True, slots=True)
class Played:
    """What the live part gave.

    Attributes:
        published: By machine id, the frames that the broker acknowledged to its edge agent.
        damaged: Recordings that the edge agents could not read to their end.
        received: What the watcher read.
    """

    published: dict[str, int]
    damaged: int
    received: Received


def playing_speed(machines: Sequence[DemoMachine]) -> float:
    """Return how many times faster than recorded to play: as fast as two cores allow, but so that one can watch."""
    frames_per_recorded_second = sum(1 / machine.frame_s for machine in machines)
    longest_s = max(machine.live_s for machine in machines)
    return max(1.0, min(FRAMES_PER_SECOND / frames_per_recorded_second, longest_s / SHORTEST_PLAY_S))


async def play(
    machines: Sequence[DemoMachine],
    settings: Settings,
    out: Path,
    start_us: int,
    speed: float,
    *,
    on_alert: Callable[[dict[str, Any]], None],
    on_ready: Callable[[], None],
    on_progress: Callable[[int], None],
) -> Played:
    """Play every machine's recordings through Kafka and return when each frame has been answered.

    Args:
        machines: Whose recordings.
        settings: With a broker that is there.
        out: Folder with ``whirr.toml``; takes the logs.
        start_us: Recording time of the first frames.
        speed: Recorded seconds a second.
        on_alert: Called with each alert as it arrives.
        on_ready: Called when the worker is ready.
        on_progress: Called every now and then with the number of frames answered.

    Raises:
        ServiceUnavailable: The worker did not get ready, or an edge agent failed.
    """
    await ensure_topics(settings)
    observer = Observer(settings, on_alert)
    watching = asyncio.create_task(observer.run())
    telling = asyncio.create_task(_tell(observer, on_progress))
    environment = _environment(settings, out)
    try:
        with _running(["worker"], out / "worker.log", environment) as worker:
            await _ready(worker, settings, out)
            on_ready()
            published, damaged = await _run_edges(machines, environment, out, start_us, speed)
            await observer.wait_for(sum(published.values()), ANSWER_DEADLINE_S)
        # The worker has stopped and sends nothing more, so what the topics hold now is all of it.
        await observer.read_to_end()
    finally:
        telling.cancel()
        watching.cancel()
        results = await asyncio.gather(watching, telling, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return Played(published, damaged, observer.received)


async def remove_topics(settings: Settings) -> None:
    """Remove the demo's topics from a broker that goes on without it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        # The changelog too: its name begins with the worker's.
        ours = [name for name in await admin.list_topics() if name.startswith(settings.worker_id)]
        await admin.delete_topics(ours)
    finally:
        await admin.close()


async def _tell(observer: Observer, on_progress: Callable[[int], None]) -> None:
    while True:
        on_progress(observer.received.frames)
        await asyncio.sleep(0.2)


def _environment(settings: Settings, out: Path) -> dict[str, str]:
    """Return the environment that makes a ``whirr`` process use the demo's broker, topics and routes."""
    kept = {name: value for name, value in os.environ.items() if name != "WHIRR_ROUTE"}
    names = ("frames_topic", "alerts_topic", "scores_topic", "dead_letter_topic", "worker_id", "web_port")
    ours = {f"WHIRR_{name.upper()}": str(getattr(settings, name)) for name in names}
    return {
        **kept,
        **ours,
        "WHIRR_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "WHIRR_WORKER_DIR": str(out / "worker"),
        "WHIRR_SETTINGS_FILE": str(out / "whirr.toml"),
    }


@contextlib.contextmanager
def _running(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        started = process.start(_whirr(*arguments), output=output, env=environment)
        try:
            yield started
        finally:
            process.stop(started)


def _whirr(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "commands", *arguments]


async def _ready(worker: subprocess.Popen[bytes], settings: Settings, out: Path) -> None:
    url = f"http://{settings.web_host}:{settings.web_port}/ready"
    deadline = asyncio.get_running_loop().time() + READY_DEADLINE_S
    while not await asyncio.to_thread(_answers_ok, url):
        if worker.poll() is not None:
            raise ServiceUnavailable(
                f"the worker ended with exit code {worker.returncode}:\n{_tail(out / 'worker.log')}"
            )
        if asyncio.get_running_loop().time() > deadline:
            raise ServiceUnavailable(
                f"the worker was not ready within {READY_DEADLINE_S:g} s:\n{_tail(out / 'worker.log')}"
            )
        await asyncio.sleep(0.1)


def _answers_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own worker's page
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").strip().splitlines()[-8:])


async def _run_edges(
    machines: Sequence[DemoMachine], environment: Mapping[str, str], out: Path, start_us: int, speed: float
) -> tuple[dict[str, int], int]:
    """Run one edge agent a machine until all have ended; return frames published by machine, and recordings damaged."""
    agents = []
    try:
        # One by one, so that those that run are stopped should a later one not start.
        for machine in machines:
            agents.append(_start_edge(machine, environment, out, start_us, speed))  # noqa: PERF401
        summaries = await asyncio.gather(*(asyncio.to_thread(_summary, *agent) for agent in agents))
    finally:
        for started, _ in agents:
            process.stop(started)
    published = {summary["machine_id"]: summary["frames_sent"] for summary in summaries}
    return published, sum(summary["source_counts"]["files_damaged"] for summary in summaries)


def _start_edge(
    machine: DemoMachine, environment: Mapping[str, str], out: Path, start_us: int, speed: float
) -> tuple[subprocess.Popen[bytes], Path]:
    log = out / f"edge-{machine.machine_id}.log"
    options = ["--machine", machine.machine_id, "--speed", f"{speed:g}", "--start", format_rfc3339(start_us)]
    arguments = ["edge", *map(str, machine.live), *options, "--frame-s", f"{machine.frame_s:g}", "--json"]
    with log.open("wb") as output:
        return process.start(_whirr(*arguments), output=output, env=environment), log


def _summary(started: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    code = started.wait()
    if code != 0:
        raise WhirrError(f"an edge agent ended with exit code {code}:\n{_tail(log)}")
    summary: dict[str, Any] = orjson.loads(log.read_bytes().strip().splitlines()[-1])
    return summary
