"""Every machine of a fleet placed, its frames' arrival, and a worker's failure; seeded, in numpy.

A worker serves its frames one after the other, in a steady time each. Frames of a sensor come at a steady pace, so that
a queue that is no longer than a period repeats itself: what the second period waits is what every later one does.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.plan import Plan

SEED: Final = 15

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Placement(NamedTuple):
    """Where a fleet's sensors are.

    Attributes:
        partition: Of each sensor; int64 [sensor].
        worker: Of each partition; int64 [partition].
        partition_skew, worker_skew: The fullest one's sensors over the mean.
    """

    partition: Ints
    worker: Ints
    partition_skew: float
    worker_skew: float


class Waits(NamedTuple):
    """How long frames take from arrival to their answer, in seconds: median, 99th percentile, longest."""

    p50_s: float
    p99_s: float
    longest_s: float


class Failure(NamedTuple):
    """What the loss of the fullest worker means.

    Attributes:
        still_s: For how long its partitions stand still: until it is missed, the rebalance, the states read.
        waiting: Frames that wait in its group when all go on.
        caught_up_s: After how long the last of the others has caught up; infinite if one never does.
        busiest: What the busiest of the others is given then, as a share of what it can do.
    """

    still_s: float
    waiting: float
    caught_up_s: float
    busiest: float


def murmur2(keys: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the murmur2 of keys of one length, uint8 [key, byte], as Java's and aiokafka's producers compute it."""
    length = keys.shape[1]
    m = np.uint32(0x5BD1E995)
    h = np.full(len(keys), np.uint32(0x9747B28C) ^ np.uint32(length), np.uint32)
    words = length // 4
    blocks = np.ascontiguousarray(keys[:, : words * 4]).view("<u4").reshape(len(keys), words)
    for index in range(words):
        k = blocks[:, index] * m
        k ^= k >> np.uint32(24)
        h = (h * m) ^ (k * m)
    tail = keys[:, words * 4 :].astype(np.uint32)
    for index in reversed(range(tail.shape[1])):
        h ^= tail[:, index] << np.uint32(8 * index)
    if tail.shape[1]:
        h *= m
    h ^= h >> np.uint32(13)
    h *= m
    return h ^ (h >> np.uint32(15))


def machine_keys(machines: int) -> NDArray[np.uint8]:
    """Return ids of machines as bytes of one length, uint8 [machine, byte]: ``plant-0042.pump-0042007``."""
    number = np.arange(machines)
    text = np.array([b"plant-0000.pump-0000000"], "S23").repeat(machines).view(np.uint8).reshape(machines, 23)
    for places, value in (((9, 8, 7, 6), number // 1000), ((22, 21, 20, 19, 18, 17, 16), number)):
        left = value.copy()
        for place in places:
            left, digit = np.divmod(left, 10)
            text[:, place] += digit.astype(np.uint8)
    return text


def placed(plan: Plan) -> Placement:
    """Place every machine by its key, and partitions on workers in turns, as the groups' assignor does."""
    per = max(1, round(plan.given.sensors_a_machine))
    machines = math.ceil(plan.given.sensors / per)
    of_machine = (murmur2(machine_keys(machines)) & np.uint32(0x7FFFFFFF)) % np.uint32(plan.partitions)
    partition = np.repeat(of_machine.astype(np.int64), per)[: int(plan.given.sensors)]
    worker = np.arange(plan.partitions) % plan.workers
    by_partition = np.bincount(partition, minlength=plan.partitions)
    by_worker = np.bincount(worker, by_partition, plan.workers)
    return Placement(partition, worker, _skew(by_partition), _skew(by_worker))


def _skew(load: NDArray[Any]) -> float:
    return float(load.max() / load.mean())


def waits(plan: Plan, placement: Placement, spread_s: float) -> Waits | None:
    """Return how long frames take; None where a worker is given more than it can do.

    Args:
        plan: The fleet.
        placement: Where its sensors are.
        spread_s: Over how much of a period the sensors' moments are spread: ``every_s`` for all of it.
    """
    worker = placement.worker[placement.partition]
    period_s, service_s = plan.given.every_s, 1 / plan.worker_rate
    if np.bincount(worker, minlength=plan.workers).max() * service_s >= period_s:
        return None
    moment_s = np.random.default_rng(SEED).uniform(0, spread_s, len(worker))
    order = np.lexsort((moment_s, worker))
    worker, moment_s = worker[order], moment_s[order]
    counts = np.bincount(worker, minlength=plan.workers)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    index = np.arange(len(worker)) - first[worker]
    # When the k-th frame of a worker is done: k + 1 service times after the latest of all moments before, less those
    # that were served since; in the second period the first one's frames come before.
    left = moment_s - index * service_s
    before = np.maximum.reduceat(left, first[counts > 0])
    own = np.repeat(before, counts[counts > 0])  # the same for all frames of a worker
    again = moment_s + period_s - (index + counts[worker]) * service_s
    apart = (np.ptp(again) + period_s) * 2
    latest = np.maximum.accumulate(again + worker * apart) - worker * apart
    done_s = np.maximum(latest, own) + (index + counts[worker] + 1) * service_s
    taken_s = done_s - (moment_s + period_s)
    p50, p99 = np.percentile(taken_s, [50, 99])
    return Waits(float(p50), float(p99), float(taken_s.max()))


def failure(plan: Plan, placement: Placement) -> Failure:
    """Let the fullest worker of the fullest group end without a word, its partitions go to the others in turns."""
    given = plan.given
    streams = np.bincount(placement.partition, minlength=plan.partitions).astype(np.float64)
    # Groups are workers in a row; the rebalance stops that one alone.
    group = np.arange(plan.workers) * plan.groups // plan.workers
    by_worker = np.bincount(placement.worker, streams, plan.workers)
    lost = int(np.argmax(by_worker))
    others = np.flatnonzero((group == group[lost]) & (np.arange(plan.workers) != lost))
    if not len(others):
        return Failure(math.inf, math.inf, math.inf, math.inf)
    moved = np.flatnonzero(placement.worker == lost)
    takes = np.zeros(plan.workers)
    np.add.at(takes, others[np.arange(len(moved)) % len(others)], streams[moved])
    reading_s = takes.max() / given.recovery_streams_per_second
    still_s = given.session_timeout_s + given.rebalance_s + reading_s
    waiting = (takes * still_s + by_worker * given.rebalance_s)[others] / given.every_s
    arriving = (by_worker + takes)[others] / given.every_s
    spare = plan.worker_rate - arriving
    with np.errstate(divide="ignore"):
        caught_up_s = np.where(spare > 0, waiting / np.maximum(spare, 1e-12), np.inf)
    return Failure(still_s, float(waiting.sum()), float(caught_up_s.max()), float(arriving.max() / plan.worker_rate))
