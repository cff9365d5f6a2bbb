"""The topics that a worker needs: made where they are missing, and waited for where Kafka is."""

from __future__ import annotations

import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError

from schemas.errors import ServiceUnavailable, SettingsError
from whirr.counts import counted
from whirr.kafka_clients import refusal
from whirr.retries import retrying
from whirr.settings import Settings, changelog_topic
from whirr.topics import admin_client, create_topics, partitions_of, worker_topic_specs

log = logging.getLogger(__name__)

_BACKOFF_S = (0.25, 5.0)


async def ensure_topics(settings: Settings) -> int:
    """Create the topics that are missing and return how many partitions the frames topic has.

    Waits for Kafka for as long as it is away, and says so once.

    Raises:
        SettingsError: The states' changelog has another number of partitions than the frames topic.
        AccessRefused: Kafka lets this worker not in, or not make a topic that is missing.
    """

    def tell(error: Exception, failures: int, _wait_s: float) -> None:
        if failures == 1:
            log.warning("%s; trying until it can", error)

    tries = retrying(ServiceUnavailable, *_BACKOFF_S, tell)
    partitions: int = await tries(_ensure_topics, settings)
    if tries.statistics["attempt_number"] > 1:
        log.info("Kafka at %s reached", settings.bootstrap)
    return partitions


async def _ensure_topics(settings: Settings) -> int:
    async with admin_client(settings) as admin:
        await create_topics(admin, settings, worker_topic_specs(settings))
        await _check_group(admin, settings)
        partitions = await partitions_of(admin, settings.frames_topic)
        states = await partitions_of(admin, changelog_topic(settings.worker_id))
    if states != partitions:
        raise SettingsError(
            f"topic {changelog_topic(settings.worker_id)} has {counted(states, 'partition')}, {settings.frames_topic} "
            f"has {partitions}; expected as many. Choose another worker_id, or give both the same number"
        )
    return partitions


async def _check_group(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    """Raise AccessRefused if this user may not join the worker's group: Faust would ask again for ever, in silence."""
    try:
        await admin.find_coordinator(settings.worker_id)
    except GroupAuthorizationFailedError as error:
        refused = refusal(error, settings, "join", f"group {settings.worker_id!r}")
        raise refused or error from None
