"""Reading alerts from Kafka: without a consumer group, so that any number of readers disturb nobody."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.alert import MANY_MACHINES
from schemas.errors import ServiceUnavailable, SettingsError
from schemas.times import parse_rfc3339
from whirr.durations import parse_duration_s
from whirr.fetching import UnreadableRecord
from whirr.kafka_clients import check_visible, consumer_options, refusal, why_not_connected
from whirr.options import first_wrong
from whirr.retries import Backoff
from whirr.settings import Settings, load_settings

log = logging.getLogger(__name__)

_REMEMBERED = 100_000
_POLL_MS = 500
_REQUEST_TIMEOUT_MS = 10_000
_LOOK_S = 1.0
_BACKOFF_S = (1.0, 5.0)
_PROBE_S = 5.0
_ASSIGNED_S = 0.01


class _ShownFrame(BaseModel):
    model_config = ConfigDict(strict=True)

    frame_id: str


class _ShownBand(BaseModel):
    model_config = ConfigDict(strict=True)

    from_hz: float
    to_hz: float
    share: float


class _Shown(BaseModel):
    """What a reader needs of an alert; it may hold more, and words that this version does not know."""

    model_config = ConfigDict(strict=True)

    alert_id: str
    machine_id: str
    source: str | None
    kind: str
    sensor_fault: str | None
    state: str
    severity: str
    ratio: float | None
    recorded_at: str
    frame: _ShownFrame | None
    bands: list[_ShownBand]


class ReceivedAlert(NamedTuple):
    """One alert as it was read.

    Attributes:
        alert: The alert's JSON object.
        value: The same as it came.
        stored_ms: When Kafka stored it, milliseconds since the epoch.
    """

    alert: dict[str, Any]
    value: bytes
    stored_ms: int


def parse_since(text: str, now_us: int) -> int:
    """Return the time, in microseconds since the epoch, that ``10m`` (s, m, h, d ago) or an RFC 3339 time means.

    Raises:
        SettingsError: It is neither, or a duration that reaches back beyond 1970.
    """
    if (duration_s := parse_duration_s(text)) is not None:
        found = now_us - duration_s * 1_000_000
        if found < 0:
            raise SettingsError(f"since is {text!r}, which is before 1970; expected less")
        return found
    try:
        return parse_rfc3339(text)
    except ValueError:
        example = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise SettingsError(f"since is {text!r}; expected a duration such as 10m or a time such as {example}") from None


class AlertReader:
    """Reads the alerts topic, each alert once, however often it was delivered.

    Args:
        bootstrap: Kafka's addresses.
        topic: The alerts topic.
        since_us: Alerts stored before are left out; None for none.
        machine: Pattern of machine ids (``*``, ``?``, ``[abc]``); an alert about many machines fits every pattern.
        tell: Called with a message for people when Kafka is away or back.
        settings: How Kafka is reached, with TLS and a password; default: the settings in force.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        since_us: int | None = None,
        machine: str = "*",
        tell: Callable[[str], None] = log.warning,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings or load_settings(kafka_bootstrap_servers=bootstrap)
        self._bootstrap = bootstrap
        self._topic = topic
        self._since_us = since_us
        self._machine = machine
        self._tell = tell
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def read(self) -> AsyncGenerator[ReceivedAlert, None]:
        """Yield the alerts that are there now, in the order in which they were stored.

        Raises:
            ServiceUnavailable: Kafka can't be reached.
            AccessRefused: Kafka lets this user not in, or not read the topic.
        """
        async with self._consumer() as consumer:
            if await self._assign(consumer):
                for received in await self._until_end(consumer):
                    yield received

    async def follow(self) -> AsyncGenerator[ReceivedAlert, None]:
        """Yield the alerts that are there, then each one as it comes, for ever; waits while Kafka is away."""
        warned, backoff = False, Backoff(*_BACKOFF_S)
        while True:
            try:
                async with self._consumer() as consumer:
                    backoff.succeeded()
                    if warned:
                        self._tell(f"Kafka at {self._bootstrap} reached")
                        warned = False
                    while not await self._assign(consumer):
                        await asyncio.sleep(_LOOK_S)
                    for received in await self._until_end(consumer):
                        yield received
                    async for received in self._live(consumer):
                        yield received
            except ServiceUnavailable as error:
                if not warned:
                    self._tell(f"{error}; trying until it can")
                    warned = True
                await asyncio.sleep(backoff.failed())

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)  # what it has to say is said here, once
        consumer = AIOKafkaConsumer(
            **consumer_options(self._settings),
            client_id="whirr-alerts",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            fetch_max_wait_ms=_POLL_MS // 2,
            retry_backoff_ms=100,
        )
        try:
            await consumer.start()
            yield consumer
        except (KafkaError, OSError, TimeoutError) as error:
            refused = refusal(error, self._settings, "read", f"topic {self._topic!r}")
            raise (refused or await why_not_connected(self._settings)) from None
        finally:
            await consumer.stop()

    async def _assign(self, consumer: AIOKafkaConsumer) -> bool:
        """Take all partitions from the time asked for; return False while there is no such topic."""
        # Asking for one topic by name would make some brokers create it.
        if self._topic not in await consumer.topics():
            await check_visible(consumer._client, self._settings, self._topic)
            return False
        consumer.subscribe([self._topic])
        async with asyncio.timeout(_REQUEST_TIMEOUT_MS / 1000):
            while not (places := sorted(consumer.assignment())):
                await asyncio.sleep(_ASSIGNED_S)
        if self._since_us is None:
            await consumer.seek_to_beginning(*places)
            return True
        found = await consumer.offsets_for_times(dict.fromkeys(places, self._since_us // 1000))
        ends = await consumer.end_offsets(places)
        for place in places:
            offset = found.get(place)
            consumer.seek(place, ends[place] if offset is None else offset.offset)
        return True

    async def _until_end(self, consumer: AIOKafkaConsumer) -> list[ReceivedAlert]:
        places = list(consumer.assignment())
        ends = await consumer.end_offsets(places)
        found: list[ReceivedAlert] = []
        while any([await consumer.position(at) < end for at, end in ends.items()]):
            found += await self._poll(consumer)
        return sorted(found, key=lambda received: received.stored_ms)

    async def _live(self, consumer: AIOKafkaConsumer) -> AsyncIterator[ReceivedAlert]:
        loop = asyncio.get_running_loop()
        probe_at_s, away = loop.time() + _PROBE_S, False
        while True:
            for received in await self._poll(consumer):
                yield received
            if loop.time() >= probe_at_s:
                away = await self._probe(consumer, away)
                probe_at_s = loop.time() + _PROBE_S

    async def _probe(self, consumer: AIOKafkaConsumer, away: bool) -> bool:
        """Tell when Kafka goes or comes back: a consumer that waits looks the same in both cases."""
        try:
            async with asyncio.timeout(_PROBE_S):
                await consumer.end_offsets(list(consumer.assignment()))
        except (KafkaError, TimeoutError):
            if not away:
                self._tell(f"Kafka at {self._bootstrap} has gone away; waiting for it")
            return True
        if away:
            self._tell(f"Kafka at {self._bootstrap} is back")
        return False

    async def _poll(self, consumer: AIOKafkaConsumer) -> list[ReceivedAlert]:
        fetched = await consumer.getmany(timeout_ms=_POLL_MS)
        records = [record for partition in fetched.values() for record in partition]
        found = [received for record in records if (received := self._take(record)) is not None]
        return sorted(found, key=lambda received: received.stored_ms)

    def _take(self, record: Any) -> ReceivedAlert | None:
        if isinstance(record, UnreadableRecord):  # the log has it
            return None
        # Timestamps need not grow with the offsets: behind the first record in time older ones may come.
        if self._since_us is not None and record.timestamp < self._since_us // 1000:
            return None
        try:
            alert = orjson.loads(record.value or b"")
            shown = _Shown.model_validate(alert)
        except (orjson.JSONDecodeError, ValidationError) as error:
            wrong = first_wrong(error) if isinstance(error, ValidationError) else "no JSON"
            where = f"record {record.offset} of {self._topic}, partition {record.partition}"
            self._tell(f"{where}, is no alert ({wrong})")
            return None
        # One about many machines names few of them: whoever asks for some must not miss that they are silent.
        fits = shown.machine_id == MANY_MACHINES or fnmatchcase(shown.machine_id, self._machine)
        if shown.alert_id in self._seen or not fits:
            return None
        self._seen[shown.alert_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return ReceivedAlert(alert, record.value, record.timestamp)
