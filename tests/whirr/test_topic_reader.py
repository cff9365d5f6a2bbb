"""Reading a topic between two times, and one record: all of it, in order, and no offset is committed."""

from __future__ import annotations

import contextlib
import time

import pytest

from schemas import FrameRecord
from schemas.errors import ServiceUnavailable, SettingsError
from tests.helpers import KafkaUnderTest
from whirr import process
from whirr.settings import Settings
from whirr.topic_reader import follow_topic, read_record, read_topic

NOW_MS = time.time_ns() // 1_000_000


def record(number: int, at_ms: int, key: str) -> FrameRecord:
    return FrameRecord(key.encode(), str(number).encode(), (), at_ms)


async def filled(kafka: KafkaUnderTest) -> Settings:
    """Ten records of each of two keys; a record's number is how many seconds ago it was stamped, the last one now."""
    await kafka.create_topics()
    settings = kafka.settings()
    wanted = [record(number, NOW_MS - 1000 * number, key) for number in range(9, -1, -1) for key in ("a", "b")]
    await kafka.produce(settings.frames_topic, wanted)
    return settings


async def test_all_of_it_in_the_order_of_each_partition(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    found: dict[bytes, list[int]] = {b"a": [], b"b": []}
    async for one in read_topic(settings, settings.frames_topic):
        found[one.key].append(int(one.value))
    assert found == {b"a": list(range(9, -1, -1)), b"b": list(range(9, -1, -1))}


async def test_from_a_time_up_to_and_without_another(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    since_us, until_us = (NOW_MS - 6000) * 1000, (NOW_MS - 3000) * 1000
    between = [
        int(one.value)
        async for one in read_topic(settings, settings.frames_topic, since_us=since_us, until_us=until_us)
        if one.key == b"a"
    ]
    assert between == [6, 5, 4]
    after = read_topic(settings, settings.frames_topic, since_us=(NOW_MS + 60_000) * 1000)
    assert [one async for one in after] == []


async def test_one_record_by_its_offset(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    stored = [one async for one in read_topic(settings, settings.frames_topic) if one.key == b"a"]
    found = await read_record(settings, settings.frames_topic, stored[4].partition, stored[4].offset)
    assert found is not None
    assert (found.value, found.offset) == (stored[4].value, stored[4].offset)
    assert await read_record(settings, settings.frames_topic, stored[4].partition, 10_000) is None
    with pytest.raises(SettingsError, match="no partition 77"):
        await read_record(settings, settings.frames_topic, 77, 0)


async def test_a_topic_that_is_not_there(kafka: KafkaUnderTest) -> None:
    settings = kafka.settings()
    with pytest.raises(SettingsError, match="has no topic 'absent'"):
        _ = [one async for one in read_topic(settings, "absent")]
    assert [one async for one in read_topic(settings, "absent", missing_ok=True)] == []


async def test_a_broker_that_is_away() -> None:
    settings = Settings(kafka_bootstrap_servers=f"127.0.0.1:{process.free_port()}")
    with pytest.raises(ServiceUnavailable, match="can't be reached"):
        _ = [one async for one in read_topic(settings, "frames")]


async def test_a_topic_is_followed_from_its_beginning_on(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    looks = follow_topic(settings, settings.frames_topic, 0.01)
    async with contextlib.aclosing(looks):  # type: ignore[type-var]
        assert len(await anext(looks)) == 20
        assert await anext(looks) == []
        await kafka.produce(settings.frames_topic, [record(77, NOW_MS, "a")])
        (found,) = await anext(looks)
        assert found.value == b"77"
    with pytest.raises(SettingsError, match="has no topic 'absent'"):
        await anext(follow_topic(settings, "absent", 0.01))


async def test_a_topic_is_followed_from_a_time_on(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    looks = follow_topic(settings, settings.frames_topic, 0.01, since_us=(NOW_MS - 4000) * 1000)
    async with contextlib.aclosing(looks):  # type: ignore[type-var]
        found = await anext(looks)
        values = sorted(int(one.value) for one in found)
        assert values[-10:] == [number for number in range(5) for _ in "ab"]
        assert kafka.embedded or len(values) == 10
        assert await anext(looks) == []
        await kafka.produce(settings.frames_topic, [record(99, NOW_MS - 99_000, "a")])
        (late,) = await anext(looks)  # what comes meanwhile is told whatever its time
        assert late.value == b"99"


async def test_a_topic_whose_records_are_all_earlier_is_followed_from_its_end(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    looks = follow_topic(settings, settings.frames_topic, 0.01, since_us=(NOW_MS + 60_000) * 1000)
    async with contextlib.aclosing(looks):  # type: ignore[type-var]
        assert await anext(looks) == []
        await kafka.produce(settings.frames_topic, [record(77, NOW_MS, "a")])
        (found,) = await anext(looks)
        assert found.value == b"77"
