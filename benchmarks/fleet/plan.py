"""From assumptions to counts: workers, partitions, brokers, stores; and at how many sensors each limit is reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

from benchmarks.fleet.sizes import Sizes, group_bytes
from schemas.frame import MAX_VALUE_BYTES
from stream_app.worker.own_models import LONGEST_PAUSE_S
from whirr.settings import Settings
from whirr.topics import COMPACTION_LAG_MS

_DEFAULTS: Final = Settings()
_HOUR_S: Final = 3600.0
_TB: Final = 1e12
_WAV_HEADER: Final = 44
_BASE_HZ: Final = 16_000  # of the frames that the stored run counted, a second each
GROUP_BYTES: Final = 1_048_588  # Kafka's message.max.bytes, which its record of a group has to keep to
PROMOTED_AFTER_S: Final = 60.0  # a promotion counts a minute later: until then every worker must have seen it
TOPICS: Final = 3  # with as many partitions: frames, scores, states
MOST: Final = 10**9


def _flag(default: float | str, text: str) -> float:
    return field(default=default, metadata={"help": text})  # type: ignore[return-value]


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of a fleet and of what it runs on; each is a flag."""

    sensors: float = _flag(1_000_000, "sensors; each is a stream")
    every_s: float = _flag(60.0, "seconds between two frames of a sensor")
    frame_s: float = _flag(1.0, "seconds of signal in a frame")
    rate_hz: float = _flag(16_000, "samples a second")
    sample_bytes: float = _flag(2, "bytes of a sample")
    packed: float = _flag(0.0, "a frame's bytes over its WAV's; 1 for WAV, 0 for FLAC as measured")
    sensors_a_machine: float = _flag(1, "sensors of a machine, which share a partition and a model")
    worker_frames_per_second: float = _flag(0.0, "frames of a second at 16 kHz; 0 for the stored run's")
    worker_cores: float = _flag(2.0, "cores of a worker, as in the stored run")
    busy: float = _flag(0.6, "share of what a worker can do that it is given")
    partitions_a_worker: float = _flag(4, "partitions of the frames topic for each worker")
    replication: float = _flag(3, "replicas of each partition")
    frames_retention_h: float = _flag(_DEFAULTS.frames_retention_h, "hours that frames are kept")
    scores_retention_h: float = _flag(_DEFAULTS.scores_retention_h, "hours that scores are kept")
    broker_gbit: float = _flag(10.0, "a broker's network, Gbit/s in each direction")
    broker_busy: float = _flag(0.5, "share of it that is used")
    broker_tb: float = _flag(20.0, "a broker's disk, TB")
    broker_partitions: float = _flag(4000, "replicas of partitions on a broker")
    push_interval_s: float = _flag(_DEFAULTS.feature_push_interval_s, "how often features are written")
    push_rows_per_second: float = _flag(8280.0, "rows a second that a worker's push can do (make bench-feast, Redis)")
    redis_rows_per_second: float = _flag(50_000.0, "rows a second that one Redis takes")
    recovery_streams_per_second: float = _flag(
        100_000.0, "states a second that a starting worker reads (benchmarks.recovery)"
    )
    stream_bytes: float = _flag(1600.0, "memory of a stream in a worker (python -m benchmarks.recovery)")
    registry_ms_a_model: float = _flag(0.5, "what the registry takes to list one model, ms")
    registry_at_once: float = _flag(16, "questions that the registry answers at once")
    prometheus_series: float = _flag(2_000_000, "series that one Prometheus holds")
    session_timeout_s: float = _flag(_DEFAULTS.session_timeout_s, "until a dead worker is missed")
    rebalance_s: float = _flag(2.0, "for how long a rebalance stops a group (make bench-scale)")
    jitter_s: float = _flag(0.5, "how far gateways that send together are apart")


class Limit(NamedTuple):
    """Something that gives way.

    Attributes:
        name: What.
        used: How much of it a plan needs.
        most: How much there is.
        then: What is to be done beyond.
        design: Whether more or larger machines don't help.
    """

    name: str
    used: Callable[[Plan], float]
    most: float
    then: str
    design: bool = False


@dataclass(frozen=True)
class Plan:
    """What a fleet takes."""

    given: Assumptions
    sizes: Sizes

    @cached_property
    def frames_per_second(self) -> float:
        """Of all sensors."""
        return self.given.sensors / self.given.every_s

    @cached_property
    def frame_bytes(self) -> float:
        """Of a frame as it is stored, headers included."""
        given = self.given
        wav = _WAV_HEADER + given.frame_s * given.rate_hz * given.sample_bytes
        return wav * (given.packed or self.sizes.flac_share) + self.sizes.header

    @cached_property
    def worker_rate(self) -> float:
        """Frames a second that a worker can do: what it takes grows with a frame's samples."""
        given = self.given
        return given.worker_frames_per_second * _BASE_HZ / (given.rate_hz * given.frame_s)

    @cached_property
    def workers(self) -> int:
        """At least one."""
        return max(1, math.ceil(self.frames_per_second / (self.worker_rate * self.given.busy)))

    @cached_property
    def partitions(self) -> int:
        """Of the frames topic, and of scores and states each."""
        return math.ceil(self.workers * self.given.partitions_a_worker)

    @cached_property
    def largest_group(self) -> int:
        """Workers that one group can have before its record is larger than Kafka takes."""
        each = self.given.partitions_a_worker
        return max(1, _last(lambda n: group_bytes(n, math.ceil(n * each)) <= GROUP_BYTES, 500))

    @cached_property
    def groups(self) -> int:
        """Into how many the workers are divided, each with a frames topic and a worker_id of its own."""
        return math.ceil(self.workers / self.largest_group)

    @cached_property
    def written_bytes_per_second(self) -> float:
        """Bytes a second that are written to Kafka once: frames, scores, and a state a frame at most."""
        return self.frames_per_second * (self.frame_bytes + self.sizes.score + self.sizes.state)

    @cached_property
    def network_bytes_per_second(self) -> float:
        """Bytes a second that all brokers send, the larger direction: to followers, and to whoever reads."""
        followers = self.written_bytes_per_second * (self.given.replication - 1)
        return followers + self.frames_per_second * (self.frame_bytes + self.sizes.score)

    @cached_property
    def frames_bytes(self) -> float:
        """Bytes of the frames that are kept, all replicas."""
        kept_s = self.given.frames_retention_h * _HOUR_S
        return self.frames_per_second * self.frame_bytes * kept_s * self.given.replication

    @cached_property
    def scores_bytes(self) -> float:
        """Bytes of the scores that are kept, all replicas."""
        kept_s = self.given.scores_retention_h * _HOUR_S
        return self.frames_per_second * self.sizes.score * kept_s * self.given.replication

    @cached_property
    def changelog_bytes(self) -> float:
        """Bytes of the changelog, all replicas: each stream's newest state, and all of the hour before compaction."""
        waiting = self.frames_per_second * COMPACTION_LAG_MS / 1000
        return (self.given.sensors + waiting) * self.sizes.state * self.given.replication

    @cached_property
    def stored_bytes(self) -> float:
        """Bytes on all brokers' disks."""
        return self.frames_bytes + self.scores_bytes + self.changelog_bytes

    @cached_property
    def brokers_by(self) -> dict[str, int]:
        """How many brokers each of their resources asks for."""
        given = self.given
        replicas = self.partitions * TOPICS * given.replication
        return {
            "network": math.ceil(self.network_bytes_per_second / (given.broker_gbit * 1e9 / 8 * given.broker_busy)),
            "disk": math.ceil(self.stored_bytes / (given.broker_tb * _TB)),
            "partitions": math.ceil(replicas / given.broker_partitions),
        }

    @cached_property
    def brokers(self) -> int:
        """As many as the scarcest resource asks for, and no fewer than replicas."""
        return max(int(self.given.replication), *self.brokers_by.values())

    @cached_property
    def rows_per_second(self) -> float:
        """Rows a second for the online store: a stream's newest, once an interval."""
        return min(self.frames_per_second, self.given.sensors / self.given.push_interval_s)

    @cached_property
    def streams_a_worker(self) -> float:
        """On average."""
        return self.given.sensors / self.workers

    @cached_property
    def recovery_s(self) -> float:
        """What a worker takes to read the states of its streams when it starts."""
        return self.streams_a_worker / self.given.recovery_streams_per_second

    @cached_property
    def look_s(self) -> float:
        """What one look at all machines' models takes, where each machine has its own."""
        machines = self.given.sensors / self.given.sensors_a_machine
        return machines * self.given.registry_ms_a_model / 1000

    @cached_property
    def registry_questions(self) -> float:
        """Looks that the workers have under way at any time."""
        return self.workers * self.look_s / (self.look_s + LONGEST_PAUSE_S)

    @cached_property
    def series(self) -> int:
        """Metrics of all workers, were every worker to miss frames of 500 sensors."""
        return self.workers * (self.sizes.series + self.sizes.gap_series) + self.partitions


def limits(plan: Plan) -> Sequence[Limit]:
    """Return what gives way, in no order."""
    given = plan.given
    seen_s = PROMOTED_AFTER_S - LONGEST_PAUSE_S
    three_send = 3 * given.broker_gbit * 1e9 / 8 * given.broker_busy
    return (
        Limit("one group of workers: its record of 1 MiB", lambda p: p.workers, plan.largest_group,
              "several groups, each with a frames topic and worker_id of its own", design=True),
        Limit("a model for each machine: a look of 30 s", lambda p: p.look_s, seen_s,
              "models by kind of machine, or a registry for each group", design=True),
        Limit("a model for each machine: all workers' looks", lambda p: p.registry_questions, given.registry_at_once,
              "the same", design=True),
        Limit("streams of a worker (max_streams)", lambda p: p.streams_a_worker, _DEFAULTS.max_streams,
              "more workers than the frames alone ask for"),
        Limit("recovery within 10 s", lambda p: p.recovery_s, 10.0, "more workers than the frames alone ask for"),
        Limit("one Redis for the newest features", lambda p: p.rows_per_second, given.redis_rows_per_second,
              "a longer feature_push_interval_s, or a Redis cluster"),
        Limit("a worker's rows for the feature store", lambda p: p.rows_per_second / p.workers,
              given.push_rows_per_second, "a longer feature_push_interval_s"),
        Limit("three brokers' disks", lambda p: p.stored_bytes, 3 * given.broker_tb * _TB,
              "more brokers, or a shorter frames_retention_h"),
        Limit("three brokers' network", lambda p: p.network_bytes_per_second, three_send, "more brokers"),
        Limit("three brokers' partitions", lambda p: p.partitions * TOPICS * given.replication,
              3 * given.broker_partitions, "more brokers, or fewer partitions a worker"),
        Limit("one Prometheus", lambda p: p.series, given.prometheus_series, "one for each group"),
        Limit("a frame's largest value", lambda p: p.frame_bytes - p.sizes.header, MAX_VALUE_BYTES, "shorter frames",
              design=True),
    )  # fmt: skip


def reached_at(limit: Limit, plan: Plan) -> int | None:
    """Return with how many sensors a limit is passed, all else being the same; None for never."""

    def holds(sensors: int) -> bool:
        return sensors == 0 or limit.used(replace(plan, given=replace(plan.given, sensors=sensors))) <= limit.most

    if holds(MOST):
        return None
    return _last(holds, MOST) + 1


def _last(holds: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to ``most`` for which something holds that holds for all smaller ones."""
    low, high = 0, most + 1
    while high - low > max(1, low // 10_000):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
