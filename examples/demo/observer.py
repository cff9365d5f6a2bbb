"""What comes out of Whirr while the demo runs: a reader of the four topics, as any subscriber could write it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from schemas import parse_rfc3339
from whirr.settings import Settings

# The embedded broker answers a waiting fetch only after about half of this.
FETCH_WAIT_MS = 20


class DeadLetter(NamedTuple):
    """Whose frame could not be used, and why."""

    machine_id: str
    reason: str


@dataclass(slots=True)
class Received:
    """Everything read so far.

    Attributes:
        scores: By frame id; a frame scored twice counts once.
        dead_letters: By frame id, as the edge agent set it.
        alerts: By alert id, in the order of arrival, each with ``received_us`` added.
    """

    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead_letters: dict[str, DeadLetter] = field(default_factory=dict)
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Frames that have been answered."""
        return len(self.scores) + len(self.dead_letters)

    def of(self, machine_id: str) -> int:
        """Return how many frames of a machine have been answered."""
        scored = sum(bool(score["machine_id"] == machine_id) for score in self.scores.values())
        return scored + sum(letter.machine_id == machine_id for letter in self.dead_letters.values())


class Observer:
    """Reads scores, alerts and dead letters until it is stopped."""

    def __init__(self, settings: Settings, on_alert: Callable[[dict[str, Any]], None]) -> None:
        self.received = Received()
        self._settings = settings
        self._on_alert = on_alert
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self) -> None:
        """Read until cancelled."""
        settings = self._settings
        topics = (settings.scores_topic, settings.dead_letter_topic, settings.alerts_topic)
        consumer = AIOKafkaConsumer(
            *topics, bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=FETCH_WAIT_MS
        )
        await consumer.start()
        self._consumer = consumer
        try:
            async for record in consumer:
                self._take(record)
        finally:
            await consumer.stop()

    async def wait_for(self, frames: int, deadline_s: float) -> None:
        """Return when ``frames`` frames have been answered, or after ``deadline_s`` without a further answer."""
        seen, since = -1, time.monotonic()
        while self.received.frames < frames and time.monotonic() < since + deadline_s:
            if self.received.frames != seen:
                seen, since = self.received.frames, time.monotonic()
            await asyncio.sleep(0.05)

    async def read_to_end(self) -> None:
        """Return when everything that the topics hold now has been read."""
        consumer = self._consumer
        if consumer is None:
            return
        for partition, end in (await consumer.end_offsets(list(consumer.assignment()))).items():
            while await consumer.position(partition) < end:
                await asyncio.sleep(0.02)

    def _take(self, record: ConsumerRecord) -> None:
        if record.topic == self._settings.dead_letter_topic:
            headers = dict(record.headers)
            reason = f"{headers['whirr_error'].decode()}: {headers['whirr_detail'].decode()}"
            self.received.dead_letters[headers["ce_id"].decode()] = DeadLetter(record.key.decode(), reason)
            return
        message = orjson.loads(record.value)
        if record.topic == self._settings.scores_topic:
            if message.get("shadow"):
                return
            self.received.scores[message["frame_id"]] = message
        elif message["alert_id"] not in self.received.alerts:
            message["received_us"] = time.time_ns() // 1000
            self.received.alerts[message["alert_id"]] = message
            self._on_alert(message)


def latency_ms(alert: dict[str, Any]) -> float | None:
    """Return the time from the frame's publication to the alert's arrival; None where no frame caused it."""
    if alert["frame"] is None:
        return None
    return float(alert["received_us"] - parse_rfc3339(alert["frame"]["published_at"])) / 1000
