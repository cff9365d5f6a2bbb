"""Messages go where their key says, in order, and a send that returns has been stored."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from stream_app.worker.messages import Message
from stream_app.worker.sender import BATCH_BYTES, MAX_REQUEST_BYTES, KafkaSender, partition_of
from tests.helpers import KafkaUnderTest


@pytest.fixture
async def producer(kafka: KafkaUnderTest) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap,
        acks="all",
        enable_idempotence=not kafka.embedded,
        max_batch_size=BATCH_BYTES,
        max_request_size=MAX_REQUEST_BYTES,
        request_timeout_ms=2_000,
    ) as started:
        yield started


@pytest.fixture
def topic(kafka: KafkaUnderTest) -> str:
    return f"plain-{kafka.suffix}"


async def test_keys_decide_the_partition_and_order_stays(
    kafka: KafkaUnderTest, producer: AIOKafkaProducer, topic: str
) -> None:
    await kafka.create_topics(topic)
    messages = [Message(topic, b"pump-%d" % (i % 5), b"%d" % i, [("n", b"%d" % i)]) for i in range(50)]
    await KafkaSender(lambda: producer).send(messages)
    found = await kafka.drain(topic)
    assert len(found) == 50
    for record in found:
        assert record.partition == partition_of(record.key, 4)
        assert record.headers == (("n", record.value),)
    for i in range(5):
        values = [int(record.value) for record in found if record.key == b"pump-%d" % i]
        assert values == sorted(values)


async def test_messages_may_name_their_partition(kafka: KafkaUnderTest, producer: AIOKafkaProducer, topic: str) -> None:
    await kafka.create_topics(topic)
    await KafkaSender(lambda: producer).send([Message(topic, b"key", b"value", (), 3), Message(topic, None, b"none")])
    assert {(record.key, record.partition) for record in await kafka.drain(topic)} == {(b"key", 3), (None, 0)}


async def test_more_than_a_batch_holds_goes_in_several(
    kafka: KafkaUnderTest, producer: AIOKafkaProducer, topic: str
) -> None:
    await kafka.create_topics(topic)
    sizes = [1_000_000, 10, 300_000, 300_000, 300_000, 1_000_000, 10]
    await KafkaSender(lambda: producer).send([Message(topic, b"key", bytes(size)) for size in sizes])
    assert [len(record.value) for record in await kafka.drain(topic)] == sizes


async def test_a_message_that_is_too_large_comes_back_and_the_others_are_stored(
    kafka: KafkaUnderTest, producer: AIOKafkaProducer, topic: str
) -> None:
    if kafka.embedded:
        pytest.skip("the embedded broker refuses nothing")
    await kafka.create_topics(topic, partitions=1, config={"max.message.bytes": "600000"})
    sender = KafkaSender(lambda: producer)
    sizes = [10, 700_000, 20, 3_000_000, 400_000, 650_000, 30]
    refused = await sender.send([Message(topic, b"key", bytes(size)) for size in sizes])
    assert sorted(len(message.value or b"") for message in refused) == [650_000, 700_000, 3_000_000]
    assert await sender.send([Message(topic, b"key", bytes(40))]) == []
    assert [len(record.value) for record in await kafka.drain(topic)] == [10, 20, 400_000, 30, 40]


async def test_one_of_a_batch_is_found(kafka: KafkaUnderTest, producer: AIOKafkaProducer, topic: str) -> None:
    if kafka.embedded:
        pytest.skip("the embedded broker refuses nothing")
    await kafka.create_topics(topic, partitions=1, config={"max.message.bytes": "1000"})
    sender = KafkaSender(lambda: producer)
    refused = await sender.send([Message(topic, b"key", bytes(size)) for size in (10, 5000, 20)])
    assert [len(message.value or b"") for message in refused] == [5000]
    assert await sender.send([Message(topic, b"key", bytes(30))]) == []
    assert sorted(len(record.value) for record in await kafka.drain(topic)) == [10, 20, 30]
