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
class Ground:
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


async def worker_killed(ground: Ground) -> None:
    """SIGKILL, at a random moment."""
    await _a_moment(ground, 2.0)
    ground.fleet.kill(ground.worker())


async def worker_stopped(ground: Ground) -> None:
    """SIGTERM, as a supervisor that puts a new version in place does."""
    await ground.fleet.settled()
    await _a_moment(ground, 2.0)
    await ground.fleet.terminate(ground.worker())


async def worker_paused(ground: Ground) -> None:
    """SIGSTOP until the others have its partitions, then SIGCONT: it wakes and believes that they are its own."""
    await ground.fleet.settled()
    paused = ground.worker()
    ground.fleet.pause(paused)
    try:
        await _taken_over(ground, paused)
        await _a_moment(ground, 2.0)
    finally:
        ground.fleet.resume(paused)


async def rebalanced(ground: Ground) -> None:
    """One more worker joins; once it is ready, one is taken away."""
    ground.fleet.add()
    await ground.fleet.settled()
    await ground.fleet.terminate(ground.worker(), keep=False)


async def broker_killed(ground: Ground, node: int) -> None:
    """SIGKILL one broker, start it again on its files, and wait until it is in sync with the others."""
    await brokers.wait_in_sync(ground.cluster)
    broker = ground.cluster.brokers[node]
    broker.kill()
    await _a_moment(ground, 8.0)
    broker.start()
    await asyncio.to_thread(broker.wait, len(ground.cluster.brokers))
    await brokers.wait_in_sync(ground.cluster)


async def edge_cut_off(ground: Ground, kind: Cut) -> None:
    """Cut a gateway's link to the brokers, for longer than its requests wait, and mend it."""
    await ground.link.cut(kind)
    await asyncio.sleep(ground.random.uniform(4.0, 16.0))
    await ground.link.mend()


async def spool_full(ground: Ground) -> None:
    """Fill the disk of a gateway's spool to its last byte while the gateway is cut off, then make room and mend."""
    assert ground.disk is not None
    await ground.link.cut("refused")
    await asyncio.to_thread(ground.disk.fill)
    await asyncio.sleep(ground.random.uniform(4.0, 12.0))
    ground.disk.clear()
    await ground.link.mend()


async def poisoned(ground: Ground) -> None:
    """Put records that can't be used among the frames."""
    records = list(poison.poison(ground.random, ground.machine_ids, POISON_AT_ONCE))
    ground.poisoned.update({record.identity: record.reason for record in records})
    await poison.send(ground.settings, records)


async def attacked(ground: Ground) -> None:
    """Let a gateway loose that sends whatever a gateway can (:mod:`tests.chaos.hostile`); it may end no worker."""
    await ground.fleet.settled()
    before = len(ground.fleet.exits)
    ground.hostile += await hostile.attack(ground.settings, ground.random)
    await ground.fleet.settled()
    ground.fleet.wrong += [f"under a hostile gateway: {exit_}" for exit_ in ground.fleet.exits[before:]]
    ground.fleet.wrong += ground.fleet.swollen(WORKER_MOST_MB)


async def registry_away(ground: Ground) -> None:
    """Kill MLflow, and a worker that has to start without it."""
    ground.mlflow.kill()
    ground.fleet.kill(ground.worker())
    await asyncio.sleep(ground.random.uniform(2.0, 4.0))
    await ground.fleet.settled()
    ground.mlflow.launch()
    await asyncio.to_thread(ground.mlflow.wait)


async def store_away(ground: Ground) -> None:
    """Kill Redis, which the workers write features to; it comes back empty."""
    ground.redis.kill()
    await asyncio.sleep(ground.random.uniform(3.0, 10.0))
    ground.redis.start()


async def _taken_over(ground: Ground, paused: Worker) -> None:
    others = [worker for worker in ground.fleet.workers if worker is not paused]
    wanted = set(range(ground.settings.topic_partitions))
    end = time.monotonic() + TAKEN_OVER_S
    while True:
        pages = [await asyncio.to_thread(worker.pages) for worker in others]
        if {partition for page in pages if page.get("ready") for partition in page["partitions"]} == wanted:
            return
        if time.monotonic() > end:
            raise TimeoutError(
                f"the partitions of {paused.name}, which was paused, were not taken over within {TAKEN_OVER_S:g} s: "
                f"{pages}; logs: {ground.fleet.folder}"
            )
        await asyncio.sleep(0.3)


async def _a_moment(ground: Ground, most_s: float) -> None:
    """Wait for a while that chance says: it decides what is under way."""
    await asyncio.sleep(ground.random.uniform(0.0, most_s))


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to be done.

    Attributes:
        kind: Its name, for the table.
        does: What does it.
    """

    kind: str
    does: Callable[[Ground], Awaitable[None]]


def schedule(random: Random, nodes: int, times: int, *, disk: bool = True) -> list[Fault]:
    """Return every kind of fault ``times`` times over (each broker and each kind of cut as often), in random order.

    Without a small ``disk`` a spool's can't be filled.
    """

    def killed(node: int) -> Fault:
        return Fault("broker killed", lambda ground: broker_killed(ground, node))

    def cut(kind: Cut) -> Fault:
        return Fault(f"edge cut off, {kind}", lambda ground: edge_cut_off(ground, kind))

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
