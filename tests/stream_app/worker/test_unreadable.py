"""A worker on a real broker whose topic holds what can't be read: it goes on, and tells each as a dead letter."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.helpers import KafkaUnderTest, eventually, eventually_async, run_whirr
from tests.models import encoded, noise, tiny_model
from tests.raw_batches import bomb, raw_batch, raw_record, send_raw
from tests.stream_app.worker.worker_process import WorkerProcess, environment
from whirr.dead_letters import StoredDeadLetter, read_letters
from whirr.settings import Route, Settings

GOOD = encoded(noise())
NOW_MS = time.time_ns() // 1_000_000
GIGABYTE = 1_000_000_000


def batch_of(key: str, codec: str = "none", headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    return raw_batch(raw_record(key.encode(), GOOD, headers or ()), 1, codec, ts_ms=NOW_MS)


async def lag(settings: Settings) -> int:
    """How far behind the group is, as the broker's own tools would say."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=settings.worker_id)
    await consumer.start()
    try:
        places = [TopicPartition(settings.frames_topic, number) for number in range(2)]
        ends = await consumer.end_offsets(places)
        return sum([end - (await consumer.committed(place) or 0) for place, end in ends.items()])
    finally:
        await consumer.stop()


async def test_nothing_that_comes_stops_a_worker(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    settings = kafka.settings(route=(route,), topic_partitions=2)
    topic = settings.frames_topic
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        for codec in ("none", "gzip", "snappy", "snappy-raw", "lz4", "zstd"):
            await send_raw(kafka.bootstrap, topic, 0, batch_of(f"by-{codec}", codec))
        await send_raw(kafka.bootstrap, topic, 0, batch_of("odd-name", headers=[(b"\xff", b"x"), (b"ce_source", b"m")]))
        for codec in ("gzip", "zstd"):
            await send_raw(kafka.bootstrap, topic, 0, bomb(codec, GIGABYTE))
        many = b"".join(raw_record(None, b"", (), at) for at in range(100_000))
        await send_raw(kafka.bootstrap, topic, 0, raw_batch(many, 100_000, "zstd", ts_ms=NOW_MS))
        large = raw_record(b"large", bytes(3_000_000), [(b"site", bytes(1_000_000))])
        await send_raw(kafka.bootstrap, topic, 0, raw_batch(large, 1, "zstd", ts_ms=NOW_MS))
        await send_raw(kafka.bootstrap, topic, 0, batch_of("after", "lz4"))
        eventually(lambda: worker.metric("whirr_frames_total", outcome="scored") == 8, 60, "the frames are scored")
        eventually(lambda: worker.metric("whirr_frames_total", outcome="dead_letter") == 4, 60, "and the rest is told")
        assert worker.readiness()["ready"]
        assert worker.metric("whirr_unreadable_records_total") == 100_002
        eventually(lambda: worker.metric("whirr_lag_frames", partition="0") == 0, 30, "no lag is left")
        processes = [psutil.Process(worker.process.pid), *psutil.Process(worker.process.pid).children()]
        peak_mb = max(_peak_mb(one.pid) for one in processes)
        assert peak_mb < 700, "a gigabyte was not unpacked"
        assert worker.log.count("can't be read") == 1, "the log tells it once"
        assert worker.stop() == 0
    scored = await kafka.drain(settings.scores_topic)
    assert {one.key.decode() for one in scored} == {
        "by-none", "by-gzip", "by-snappy", "by-snappy-raw", "by-lz4", "by-zstd", "odd-name", "after",
    }  # fmt: skip
    letters = sorted([one async for one in read_letters(settings)], key=lambda one: one.original_offset or 0)
    assert [_place(one) for one in letters] == [
        ("batch_too_large", 0, 7, 7),
        ("batch_too_large", 0, 8, 8),
        ("batch_too_many", 0, 9, 100_008),
        ("value_too_large", 0, None, 100_009),
    ]
    assert [one.value if one.value is None else len(one.value) for one in letters] == [None, None, None, 2 << 20]
    _commands_cope(settings, letters[2])


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


def _place(letter: StoredDeadLetter) -> tuple[str, int | None, int | None, int | None]:
    return letter.code, letter.original_partition, letter.first_offset, letter.original_offset


def _commands_cope(settings: Settings, letter: StoredDeadLetter) -> None:
    env = environment(settings)
    listed = run_whirr("dlq", "list", env=env)
    assert listed.returncode == 0, listed.stderr
    assert "batch_too_many" in listed.stdout
    shown = run_whirr("dlq", "show", letter.place, env=env)
    assert shown.returncode == 0, shown.stderr
    assert "offsets 9 to 100008" in shown.stdout
    replayed = run_whirr("dlq", "replay", "--reason", "batch_too_many", "--yes", env=env)
    assert "it stands for what could not be read" in replayed.stdout + replayed.stderr
    assert "Traceback" not in replayed.stderr


@pytest.mark.timeout(180)
async def test_transactions_leave_no_lag_and_no_silence_unheard(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    if kafka.embedded:
        pytest.skip("the embedded broker has no transactions")
    model = str(tiny_model(tmp_path / "tiny.onnx"))
    settings = kafka.settings(route=(Route(match="*", model=model, silent_after_s=4.0),), topic_partitions=2)
    topic = settings.frames_topic
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"gateway-{kafka.suffix}")
    await producer.start()
    try:
        with WorkerProcess(settings, tmp_path) as worker:
            worker.wait_until_ready()
            async with producer.transaction():
                await producer.send(topic, GOOD, key=b"committed", partition=0)
            await producer.begin_transaction()
            await producer.send_and_wait(topic, GOOD, key=b"aborted", partition=0)
            await producer.abort_transaction()
            eventually(lambda: worker.metric("whirr_frames_total", outcome="scored") == 1, 30, "a frame is scored")

            async def level() -> bool:
                return await lag(settings) == 0

            await eventually_async(level, 30, "the group is level with the topic")
            eventually(lambda: worker.metric("whirr_lag_frames", partition="0") == 0, 30, "and says so")

            def silent() -> bool:
                return worker.metric("whirr_alerts_total", kind="sensor", state="opened") == 1

            eventually(silent, 40, "the machine is told silent although markers end the partition")
            assert worker.stop() == 0
    finally:
        await producer.stop()
    assert {one.key for one in await kafka.drain(settings.scores_topic)} == {b"committed"}
