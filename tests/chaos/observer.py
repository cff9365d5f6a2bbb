"""What comes out: a reader of scores, alerts and dead letters that nothing stops, and its tally."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tests.chaos.hostile import PREFIX
from whirr.settings import Settings
from whirr.topic_reader import read_topic

FETCH_BYTES = 4 * 1024 * 1024
AGAIN_S = 1.0


class ObservedAlert(NamedTuple):
    """One alert as it came; ``number`` is that of its frame."""

    state: str
    incident_id: str
    what: str
    number: int


@dataclass(slots=True)
class Tally:
    """Everything read so far.

    Attributes:
        scored: How often each frame id has a score; ``late``: how often with status ``late``.
        dead_lettered: How often each id (``ce_id``) has a dead letter; its reason is in ``reasons``.
        alerts: By alert id, each that came, repeats included.
        places: Where an id was last seen: topic, partition, offset.
        hostile: Of the hostile gateway's records, those that have an answer: partition and offset.
    """

    scored: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    dead_lettered: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    alerts: dict[str, list[ObservedAlert]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    hostile: set[tuple[int, int]] = field(default_factory=set)

    @property
    def answered(self) -> int:
        """How many different records have an answer."""
        return len(self.scored) + len(self.dead_lettered) + len(self.hostile)

    def take(self, record: ConsumerRecord, settings: Settings) -> None:
        """Count one record."""
        if record.topic == settings.dead_letter_topic:
            headers = dict(record.headers)
            if "ce_id" not in headers:  # honest frames and poison have one
                self.hostile |= _answered_by(headers)
                return
            identity = headers["ce_id"].decode()
            self.dead_lettered[identity] += 1
            self.reasons[identity] = headers["whirr_error"].decode()
        elif record.topic == settings.scores_topic:
            score = orjson.loads(record.value)
            if score.get("shadow"):
                return
            if score["machine_id"].startswith(PREFIX):
                self.hostile.add((score["partition"], score["offset"]))
                return
            identity = score["frame_id"]
            self.scored[identity] += 1
            self.late[identity] += score["status"] == "late"
        else:
            alert = orjson.loads(record.value)
            if alert["machine_id"].startswith(PREFIX):  # what it says of machines that it made up is its own affair
                return
            identity = alert["alert_id"]
            what = f"{alert['kind']} {alert['state']}, {alert['severity']}, of {alert['machine_id']}"
            number = (alert["frame"] or {}).get("sequence") or 0
            observed = ObservedAlert(alert["state"], alert["incident_id"], what, number)
            self.alerts.setdefault(identity, []).append(observed)
        self.places[identity] = f"{record.topic}/{record.partition} at offset {record.offset}"


def _answered_by(headers: Mapping[str, bytes]) -> set[tuple[int, int]]:
    """Return which records a dead letter answers: one, or all that could not be read together."""
    partition, last = int(headers["whirr_partition"]), int(headers["whirr_offset"])
    first = int(headers.get("whirr_first_offset", last))
    return {(partition, offset) for offset in range(first, last + 1)}


class Observer:
    """Reads until it is stopped, whatever becomes of the brokers."""

    def __init__(self, settings: Settings) -> None:
        self.tally = Tally()
        self._settings = settings
        self._next: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with self._consumer() as consumer:
                    while True:
                        self._take(await consumer.getmany(timeout_ms=500))
            await asyncio.sleep(AGAIN_S)

    async def read_to_end(self) -> Tally:
        """Return what the topics hold now, all of it, read anew."""
        reader = Observer(self._settings)
        async with reader._consumer() as consumer:
            while not consumer.assignment():
                await asyncio.sleep(0.1)
            ends: dict[TopicPartition, int] = await consumer.end_offsets(list(consumer.assignment()))
            while any([await consumer.position(at) < end for at, end in ends.items()]):
                reader._take(await consumer.getmany(timeout_ms=500))
        return reader.tally

    def _consumer(self) -> AIOKafkaConsumer:
        settings = self._settings
        topics = (settings.scores_topic, settings.alerts_topic, settings.dead_letter_topic)
        return AIOKafkaConsumer(
            *topics,
            bootstrap_servers=settings.bootstrap,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
        )

    def _take(self, batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        for at, records in batches.items():
            for record in records:
                # After a new start it reads from the beginning.
                if record.offset >= self._next.get(tuple(at), 0):
                    self._next[tuple(at)] = record.offset + 1
                    self.tally.take(record, self._settings)


async def frames_on_topic(settings: Settings, wanted: Iterable[str]) -> dict[str, str]:
    """Return where on the frames topic the frames with these ids (``ce_id``) are."""
    missing, found = set(wanted), {}
    async for record in read_topic(settings, settings.frames_topic):
        identity = (dict(record.headers).get("ce_id") or b"").decode()
        if identity in missing:
            found[identity] = f"{record.topic}/{record.partition} at offset {record.offset}"
    return found
