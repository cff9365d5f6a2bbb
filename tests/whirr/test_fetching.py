"""Every reader of Whirr against a broker that holds what no reader of a client's own takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.consumer import fetcher

from backtest.replay.rescoring import Range, records_of
from schemas import FrameRecord
from schemas.errors import SettingsError
from tests.helpers import KafkaUnderTest
from tests.raw_batches import bomb, raw_batch, raw_record, send_raw
from whirr import fetching
from whirr.alert_reader import AlertReader
from whirr.dead_letters import read_letter, read_letters
from whirr.fetching import ThrottledLog, UnreadableRecord
from whirr.record_batches import MAX_UNPACKED_BYTES
from whirr.topic_reader import read_record, read_topic

CODECS = ["none", "gzip", "snappy", "snappy-raw", "lz4", "zstd"]
NOW_MS = time.time_ns() // 1_000_000


def batch_of(value: bytes, codec: str = "none", **options: Any) -> bytes:
    return raw_batch(raw_record(b"pump-1", value, options.pop("headers", ())), 1, codec, ts_ms=NOW_MS, **options)


async def everything(kafka: KafkaUnderTest, topic: str) -> list[Any]:
    return [one async for one in read_topic(kafka.settings(), topic, unreadable=True)]


@asynccontextmanager
async def transactions(kafka: KafkaUnderTest, name: str = "") -> AsyncIterator[AIOKafkaProducer]:
    if kafka.embedded:
        pytest.skip("the embedded broker has no transactions")
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"gateway-{kafka.suffix}{name}")
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def test_the_client_reads_by_our_hands() -> None:
    """Another version of the client may name its parts otherwise."""
    assert fetcher.PartitionRecords is fetching._PartitionRecords
    names = fetcher.Fetcher._proc_fetch_request.__code__.co_names
    assert {"MemoryRecords", "PartitionRecords", "FetchResult"} <= set(names)


async def test_every_codec_is_read(kafka: KafkaUnderTest) -> None:
    topic = kafka.settings().frames_topic
    await kafka.create_topics(topic, partitions=1)
    for codec in CODECS:
        await send_raw(kafka.bootstrap, topic, 0, batch_of(codec.encode() * 9, codec))
    assert [one.value for one in await everything(kafka, topic)] == [codec.encode() * 9 for codec in CODECS]


async def test_what_can_t_be_read_stands_between_what_can(
    kafka: KafkaUnderTest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_tell", ThrottledLog(fetching.log.warning))
    settings = kafka.settings()
    topic = settings.frames_topic
    await kafka.create_topics(topic, partitions=1)
    odd = [(b"\xff\xfe", b"x"), (b"ce_source", b"mic")]
    await send_raw(kafka.bootstrap, topic, 0, batch_of(b"first"))
    await send_raw(kafka.bootstrap, topic, 0, batch_of(b"odd", headers=odd))
    for codec in ("gzip", "zstd", "lz4"):
        await send_raw(kafka.bootstrap, topic, 0, bomb(codec, 3 * MAX_UNPACKED_BYTES))
    many = b"".join(raw_record(None, b"", (), at) for at in range(20_000))
    await send_raw(kafka.bootstrap, topic, 0, raw_batch(many, 20_000, "zstd", ts_ms=NOW_MS))
    await send_raw(kafka.bootstrap, topic, 0, batch_of(b"last", "lz4"))
    found = await everything(kafka, topic)
    assert [one.value for one in found] == [b"first", b"odd", None, None, None, None, b"last"]
    assert found[1].headers == (("��", b"x"), ("ce_source", b"mic"))
    told = [(one.code, one.first_offset, one.offset) for one in found if isinstance(one, UnreadableRecord)]
    assert told == [
        ("batch_too_large", 2, 2),
        ("batch_too_large", 3, 3),
        ("batch_too_large", 4, 4),
        ("batch_too_many", 5, 20_004),
    ]
    assert [one.value async for one in read_topic(settings, topic)] == [b"first", b"odd", b"last"]
    replayed = [one async for one in records_of(settings, Range(None, None))]
    assert [one.unreadable.code for one in replayed if one.unreadable] == [code for code, _, _ in told]
    assert await read_record(settings, topic, 0, 3) is None
    last = await read_record(settings, topic, 0, 20_005)
    assert last is not None
    assert last.value == b"last"
    warnings = [one.message for one in caplog.records if one.name == "whirr.fetching"]
    assert len(warnings) == 1, "once, not for each"
    assert f"{topic}, partition 0, offset 2: can't be read" in warnings[0]


async def test_alerts_and_dead_letters_are_read_past_it(kafka: KafkaUnderTest) -> None:
    settings = kafka.settings()
    await kafka.create_topics(settings.alerts_topic, settings.dead_letter_topic, partitions=1)
    alert = {
        "alert_id": "a" * 32, "machine_id": "pump-1", "source": None, "kind": "machine", "sensor_fault": None,
        "state": "opened", "severity": "warning", "ratio": 1.5, "recorded_at": "2026-01-01T00:00:00Z", "frame": None,
        "bands": [],
    }  # fmt: skip
    for topic, value in ((settings.alerts_topic, orjson.dumps(alert)), (settings.dead_letter_topic, b"frame")):
        await send_raw(kafka.bootstrap, topic, 0, bomb("zstd", 2 * MAX_UNPACKED_BYTES))
        await send_raw(kafka.bootstrap, topic, 0, batch_of(value, "snappy"))
    reader = AlertReader(settings.bootstrap, settings.alerts_topic, settings=settings)
    assert [one.alert async for one in reader.read()] == [alert]
    assert [one.value async for one in read_letters(settings)] == [b"frame"]
    assert (await read_letter(settings, "0:1")).value == b"frame"
    with pytest.raises(SettingsError, match="no dead letter 0:0"):
        await read_letter(settings, "0:0")


async def test_only_what_is_committed_and_no_waiting_for_the_rest(kafka: KafkaUnderTest) -> None:
    settings = kafka.settings()
    async with transactions(kafka) as producer, transactions(kafka, "-open") as other:
        topic = settings.frames_topic
        await kafka.create_topics(topic, partitions=1)
        async with producer.transaction():
            await producer.send(topic, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        read = await asyncio.wait_for(everything(kafka, topic), 25)
        assert [one.value for one in read] == [b"committed"], "it ends with markers, and a reader ends there"
        await other.begin_transaction()
        await other.send_and_wait(topic, b"open", partition=0)
        await kafka.produce(topic, [FrameRecord(b"k", b"behind")])
        read = await asyncio.wait_for(everything(kafka, topic), 25)
        assert [one.value for one in read] == [b"committed"], "what is behind an open transaction is not there yet"
        await other.commit_transaction()
        read = await asyncio.wait_for(everything(kafka, topic), 25)
        assert [one.value for one in read] == [b"committed", b"open", b"behind"]


def test_a_flood_is_told_in_a_line_a_minute() -> None:
    said: list[str] = []
    now_s = [0.0]
    teller = ThrottledLog(said.append, every_s=60, now_s=lambda: now_s[0])
    for second in range(130):
        now_s[0] = second
        teller(f"at {second}")
    assert [line.partition(" (")[0] for line in said] == ["at 0", "at 60", "at 120"]
    assert said[1].endswith("(and 59 more like it since the last such line)")
