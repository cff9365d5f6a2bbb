"""The topic itself: what a consumer reads from a real broker, and what the agent says when there is none."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from edge_agent import EdgeAgent, EdgeConfig, LiveTimes, SystemClock
from edge_agent.outgoing import OutgoingFrame
from edge_agent.publisher import KafkaSink, RetryableError
from schemas import FrameRecord, parse_frame
from schemas.errors import AccessRefused, ServiceUnavailable
from tests.edge_agent.fakes import FakeClock, ListSource, noise
from tests.helpers import KafkaUnderTest, validate_headers
from whirr import record_batches
from whirr.topic_reader import read_topic


async def test_frames_reach_the_topic_in_order_on_one_partition(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    settings = kafka.settings()
    config = EdgeConfig(
        machine_id="pump-1",
        source="drive end",
        bootstrap=settings.bootstrap,
        topic=settings.frames_topic,
        give_up_s=30,
    )
    source = ListSource([noise(40_000)], live=True)
    agent = EdgeAgent(config, source, LiveTimes(FakeClock(SystemClock().now_us() - 60_000_000)))
    summary = await agent.run()
    records = await kafka.consume(settings.frames_topic, 40)
    assert {record.key for record in records} == {b"pump-1"}
    assert len({record.partition for record in records}) == 1
    frames = [
        parse_frame(FrameRecord(record.key, record.value, record.headers, record.timestamp)) for record in records
    ]
    assert [frame.sequence for frame in frames] == list(range(40))
    assert all(frame.foreign_id == frame.frame_id for frame in frames)
    for record in records:
        validate_headers("frame", record.headers)
    assert (summary.frames_sent, summary.retries) == (40, 0)
    assert summary.bytes_sent == sum(len(record.value) for record in records)


async def test_the_largest_frame_fits(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    settings = kafka.settings()
    config = EdgeConfig(
        machine_id="pump-1",
        bootstrap=settings.bootstrap,
        topic=settings.frames_topic,
        file_format="wav",
        frame_s=10.3,
        give_up_s=30,
    )
    times = LiveTimes(FakeClock(SystemClock().now_us() - 60_000_000))
    await EdgeAgent(config, ListSource([noise(494_400, rate_hz=48_000)]), times).run()
    (record,) = await kafka.consume(settings.frames_topic, 1)
    assert 980_000 < len(record.value) <= 1_000_000


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_records_are_packed_as_set_and_arrive_as_they_were(
    kafka: KafkaUnderTest, codec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kafka.create_topics()
    settings = kafka.settings(edge_compression=codec)
    unpack, seen = record_batches.unpack, set()

    def noting(number: int, packed: memoryview) -> bytes:
        seen.add(record_batches.CODECS[number])
        return unpack(number, packed)

    monkeypatch.setattr(record_batches, "unpack", noting)
    sink = KafkaSink(settings.bootstrap, settings.frames_topic, settings)
    await sink.open()
    await sink.send(OutgoingFrame(b"pump-1", value := bytes(20_000), (), 1, 2))
    await sink.close()
    assert [one.value async for one in read_topic(settings, settings.frames_topic)] == [value]
    assert seen == {codec} - {"none"}


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_no_broker_is_one_line_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    sink = KafkaSink(address := f"127.0.0.1:{_unused_port()}", "frames")
    with pytest.raises(RetryableError, match=f"no Kafka answers at {address}"):
        await sink.open()
    await sink.close()
    assert not [record for record in caplog.records if record.exc_info]


class Refusing:
    """A producer that fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def send_and_wait(self, *_: object, **__: object) -> None:
        raise self.error

    async def stop(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MessageSizeTooLargeError(), ServiceUnavailable, "set its max.message.bytes to 2097152"),
        (TopicAuthorizationFailedError("frames"), AccessRefused, "write topic 'frames'"),
        (KafkaConnectionError("gone"), RetryableError, "no Kafka answers at broker:9092"),
        (TimeoutError(), RetryableError, "no Kafka answers"),
    ],
)
async def test_what_errors_mean(error: Exception, kind: type[Exception], words: str) -> None:
    sink = KafkaSink("broker:9092", "frames")
    sink._producer = Refusing(error)
    with pytest.raises(kind, match=words):
        await sink.send(OutgoingFrame(b"pump-1", b"RIFF", (), 0, 1))
    await sink.close()  # a producer that can't stop is left alone
