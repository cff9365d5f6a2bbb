"""The topics that a worker needs are there once it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.errors import SettingsError
from stream_app.worker.table import changelog_topic
from stream_app.worker.topic_setup import ensure_topics
from tests.conftest import LateKafka
from tests.helpers import KafkaUnderTest, eventually_async
from whirr.settings import Settings


@asynccontextmanager
async def admin_of(kafka: KafkaUnderTest) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def described(kafka: KafkaUnderTest, *topics: str) -> dict[str, int]:
    async with admin_of(kafka) as admin:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(list(topics))}


async def test_missing_topics_are_made(kafka: KafkaUnderTest) -> None:
    settings = kafka.settings(topic_partitions=3)
    assert await ensure_topics(settings) == 3
    assert await ensure_topics(settings) == 3, "a second worker finds them"
    names = [name for name, kind in kafka.kinds.items() if kind != "verdict"] + [changelog_topic(settings.worker_id)]
    assert await described(kafka, *names) == dict.fromkeys(names, 3)
    async with admin_of(kafka) as admin:
        assert settings.verdicts_topic not in await admin.list_topics(), "which it has no use for, nor a right to"


async def test_the_changelog_is_as_wide_as_a_frames_topic_that_was_there(kafka: KafkaUnderTest) -> None:
    settings = kafka.settings(topic_partitions=3)
    await kafka.create_topics(settings.frames_topic, partitions=5)
    assert await ensure_topics(settings) == 5
    changelog = changelog_topic(settings.worker_id)
    assert await described(kafka, settings.alerts_topic, changelog) == {settings.alerts_topic: 3, changelog: 5}


async def test_a_changelog_that_does_not_fit_is_refused(kafka: KafkaUnderTest) -> None:
    settings = kafka.settings()
    await kafka.create_topics(settings.frames_topic, partitions=4)
    await kafka.create_topics(changelog_topic(settings.worker_id), partitions=2)
    with pytest.raises(SettingsError, match=r"2 partitions.* 4"):
        await ensure_topics(settings)


async def test_the_changelog_is_compacted_late_and_takes_large_records(kafka: KafkaUnderTest) -> None:
    if kafka.embedded:
        pytest.skip("the embedded broker keeps no topic configuration")
    settings = kafka.settings()
    await ensure_topics(settings)
    changelog, frames = changelog_topic(settings.worker_id), settings.frames_topic
    async with admin_of(kafka) as admin:
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in (changelog, frames)]
        answers = [entry for response in await admin.describe_configs(asked) for entry in response.resources]
    config = {entry[3]: {name: value for name, value, *_ in entry[4]} for entry in answers}
    assert config[changelog]["cleanup.policy"] == "compact"
    assert config[changelog]["min.compaction.lag.ms"] == "3600000"
    assert config[frames]["max.message.bytes"] == str(2 * 1024 * 1024)


async def test_scores_that_are_not_wanted_need_no_topic(kafka: KafkaUnderTest) -> None:
    settings = kafka.settings(publish_scores=False)
    await ensure_topics(settings)
    async with admin_of(kafka) as admin:
        assert settings.scores_topic not in await admin.list_topics()


async def test_kafka_that_is_away_is_waited_for_and_said_once(
    late_kafka: LateKafka, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(kafka_bootstrap_servers=late_kafka.bootstrap, topic_partitions=2)
    waiting = asyncio.create_task(ensure_topics(settings))
    await eventually_async(lambda: "can't be reached" in caplog.text)
    with late_kafka.started():
        assert await asyncio.wait_for(waiting, 30) == 2
    assert caplog.text.count("can't be reached") == 1
    assert late_kafka.bootstrap in caplog.text
