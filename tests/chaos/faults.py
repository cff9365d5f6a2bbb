"""The faults: each brings something down, and brings it back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from tests.chaos import brokers, hostile, poison
from tests.chaos.disk import SmallDisk
from tests.chaos.link import Cut, Link
from tests.chaos.workers import Fleet, Worker
from tests.services import KafkaCluster, Redis
from tests.services.mlflow import Mlflow
from whirr.settings import Settings

TAKEN_OVER_S = 120.0
POISON_AT_ONCE = 12
WORKER_MOST_MB = 1000  # what docker-compose.kafka.yml gives a worker


@dataclass(slots=True, kw_only=True)
class FaultTargets:
    """What faults are done to.

    Attributes:
        machine_ids: Whose keys poison may carry.
        poisoned: The poison that was sent, by identity, with the reason that is expected.
        hostile: What a hostile gateway has put onto the frames topic.
    """

    settings: Settings
    random: Random
    machine_ids: list[str]
    cluster: KafkaCluster
    link: Link
    fleet: Fleet
    mlflow: Mlflow
    redis: Redis
    disk: SmallDisk | None
    poisoned: dict[str, str] = field(default_factory=dict)
    hostile: list[hostile.Sent] = field(default_factory=list)

    def worker(self) -> Worker:
        """Return one that runs, chosen by chance."""
        running = [worker for worker in self.fleet.workers if worker.alive and not worker.paused]
        return self.random.choice(running or self.fleet.workers)


async def worker_killed(targets: FaultTargets) -> None:
    """SIGKILL, at a random moment."""
    await _a_moment(targets, 2.0)
    targets.fleet.kill(targets.worker())


async def worker_stopped(targets: FaultTargets) -> None:
    """SIGTERM, as a supervisor that puts a new version in place does."""
    await targets.fleet.settled()
    await _a_moment(targets, 2.0)
    await targets.fleet.terminate(targets.worker())


async def worker_paused(targets: FaultTargets) -> None:
    """SIGSTOP until the others have its partitions, then SIGCONT: it wakes and believes that they are its own."""
    await targets.fleet.settled()
    paused = targets.worker()
    targets.fleet.pause(paused)
    try:
        await _taken_over(targets, paused)
        await _a_moment(targets, 2.0)
    finally:
        targets.fleet.resume(paused)


async def rebalanced(targets: FaultTargets) -> None:
    """One more worker joins; once it is ready, one is taken away."""
    targets.fleet.add()
    await targets.fleet.settled()
    await targets.fleet.terminate(targets.worker(), keep=False)


async def broker_killed(targets: FaultTargets, node: int) -> None:
    """SIGKILL one broker, start it again on its files, and wait until it is in sync with the others."""
    await brokers.wait_in_sync(targets.cluster)
    broker = targets.cluster.brokers[node]
    broker.kill()
    await _a_moment(targets, 8.0)
    broker.start()
    await asyncio.to_thread(broker.wait, len(targets.cluster.brokers))
    await brokers.wait_in_sync(targets.cluster)


async def edge_cut_off(targets: FaultTargets, kind: Cut) -> None:
    """Cut a gateway's link to the brokers, for longer than its requests wait, and mend it."""
    await targets.link.cut(kind)
    await asyncio.sleep(targets.random.uniform(4.0, 16.0))
    await targets.link.mend()


async def spool_full(targets: FaultTargets) -> None:
    """Fill the disk of a gateway's spool to its last byte while the gateway is cut off, then make room and mend."""
    assert targets.disk is not None
    await targets.link.cut("refused")
    await asyncio.to_thread(targets.disk.fill)
    await asyncio.sleep(targets.random.uniform(4.0, 12.0))
    targets.disk.clear()
    await targets.link.mend()


async def poisoned(targets: FaultTargets) -> None:
    """Put records that can't be used among the frames."""
    records = list(poison.poison(targets.random, targets.machine_ids, POISON_AT_ONCE))
    targets.poisoned.update({record.identity: record.reason for record in records})
    await poison.send(targets.settings, records)


async def attacked(targets: FaultTargets) -> None:
    """Let a gateway loose that sends whatever a gateway can (:mod:`tests.chaos.hostile`); it may end no worker."""
    await targets.fleet.settled()
    before = len(targets.fleet.exits)
    targets.hostile += await hostile.attack(targets.settings, targets.random)
    await targets.fleet.settled()
    targets.fleet.wrong += [f"under a hostile gateway: {exit_}" for exit_ in targets.fleet.exits[before:]]
    targets.fleet.wrong += targets.fleet.swollen(WORKER_MOST_MB)


async def registry_away(targets: FaultTargets) -> None:
    """Kill MLflow, and a worker that has to start without it."""
    targets.mlflow.kill()
    targets.fleet.kill(targets.worker())
    await asyncio.sleep(targets.random.uniform(2.0, 4.0))
    await targets.fleet.settled()
    targets.mlflow.launch()
    await asyncio.to_thread(targets.mlflow.wait)


async def store_away(targets: FaultTargets) -> None:
    """Kill Redis, which the workers write features to; it comes back empty."""
    targets.redis.kill()
    await asyncio.sleep(targets.random.uniform(3.0, 10.0))
    targets.redis.start()


async def _taken_over(targets: FaultTargets, paused: Worker) -> None:
    others = [worker for worker in targets.fleet.workers if worker is not paused]
    wanted = set(range(targets.settings.topic_partitions))
    end = time.monotonic() + TAKEN_OVER_S
    while True:
        pages = [await asyncio.to_thread(worker.pages) for worker in others]
        if {partition for page in pages if page.get("ready") for partition in page["partitions"]} == wanted:
            return
        if time.monotonic() > end:
            raise TimeoutError(
                f"the partitions of {paused.name}, which was paused, were not taken over within {TAKEN_OVER_S:g} s: "
                f"{pages}; logs: {targets.fleet.folder}"
            )
        await asyncio.sleep(0.3)


async def _a_moment(targets: FaultTargets, most_s: float) -> None:
    """Wait for a while that chance says: it decides what is under way."""
    await asyncio.sleep(targets.random.uniform(0.0, most_s))


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to be done.

    Attributes:
        kind: Its name, for the table.
        does: What does it.
    """

    kind: str
    does: Callable[[FaultTargets], Awaitable[None]]


def schedule(random: Random, nodes: int, times: int, *, disk: bool = True) -> list[Fault]:
    """Return every kind of fault ``times`` times over (each broker and each kind of cut as often), in random order.

    Without a small ``disk`` a spool's can't be filled.
    """

    def killed(node: int) -> Fault:
        return Fault("broker killed", lambda targets: broker_killed(targets, node))

    def cut(kind: Cut) -> Fault:
        return Fault(f"edge cut off, {kind}", lambda targets: edge_cut_off(targets, kind))

    kinds = [
        Fault("worker killed", worker_killed),
        Fault("worker stopped", worker_stopped),
        Fault("worker paused", worker_paused),
        Fault("rebalance", rebalanced),
        *(killed(node) for node in range(nodes)),
        cut("refused"),
        cut("stalled"),
        Fault("poison", poisoned),
        Fault("hostile gateway", attacked),
        Fault("MLflow away", registry_away),
        Fault("Redis away", store_away),
    ]
    if disk:
        kinds.append(Fault("spool's disk full", spool_full))
    faults = kinds * times
    random.shuffle(faults)
    return faults
