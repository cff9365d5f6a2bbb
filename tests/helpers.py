"""What many tests need: deadlines in place of sleeps, message checks against the schemas, records in and out."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from jsonschema import Draft202012Validator, FormatChecker

from schemas.frame import FrameRecord
from whirr.settings import Settings, load_settings, verdict_log_topic

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
MAX_RECORD_BYTES = 2 * 1024 * 1024
Answer = TypeVar("Answer")

needs_shared_data = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the real recordings in ../shared/data")


# Deadlines


def eventually(predicate: Callable[[], Answer], deadline_s: float = 10.0, what: str = "") -> Answer:
    """Call ``predicate`` until its answer is true, and return that; fail after ``deadline_s`` seconds."""
    end = time.monotonic() + deadline_s
    while not (answer := predicate()):
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline_s:g} s: {what or inspect.getsource(predicate).strip()}")
        time.sleep(0.02)
    return answer


async def eventually_async(predicate: Callable[[], Any], deadline_s: float = 10.0, what: str = "") -> Any:
    """As :func:`eventually`, with the event loop running on; ``predicate`` may be a coroutine function."""
    end = time.monotonic() + deadline_s
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline_s:g} s: {what or inspect.getsource(predicate).strip()}")
        await asyncio.sleep(0.02)


# Messages against the schemas


@cache
def schema(name: str) -> dict[str, Any]:
    """Return the published schema ``name``, such as ``alert`` or ``dead_letter_headers``."""
    return json.loads((REPOSITORY / "schemas" / "json" / f"{name}.schema.json").read_text())


@cache
def _strict_validator(name: str) -> Draft202012Validator:
    """Return a validator that also refuses properties the schema does not name: the published one stays open."""
    return Draft202012Validator(_closed(schema(name)), format_checker=FormatChecker())


def _closed(part: Any) -> Any:
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {name: _closed(value) for name, value in part.items()}
    if isinstance(part.get("properties"), dict) and part.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def validate_message(kind: str, value: bytes) -> dict[str, Any]:
    """Check a value (JSON) against the schema of its kind (``alert``, ``score``, ``model_metadata``); return it."""
    message = json.loads(value, parse_constant=lambda name: pytest.fail(f"{kind}: {name} is no JSON"))
    _strict_validator(kind).validate(message)
    return message


def validate_headers(kind: str, headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Check headers against the schema of their kind (``frame``, ``alert``, ``score``, ``dead_letter``)."""
    texts = {name: raw.decode(errors="replace") for name, raw in headers}
    Draft202012Validator(schema(f"{kind}_headers"), format_checker=FormatChecker()).validate(texts)
    return texts


def validate_record(kind: str, record: ConsumerRecord) -> None:
    """Check a Kafka record's value and headers; a frame's are the test's own business."""
    if kind != "frame":
        validate_headers(kind, record.headers)
    if kind in ("alert", "score"):
        message = validate_message(kind, record.value)
        assert record.key == message["machine_id"].encode()
    if kind == "verdict":
        assert record.key == validate_message(kind, record.value)["incident_id"].encode()


# Kafka


class KafkaUnderTest:
    """One broker and, for one test, names that no other test uses.

    Attributes:
        bootstrap: Its addresses.
        embedded: Whether it is the embedded one.
        name: ``embedded`` or ``apache``.
        suffix: What sets this test's topics and consumer group apart.
    """

    def __init__(self, bootstrap: str, embedded: bool, name: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.embedded = embedded
        self.name = name
        self.suffix = uuid4().hex[:12]
        self._folder = folder

    def settings(self, **overrides: Any) -> Settings:
        """Return settings for this broker; the same topics and group each time within a test."""
        values: dict[str, Any] = {
            "kafka_bootstrap_servers": self.bootstrap,
            "frames_topic": f"frames-{self.suffix}",
            "alerts_topic": f"alerts-{self.suffix}",
            "scores_topic": f"scores-{self.suffix}",
            "dead_letter_topic": f"dead-letters-{self.suffix}",
            "verdicts_topic": f"verdicts-{self.suffix}",
            "topic_partitions": 4,
            "worker_id": f"worker-{self.suffix}",
            "worker_dir": self._folder / "worker",
            "feature_push": False,
            "web_port": 0,
        }
        return load_settings(**{**values, **overrides})

    async def create_topics(self, *names: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        """Create topics (by default this test's own) that take records of 2 MiB."""
        settings = self.settings()
        wanted = names or tuple(self.kinds)
        assert settings.frames_topic in self.kinds
        config = {"max.message.bytes": str(MAX_RECORD_BYTES), **(config or {})}
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config) for name in wanted])
        finally:
            await admin.close()

    @property
    def kinds(self) -> dict[str, str]:
        """What kind of message is on which topic of this test."""
        settings = self.settings()
        return {
            settings.frames_topic: "frame",
            settings.alerts_topic: "alert",
            settings.scores_topic: "score",
            settings.dead_letter_topic: "dead_letter",
            settings.verdicts_topic: "verdict",
            verdict_log_topic(settings.verdicts_topic): "verdict",
        }

    async def produce(self, topic: str, records: Iterable[FrameRecord]) -> None:
        """Send records with their key, value, headers and (unless 0) timestamp, and await the acknowledgements."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=MAX_RECORD_BYTES) as producer:
            sent = [
                await producer.send(
                    topic,
                    record.value,
                    key=record.key,
                    headers=list(record.headers),
                    timestamp_ms=record.timestamp_ms or None,
                )
                for record in records
            ]
            await asyncio.gather(*sent)

    async def consume(
        self,
        topic: str,
        until: int | Callable[[Sequence[ConsumerRecord]], bool],
        deadline_s: float = 30.0,
    ) -> list[ConsumerRecord]:
        """Read a topic of this test from its beginning until ``until`` records, or until it holds for them.

        Every record is checked against the schemas; read one topic whole after the worker has stopped
        with :meth:`drain`.
        """
        enough = (lambda found: len(found) >= until) if isinstance(until, int) else until
        found: list[ConsumerRecord] = []
        async with self._reader(topic) as consumer:
            end = time.monotonic() + deadline_s
            while not enough(found):
                if time.monotonic() > end:
                    pytest.fail(f"{topic}: {len(found)} records within {deadline_s:g} s, waiting for {until}")
                found += await self._read(consumer, topic)
        return found

    async def drain(self, topic: str) -> list[ConsumerRecord]:
        """Return all records that a topic of this test holds now, each checked against the schemas."""
        async with self._reader(topic) as consumer:
            await eventually_async(consumer.assignment, what=f"{topic} is assigned")
            partitions = list(consumer.assignment())
            ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
            found: list[ConsumerRecord] = []
            while any([await consumer.position(at) < end for at, end in ends.items()]):
                found += await self._read(consumer, topic)
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def _reader(self, topic: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * MAX_RECORD_BYTES,
            fetch_max_wait_ms=20,  # the embedded broker keeps a reader waiting for half of it
        )

    async def _read(self, consumer: AIOKafkaConsumer, topic: str) -> list[ConsumerRecord]:
        batches = await consumer.getmany(timeout_ms=100)
        records = [record for batch in batches.values() for record in batch]
        for record in records:
            validate_record(self.kinds.get(topic, "frame"), record)
        return records


# Processes


def is_running(pid: int) -> bool:
    """Whether a process is there; one that nobody has waited for yet is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def run_whirr(
    *args: str, env: Mapping[str, str] | None = None, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run ``whirr`` as a program of its own, and return how it ended and what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "commands", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **(env or {})},
    )
