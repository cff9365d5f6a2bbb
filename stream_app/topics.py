"""The topics that a worker needs: made where they are missing, and waited for where Kafka is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.frame import MAX_AHEAD_US
from stream_app.sender import MAX_REQUEST_BYTES
from stream_app.table import changelog_topic
from whirr.errors import SettingsError
from whirr.settings import Settings

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
COMPACTION_LAG_MS = 3_600_000
_BACKOFF_S = (0.25, 5.0)
_REQUEST_TIMEOUT_MS = 10_000
_TRIES_AFTER_CREATION = 50


async def ensure_topics(settings: Settings) -> int:
    """Create the topics that are missing and return how many partitions the frames topic has.

    Waits for Kafka for as long as it is away, and says so once.

    Raises:
        SettingsError: The states' changelog has another number of partitions than the frames topic.
    """
    delay_s, longest_s = _BACKOFF_S
    told = False
    while True:
        try:
            with _quiet_aiokafka():
                partitions = await _ensure_topics(settings)
        except (KafkaError, OSError, TimeoutError) as error:
            if not told:
                log.warning("Kafka at %s can't be reached (%s); trying until it can", settings.bootstrap, _brief(error))
                told = True
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, longest_s)
        else:
            if told:
                log.info("Kafka at %s reached", settings.bootstrap)
            return partitions


async def _ensure_topics(settings: Settings) -> int:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS, client_id=settings.worker_id
    )
    try:
        await admin.start()
        known = set(await admin.list_topics())
        if settings.frames_topic not in known:
            await _create(admin, _frames_topic(settings))
        partitions = await _partitions(admin, settings.frames_topic)
        for topic in _answer_topics(settings, partitions):
            if topic.name not in known:
                await _create(admin, topic)
        states = await _partitions(admin, changelog_topic(settings.worker_id))
    finally:
        await admin.close()
    if states != partitions:
        raise SettingsError(
            f"topic {changelog_topic(settings.worker_id)} has {states} partitions, {settings.frames_topic} has "
            f"{partitions}; expected as many. Choose another worker_id, or give both the same number"
        )
    return partitions


def _frames_topic(settings: Settings) -> NewTopic:
    # A gateway whose clock is ahead would mute its machines once the clock is put right, so the broker refuses it.
    ahead = {"message.timestamp.after.max.ms": str(MAX_AHEAD_US // 1000)}
    return _topic(settings, settings.frames_topic, settings.topic_partitions, ahead)


def _answer_topics(settings: Settings, partitions: int) -> list[NewTopic]:
    names = [settings.alerts_topic]
    if settings.publish_scores:
        names.append(settings.scores_topic)
    changelog = _topic(
        settings,
        changelog_topic(settings.worker_id),
        partitions,
        {"cleanup.policy": "compact", "min.compaction.lag.ms": str(COMPACTION_LAG_MS)},
    )
    # A dead letter is the largest record of the frames topic and more.
    room = {"max.message.bytes": str(MAX_REQUEST_BYTES)}
    dead_letters = _topic(settings, settings.dead_letter_topic, settings.topic_partitions, room)
    return [*(_topic(settings, name, settings.topic_partitions) for name in names), dead_letters, changelog]


def _topic(settings: Settings, name: str, partitions: int, config: dict[str, str] | None = None) -> NewTopic:
    limits = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    return NewTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=settings.topic_replication,
        topic_configs={**limits, **(config or {})},
    )


async def _create(admin: AIOKafkaAdminClient, topic: NewTopic) -> None:
    response = await admin.create_topics([topic], timeout_ms=_REQUEST_TIMEOUT_MS)
    for name, code, *reason in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):  # another worker may have been quicker
            raise for_code(code)(f"topic {name} can't be created: {reason[0] if reason else code}")
    log.info("created topic %s with %d partitions", topic.name, topic.num_partitions)


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Return how many partitions a topic has, waiting while it is being created."""
    for _ in range(_TRIES_AFTER_CREATION):
        described: list[dict[str, Any]] = await admin.describe_topics([topic])
        found = described[0].get("partitions", []) if described else []
        if found and all(partition.get("leader", 0) >= 0 for partition in found):
            return len(found)
        await asyncio.sleep(0.1)
    raise TimeoutError(f"topic {topic} has no leaders yet")


@contextmanager
def _quiet_aiokafka() -> Iterator[None]:
    """Keep aiokafka from logging each failed attempt: one message is enough."""
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip(": ")
