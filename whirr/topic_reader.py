"""Reading a topic, or one record of it, without a group: nothing is committed, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import ServiceUnavailable, SettingsError, WhirrError
from whirr.fetching import UnreadableRecord
from whirr.kafka_clients import check_visible, consumer_options, quiet_aiokafka, refusal, why_not_connected
from whirr.settings import Settings

REQUEST_TIMEOUT_S = 10.0
STALLED_S = 30.0
_POLL_MS = 500
_FETCH_BYTES = 4 * 1024 * 1024  # a dead letter may have 2 MiB


async def read_topic(
    settings: Settings,
    topic: str,
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    missing_ok: bool = False,
    hidden_ok: bool = True,
    unreadable: bool = False,
) -> AsyncIterator[ConsumerRecord]:
    """Yield the records that a topic holds now, those of one partition in the order of their offsets.

    Partitions come interleaved, as they are fetched. What is written while this reads is left out.

    Args:
        settings: How to reach Kafka.
        topic: The topic.
        since_us: Leave out records whose timestamp is earlier, microseconds since the epoch.
        until_us: Leave out records whose timestamp is this or later. Timestamps need not grow with the offsets, so the
            topic is read to its end all the same.
        missing_ok: Take a topic that isn't there for an empty one.
        hidden_ok: Take a topic that this user may not see for one that isn't there; Kafka says so of both.
        unreadable: Yield an :class:`~whirr.fetching.UnreadableRecord` for records that can't be read, too, of whatever
            time; without, they are left out. In either case the log has them.

    Raises:
        SettingsError: There is no such topic.
        ServiceUnavailable: Kafka can't be reached, or goes away meanwhile.
        AccessRefused: Kafka refuses this user.
    """
    async with _consumer(settings, topic) as consumer:
        places = await _places(consumer, topic)
        if not places:
            if not hidden_ok:
                await check_visible(consumer._client, settings, topic)
            if missing_ok:
                return
            raise SettingsError(f"Kafka at {settings.bootstrap} has no topic {topic!r}, or does not show it")
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await _seek(consumer, ends, since_us)
        async for record in _until(consumer, settings, ends):
            # A record behind the first one in time may be older than that: timestamps need not grow with the offsets.
            at_us = record.timestamp * 1000
            if isinstance(record, UnreadableRecord):
                if unreadable:
                    yield record
            elif (since_us is None or at_us >= since_us // 1000 * 1000) and (until_us is None or at_us < until_us):
                yield record


async def follow_topic(
    settings: Settings, topic: str, every_s: float, *, since_us: int | None = None
) -> AsyncIterator[list[ConsumerRecord]]:
    """Yield, for ever, what a topic holds now, and then at each look what came since the one before, or nothing.

    Each list ends where the topic did when the look began; those of one partition are in the order of their offsets.
    Records that can't be read are left out.

    Args:
        settings: How to reach Kafka.
        topic: The topic.
        every_s: Seconds between two looks.
        since_us: In the first look, leave out records whose timestamp is earlier, microseconds since the epoch. What
            comes later is told whatever its time.

    Raises:
        SettingsError: There is no such topic (yet).
        ServiceUnavailable: Kafka can't be reached, or goes away meanwhile; or the topic was made anew.
        AccessRefused: Kafka refuses this user.
    """
    async with _consumer(settings, topic, quiet=False) as consumer:
        places = await _places(consumer, topic)
        if not places:
            await check_visible(consumer._client, settings, topic)
            raise SettingsError(f"Kafka at {settings.bootstrap} has no topic {topic!r}")
        consumer.assign(places)
        await _seek(consumer, await consumer.end_offsets(places), since_us)
        while True:
            ends = await consumer.end_offsets(places)
            if any([await consumer.position(at) > end for at, end in ends.items()]):  # nothing would come for long
                raise ServiceUnavailable(f"topic {topic!r} at {settings.bootstrap} has lost what was read of it")
            found = [one async for one in _until(consumer, settings, ends) if not isinstance(one, UnreadableRecord)]
            # Where to begin is a hint: some brokers go by when a record was stored.
            yield [one for one in found if since_us is None or one.timestamp * 1000 >= since_us]
            since_us = None
            await asyncio.sleep(every_s)


async def read_record(settings: Settings, topic: str, partition: int, offset: int) -> ConsumerRecord | None:
    """Return the record at an offset, or None if the topic has none there (yet, or any more).

    Raises:
        SettingsError, ServiceUnavailable, AccessRefused: As :func:`read_topic`.
    """
    async with _consumer(settings, topic) as consumer:
        place = TopicPartition(topic, partition)
        if place not in await _places(consumer, topic):
            await check_visible(consumer._client, settings, topic)
            raise SettingsError(f"Kafka at {settings.bootstrap} has no partition {partition} of topic {topic!r}")
        consumer.assign([place])
        first, end = (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]
        if not first <= offset < end:
            return None
        consumer.seek(place, offset)
        async for record in _until(consumer, settings, {place: end}):
            if record.offset >= offset:
                there = record.offset == offset and not isinstance(record, UnreadableRecord)
                return record if there else None
    return None


@asynccontextmanager
async def _consumer(settings: Settings, topic: str, *, quiet: bool = True) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **consumer_options(settings),
        client_id="whirr-reader",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=_FETCH_BYTES,
        retry_backoff_ms=100,
    )
    started = False
    with quiet_aiokafka() if quiet else nullcontext():
        try:
            await consumer.start()
            started = True
            yield consumer
        except (KafkaError, OSError, TimeoutError) as error:
            raise await _meaning(error, settings, topic, started) from None
        finally:
            await consumer.stop()


async def _meaning(error: Exception, settings: Settings, topic: str, started: bool) -> WhirrError:
    if (refused := refusal(error, settings, "read", f"topic {topic!r}")) is not None:
        return refused
    if not started:
        return await why_not_connected(settings)
    shown = f"{type(error).__name__}: {error}".strip(": ")
    return ServiceUnavailable(f"Kafka at {settings.bootstrap} went away while {topic!r} was read ({shown})")


async def _places(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    # Asking for one topic by name would make some brokers create it. To subscribe and let go again would tell too, but
    # a consumer whose metadata arrives in between can wait for ever for an assignment.
    cluster = await consumer._client.fetch_all_metadata()
    partitions = cluster.partitions_for_topic(topic) if topic in cluster.topics() else None
    return [TopicPartition(topic, number) for number in sorted(partitions or ())]


async def _seek(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], since_us: int | None) -> None:
    if since_us is None:
        await consumer.seek_to_beginning(*ends)
        return
    found = await consumer.offsets_for_times(dict.fromkeys(ends, since_us // 1000))
    for place, end in ends.items():
        offset = found.get(place)
        consumer.seek(place, end if offset is None else offset.offset)


async def _until(
    consumer: AIOKafkaConsumer, settings: Settings, ends: dict[TopicPartition, int]
) -> AsyncIterator[ConsumerRecord]:
    """Yield records until every partition is read up to its end."""
    loop = asyncio.get_running_loop()
    heard_s = loop.time()
    while open_places := [at for at, end in ends.items() if await _unread(consumer, at, end)]:
        fetched = await consumer.getmany(*open_places, timeout_ms=_POLL_MS)
        for records in fetched.values():
            for record in records:
                yield record
        if fetched:
            heard_s = loop.time()
        elif loop.time() - heard_s > STALLED_S:
            raise ServiceUnavailable(f"Kafka at {settings.bootstrap} has sent nothing for {STALLED_S:g} s")
        else:  # a consumer that waits and one whose broker is gone look the same
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await consumer.end_offsets(open_places)


async def _unread(consumer: AIOKafkaConsumer, place: TopicPartition, end: int) -> bool:
    async with asyncio.timeout(STALLED_S):
        position: int = await consumer.position(place)
    return position < end
