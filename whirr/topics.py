"""The topics that Whirr needs and what each must be like: what ``whirr topics`` and the worker make and compare.

Whirr switches Faust's leader and assignor topics off, so the changelog of the stream states is the only topic of the
worker's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from schemas.errors import ServiceUnavailable
from schemas.frame import MAX_AHEAD_US
from whirr.counts import counted
from whirr.kafka_clients import client_options, quiet_aiokafka, refusal, why_not_connected
from whirr.settings import Settings, changelog_topic, verdict_log_topic

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
MAX_DEAD_LETTER_BYTES: Final = MAX_MESSAGE_BYTES + 128 * 1024  # the largest record of the frames topic and more
COMPACTION_LAG_MS: Final = 3_600_000  # a worker that wakes from a pause may have written an old state last
_MS_PER_H: Final = 3_600_000
_REQUEST_TIMEOUT_MS: Final = 10_000
_TRIES_AFTER_CREATION: Final = 50


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it should be.

    Attributes:
        name: Its name.
        partitions: How many; None for as many as the frames topic has.
        replication: Replicas of each partition.
        config: Kafka's own names and values.
    """

    name: str
    partitions: int | None
    replication: int
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a topic is not as it should be; ``found`` is None where the topic is missing."""

    topic: str
    what: str
    expected: str
    found: str | None


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return every topic that the settings name, the frames topic first and the changelog last."""
    *others, changelog = worker_topic_specs(settings)
    return [*others, *verdict_topic_specs(settings), changelog]


def verdict_topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return the topic of verdicts, and that of their audit log, which keeps all for ever.

    They have one partition: they are few, and so all have one order, in whatever client a person spoke.
    """
    for_ever = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    return [
        _spec(settings, settings.verdicts_topic, 1, {"cleanup.policy": "compact"}),
        _spec(settings, verdict_log_topic(settings.verdicts_topic), 1, for_ever),
    ]


def worker_topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return the topics that a worker reads and writes, the frames topic first and the changelog last."""
    # A gateway whose clock is ahead would mute its machines once the clock is put right, so the broker refuses it.
    ahead = {"message.timestamp.after.max.ms": str(MAX_AHEAD_US // 1000)}
    specs = [
        _kept_for(settings, settings.frames_topic, settings.frames_retention_h, ahead),
        _kept_for(settings, settings.alerts_topic, settings.alerts_retention_h),
    ]
    if settings.publish_scores:
        specs.append(_kept_for(settings, settings.scores_topic, settings.scores_retention_h))
    room = {"max.message.bytes": str(MAX_DEAD_LETTER_BYTES)}
    specs.append(_kept_for(settings, settings.dead_letter_topic, settings.alerts_retention_h, room))
    compacted = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(COMPACTION_LAG_MS)}
    return [*specs, _spec(settings, changelog_topic(settings.worker_id), None, compacted)]


async def create_topics(
    admin: AIOKafkaAdminClient, settings: Settings, specs: Sequence[TopicSpec] | None = None
) -> list[str]:
    """Make the topics that are missing; return their names once they can be used. Others stay as they are.

    Args:
        admin: A connected client.
        settings: Which topics.
        specs: These alone; None: all.

    Raises:
        AccessRefused: This user may not make a topic that is missing.
        KafkaError: Kafka could not make one.
    """
    known = set(await admin.list_topics())
    made = []
    for spec in topic_specs(settings) if specs is None else specs:
        if spec.name in known:
            continue
        partitions = spec.partitions or await partitions_of(admin, settings.frames_topic)
        if await _create(admin, settings, spec, partitions):
            made.append(spec.name)
    for name in made:
        await partitions_of(admin, name)
    return made


async def differences(admin: AIOKafkaAdminClient, settings: Settings) -> list[Difference]:
    """Return in what the topics that are there differ from what they should be like, missing ones included.

    Raises:
        AccessRefused: This user may not read a topic's settings.
    """
    specs = topic_specs(settings)
    found = {topic["topic"]: topic for topic in await admin.describe_topics(None)}
    config = await _configs(admin, settings, [spec.name for spec in specs if spec.name in found])
    frames = found.get(settings.frames_topic)
    width = len(frames["partitions"]) if frames else settings.topic_partitions
    return [
        difference
        for spec in specs
        for difference in _compared(spec, spec.partitions or width, found.get(spec.name), config.get(spec.name, {}))
    ]


async def partitions_of(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Return how many partitions a topic has, waiting while it is being created."""
    for _ in range(_TRIES_AFTER_CREATION):
        described: list[dict[str, Any]] = await admin.describe_topics([topic])
        found = described[0].get("partitions", []) if described else []
        if found and all(partition.get("leader", 0) >= 0 for partition in found):
            return len(found)
        await asyncio.sleep(0.1)
    raise TimeoutError(f"topic {topic} has no leaders yet")


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a connected admin client that logs nothing.

    Raises:
        AccessRefused: Kafka does not let this client in.
        ServiceUnavailable: Kafka can't be reached.
    """
    admin = AIOKafkaAdminClient(
        request_timeout_ms=_REQUEST_TIMEOUT_MS, client_id=settings.worker_id, **client_options(settings)
    )
    with quiet_aiokafka():
        try:
            await admin.start()
            yield admin
        except KafkaConnectionError:
            raise await why_not_connected(settings) from None
        except (KafkaError, OSError, TimeoutError) as error:
            shown = f"{type(error).__name__}: {error}".strip(": ")
            raise ServiceUnavailable(f"Kafka at {settings.bootstrap} does not do what it should ({shown})") from None
        finally:
            await admin.close()


def _kept_for(settings: Settings, name: str, hours: float, more: dict[str, str] | None = None) -> TopicSpec:
    config = {"cleanup.policy": "delete", "retention.ms": str(round(hours * _MS_PER_H)), **(more or {})}
    return _spec(settings, name, settings.topic_partitions, config)


def _spec(settings: Settings, name: str, partitions: int | None, config: dict[str, str]) -> TopicSpec:
    limits = {"max.message.bytes": str(MAX_MESSAGE_BYTES), "min.insync.replicas": str(settings.min_insync_replicas)}
    return TopicSpec(name, partitions, settings.topic_replication, {**limits, **config})


async def _create(admin: AIOKafkaAdminClient, settings: Settings, spec: TopicSpec, partitions: int) -> bool:
    """Make a topic; return False if another client was quicker."""
    wanted = NewTopic(spec.name, partitions, spec.replication, topic_configs=spec.config)
    response = await admin.create_topics([wanted], timeout_ms=_REQUEST_TIMEOUT_MS)
    for _, code, *reason in response.topic_errors:
        if code == TopicAlreadyExistsError.errno:
            return False
        if code:
            error = for_code(code)(f"topic {spec.name} can't be created: {reason[0] if reason else code}")
            # Kafka answers the same for a topic that is there and not for this user to see.
            what = f"topic {spec.name!r}, which is missing or hidden from it"
            raise refusal(error, settings, "create", what) or error from None
    log.info("created topic %s with %d partitions", spec.name, partitions)
    return True


async def _configs(admin: AIOKafkaAdminClient, settings: Settings, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return each topic's settings by Kafka's names."""
    if not names:
        return {}
    found = {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    for response in await admin.describe_configs(asked):
        for code, reason, _kind, name, entries in response.resources:
            if code:
                error = for_code(code)(reason)
                raise refusal(error, settings, "describe the settings of", f"topic {name!r}") or error from None
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _compared(
    spec: TopicSpec, partitions: int, topic: dict[str, Any] | None, config: dict[str, str]
) -> list[Difference]:
    if topic is None:
        return [Difference(spec.name, "topic", counted(partitions, "partition"), None)]
    replicas = [len(partition.get("replicas", ())) for partition in topic["partitions"]]
    pairs = [("partitions", str(partitions), str(len(replicas)))]
    pairs.append(("replication", str(spec.replication), str(min(replicas, default=0))))
    # Kafka answers with every setting, the embedded broker with some: what it does not name can't be compared.
    pairs += [(name, value, config[name]) for name, value in spec.config.items() if name in config]
    return [Difference(spec.name, what, wanted, found) for what, wanted, found in pairs if wanted != found]
