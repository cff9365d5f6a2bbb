"""The course of a run: everything is started, frames flow, faults come one after the other, and all is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from commands._output import marked
from schemas.errors import WhirrError
from stream_app.worker.topic_setup import ensure_topics
from tests.chaos import features, verdicts
from tests.chaos.brokers import wait_in_sync
from tests.chaos.comparison import ChaosResult, Phase, compare
from tests.chaos.disk import SmallDisk, small_disk
from tests.chaos.faults import FaultTargets, schedule
from tests.chaos.gateway import Job
from tests.chaos.gateways import Gateways
from tests.chaos.link import Link
from tests.chaos.observer import Observer, frames_on_topic
from tests.chaos.plant import FRAME_S, Expected, PlantMachine, expect, start_us, write_plant, write_training
from tests.chaos.traffic import Traffic
from tests.chaos.workers import Fleet
from tests.services import KafkaCluster, Redis
from tests.services.mlflow import Mlflow
from whirr.settings import Route, Settings, load_settings

MODEL = "chaos"
SPOOL = "spool"
SETTINGS = "whirr.toml"  # empty: the environment says it all
GATEWAYS = 5
LAST_FRAMES_S = 300.0
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosConfig:
    """What a run is made of.

    Attributes:
        frames: Of all machines together.
        rate: The same a second, while no fault holds them up.
        times: How often each kind of fault comes.
    """

    seed: int
    frames: int
    machines: int
    workers: int
    brokers: int
    rate: float
    times: int
    out: Path

    @property
    def frames_each(self) -> int:
        """Frames of each machine."""
        return -(-self.frames // self.machines)


def run(config: ChaosConfig) -> ChaosResult:
    """Run it; nothing that it started is left."""
    _say(f"seed {config.seed}: {config.machines} machines, {config.workers} workers, {config.brokers} brokers")
    (config.out / SETTINGS).touch()
    link = Link(config.brokers)
    mlflow = Mlflow()
    with contextlib.ExitStack() as stack, Redis() as redis:
        stack.callback(mlflow.stop)
        mlflow.launch()  # takes as long as Kafka does, so both at once
        disk = stack.enter_context(small_disk(config.out / SPOOL))
        if disk is None:
            _say("this user may mount no file system: no spool's disk will be full")
        with KafkaCluster(config.brokers, links=link.ports) as cluster:
            mlflow.wait()
            return _live(config, Services(link, cluster, mlflow, redis, disk))


class Services(NamedTuple):
    """What runs beside the workers and gateways."""

    link: Link
    cluster: KafkaCluster
    mlflow: Mlflow
    redis: Redis
    disk: SmallDisk | None


def _live(config: ChaosConfig, services: Services) -> ChaosResult:
    link, cluster, mlflow, redis, disk = services
    plant = write_plant(config.out / "plant", config.machines, config.frames_each, config.seed)
    _say(f"Kafka at {cluster.address}, MLflow at {mlflow.address}")
    settings = _settings(config, cluster, mlflow)
    features.apply(settings, redis)
    model = _train(config, settings)
    began_us = start_us(config.frames_each)
    expected = expect(plant, began_us, model, settings.route[0])
    told = f"{len(expected.frames)} frames, {len(expected.alerts)} alerts"
    _say(f"the oracle: {told}, with {len(expected.verdicts)} verdicts")
    fleet = Fleet({**environment(settings, config.out), **features.variables(redis)}, config.out)
    targets = FaultTargets(
        settings=settings,
        random=Random(f"{config.seed}/faults"),
        machine_ids=[machine.machine_id for machine in plant],
        cluster=cluster,
        link=link,
        fleet=fleet,
        mlflow=mlflow,
        redis=redis,
        disk=disk,
    )
    try:
        return asyncio.run(_Run(config, targets, plant, expected, began_us).run())
    finally:
        fleet.abandon()


class _Run:
    """The part in which everything lives."""

    def __init__(
        self, config: ChaosConfig, targets: FaultTargets, plant: list[PlantMachine], expected: Expected, began_us: int
    ) -> None:
        self._config, self._targets, self._expected = config, targets, expected
        self._plant, self._began_us = plant, began_us
        self._observer = Observer(targets.settings)
        self._phases: list[Phase] = []
        self._failures: list[str] = []

    async def run(self) -> ChaosResult:
        targets = self._targets
        await ensure_topics(targets.settings)
        await wait_in_sync(targets.cluster)
        await verdicts.publish(targets.settings, self._expected.verdicts)
        await targets.link.open([broker.link_port for broker in targets.cluster.brokers])
        for _ in range(self._config.workers):
            targets.fleet.add()
        helpers = [asyncio.create_task(targets.fleet.supervise()), asyncio.create_task(self._observer.run())]
        try:
            await targets.fleet.settled()
            _say(f"{len(targets.fleet.workers)} workers are ready")
            with self._gateways() as gateways:
                await self._stream(gateways)
            await self._answered()
            await targets.fleet.settled()
            self._failures += await features.behind(targets.settings, self._newest_us())
            await targets.fleet.stop()
        finally:
            targets.link.close()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        return await self._compared()

    async def _stream(self, gateways: Gateways) -> None:
        """Let all frames out, and do the faults while they flow."""
        config, random = self._config, self._targets.random
        traffic = Traffic(gateways, config.frames_each, config.rate / config.machines)
        flowing = asyncio.create_task(traffic.run())
        faults = schedule(random, config.brokers, config.times, disk=self._targets.disk is not None)
        step = config.frames_each / (len(faults) + 1)
        at = [step * (index + 0.5 + random.uniform(-0.4, 0.4)) for index in range(len(faults))]
        try:
            for index, fault in enumerate(faults):
                await _first(traffic.reach(at[index]), flowing)
                traffic.limit = at[index + 1] if index + 1 < len(at) else config.frames_each
                self._phases.append(Phase(int(traffic.number), fault.kind))
                began_s = time.monotonic()
                try:
                    await fault.does(self._targets)
                except TimeoutError as error:
                    self._failures.append(f"after {fault.kind}: {error}")
                _say(
                    f"{index + 1:3} of {len(faults)}  {fault.kind:26} {time.monotonic() - began_s:5.1f} s   "
                    f"{self._observer.tally.answered} frames answered"
                )
            await _first(traffic.reach(config.frames_each), flowing)
            summaries = await gateways.finish(LAST_FRAMES_S)
            _say(f"published: the brokers acknowledged {sum(summary['frames_sent'] for summary in summaries)} frames")
        finally:
            flowing.cancel()
            await asyncio.gather(flowing, return_exceptions=True)

    @contextlib.contextmanager
    def _gateways(self) -> Iterator[Gateways]:
        """Yield the gateways; the first comes by the link and has the small disk, the others go to the brokers."""
        targets, count = self._targets, min(GATEWAYS, len(self._plant))
        jobs = {}
        for number in range(count):
            jobs[f"gateway-{number}"] = Job(
                bootstrap=targets.settings.bootstrap if number else targets.link.address,
                topic=targets.settings.frames_topic,
                start_us=self._began_us,
                spool=None if number else str(self._config.out / SPOOL),
                machines={m.machine_id: str(m.recording) for m in self._plant[number::count]},
            )
        gateways = Gateways(jobs, self._config.out)
        try:
            yield gateways
        finally:
            gateways.stop()

    async def _answered(self) -> None:
        """Return when every frame has an answer, or when none has come for long."""
        wanted = len(self._expected.frames) + len(self._targets.poisoned) + len(self._targets.hostile)
        seen, since_s = -1, time.monotonic()
        while (found := self._observer.tally.answered) < wanted and time.monotonic() < since_s + PATIENCE_S:
            if found != seen:
                seen, since_s = found, time.monotonic()
            await asyncio.sleep(0.2)

    def _newest_us(self) -> dict[str, int]:
        last_us = self._began_us + (self._config.frames_each - 1) * FRAME_S * 10**6
        return {machine.machine_id: last_us for machine in self._plant}

    async def _compared(self) -> ChaosResult:
        targets, expected = self._targets, self._expected
        tally = await self._observer.read_to_end()
        unanswered = (expected.frames.keys() - tally.scored.keys()) | (
            targets.poisoned.keys() - tally.dead_lettered.keys()
        )
        seen = await frames_on_topic(targets.settings, unanswered) if unanswered else {}
        result = compare(
            self._config.seed, expected, targets.poisoned, tally, self._phases, seen, hostile=targets.hostile
        )
        result.failures = [*self._failures, *targets.fleet.wrong, *result.failures]
        result.restarts, result.exits = targets.fleet.restarts, targets.fleet.exits
        return result


async def _first(work: Coroutine[None, None, None], flowing: asyncio.Task[None]) -> None:
    """Await ``work``, unless the traffic fails before."""
    working = asyncio.create_task(work)
    await asyncio.wait({working, flowing}, return_when=asyncio.FIRST_COMPLETED)
    if not working.done() and flowing.exception() is not None:
        working.cancel()
        flowing.result()
    await working


def _settings(config: ChaosConfig, cluster: KafkaCluster, mlflow: Mlflow) -> Settings:
    # Silence is told by the clock, so the oracle knows nothing of it. Reminders and learning fit into minutes.
    hours = {"remind_after_h": 0.01, "learning_h": 0.005}
    route = Route(match="*", model=f"models:/{MODEL}@champion", silent_after_s=None, **hours)
    return load_settings(
        kafka_bootstrap_servers=cluster.address,
        mlflow_tracking_uri=mlflow.address,
        route=(route,),
        topic_replication=config.brokers,
        topic_partitions=8,
        batch_frames=16,
        session_timeout_s=8.0,
        commit_stall_s=45.0,
        model_poll_s=2.0,
        worker_dir=config.out / "worker",
        feature_repo=config.out / "feast",
        feature_store_yaml=features.place_store(config.out / "feast"),
        feature_push=True,
    )


def _train(config: ChaosConfig, settings: Settings) -> Path:
    """Train a small model on healthy machines and register it; return its file."""
    recordings, model = write_training(config.out / "train", config.seed), config.out / "model.onnx"
    options = ["--normal", recordings, "--out", model, "--name", MODEL, "--detector", "pooled", "--frame-s", "1"]
    command = [sys.executable, "-W", "ignore", "-m", "commands", "train", *map(str, options), "--register", "--json"]
    done = subprocess.run(command, env=environment(settings, config.out), capture_output=True, text=True, check=False)
    if done.returncode:
        raise WhirrError(f"training failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    _say("a model is trained, and MLflow's champion")
    return model


def environment(settings: Settings, out: Path) -> Mapping[str, str]:
    """Return an environment that gives a program these settings, and no others."""
    given = settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WHIRR_")}
    # Several processes share two cores: threads of one would only wait for the others'.
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "WHIRR_SETTINGS_FILE": str(out / SETTINGS)}
    return {**kept, **quiet, **{f"WHIRR_{name.upper()}": text for name, text in texts.items()}}


_BEGAN_S = time.monotonic()


def _say(text: str) -> None:
    marked.print(f"{time.monotonic() - _BEGAN_S:6.1f} s  {text}", highlight=False)
