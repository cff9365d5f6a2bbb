"""The trainer as a service: follows what workers and people say on Kafka, and lets the fleet decide now and then.

It commits nothing: each start reads what the topics hold, and the registry tells what came of it. What comes again
after an outage is known by its offset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple, TypeVar

import orjson
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic import TypeAdapter, ValidationError

from schemas import ALERT_TYPE, Alert, Score
from schemas.errors import AccessRefused, ServiceUnavailable, SettingsError, WhirrError
from schemas.model_uri import ModelTemplate
from stream_app.pipeline.rule import Rule
from trainer.learning.fleet import Fleet, Trained
from trainer.learning.learner import Decision, Job
from trainer.learning.learning_rule import HOUR_US
from whirr.kafka_clients import commands_producer, refusal
from whirr.retries import Backoff
from whirr.settings import Settings
from whirr.topic_reader import follow_topic
from whirr.verdicts import read_verdict

log = logging.getLogger(__name__)

NAME: Final = "whirr-learn"  # as the broker's log, and alerts, show it
TICK_S: Final = 15.0
FOLLOW_S: Final = 2.0
SCORES_BACK_H: Final = 14 * 24  # days that a drift is looked for in, and more than a challenger's time in shadow
_BACKOFF_S: Final = (0.5, 15.0)
Message = TypeVar("Message")
_SCORE: Final = TypeAdapter(Score)
_ALERT: Final = TypeAdapter(Alert)


def alert_rule_of(settings: Settings) -> Callable[[str], Rule | None]:
    """Return what says by which rule a machine alerts; None of one whose route names no model of its own."""

    def found(machine_id: str) -> Rule | None:
        route = next((one for one in settings.route if one.matches(machine_id)), None)
        if route is None or ModelTemplate.parse(route.model) is None:
            return None
        return Rule(route.k, route.n, route.m, route.hysteresis, route.critical_ratio)

    return found


class _Place(NamedTuple):
    """Where a record is, and its timestamp in milliseconds: in a topic made anew, another one is at its offset."""

    offset: int
    timestamp: int


class LearningService:
    """Feeds a fleet, and lets it decide.

    Args:
        settings: Where Kafka and its topics are.
        fleet: Decides.
        now_us: Wall clock, microseconds since the epoch.
        tick_s: Seconds between two decisions.
        follow_s: Seconds between two looks at the topics.
    """

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        tick_s: float = TICK_S,
        follow_s: float = FOLLOW_S,
    ) -> None:
        self._settings, self._fleet, self._now_us = settings, fleet, now_us
        self._tick_s, self._follow_s = tick_s, follow_s
        self._inbox: dict[str, list[Callable[[], None]]] = {}
        self._last: dict[tuple[str, int], _Place] = {}
        self._read: dict[str, asyncio.Event] = {}
        self._stopping = asyncio.Event()
        self._away = ""
        self._untold = ""
        self._began = False

    def stop(self) -> None:
        """End :meth:`run` soon: what runs is left, and found again by the next start."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            AccessRefused: Kafka refuses this user.
        """
        settings, since_us = self._settings, self._now_us() - SCORES_BACK_H * HOUR_US
        takers = {
            settings.verdicts_topic: (self._take_verdict, None),
            settings.alerts_topic: (self._take_alert, None),
            settings.scores_topic: (self._take_score, since_us),
        }
        self._read = {topic: asyncio.Event() for topic in takers}
        # What was said of frames counts when their scores are heard, so scores come last.
        self._inbox = {topic: [] for topic in takers}
        try:
            async with asyncio.TaskGroup() as tasks:
                following = [
                    tasks.create_task(self._follow(topic, take, from_us)) for topic, (take, from_us) in takers.items()
                ]
                await self._decide_until_stopped()
                for one in following:
                    one.cancel()
        except* AccessRefused as refused:
            raise _first(refused) from None

    async def _decide_until_stopped(self) -> None:
        while not self._stopping.is_set():
            # A decision on half of what was said could be another.
            if all(event.is_set() for event in self._read.values()):
                await self.decide()
            try:
                async with asyncio.timeout(self._tick_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def decide(self) -> None:
        """Take what came, and let the fleet do what is to be done now."""
        try:
            if not self._began:
                await asyncio.to_thread(self._fleet.refresh, self._now_us())
                self._began = True
            inbox, self._inbox = self._inbox, {topic: [] for topic in self._inbox}
            for takes in inbox.values():
                for take in takes:
                    take()
            done = await asyncio.to_thread(self._fleet.tick, self._now_us())
            untold = self._fleet.untold
        except ServiceUnavailable as error:
            if str(error) != self._away:
                log.warning("%s; nothing is decided until it answers", error)
            self._away = str(error)
            return
        if self._away:
            log.info("the registry and the archive answer again")
        self._away = ""
        for one in done:
            log.log(*_in_words(one))
        await self._tell(untold)

    async def _tell(self, alerts: Sequence[Alert]) -> None:
        """Publish alerts; what Kafka does not take is told again by the next decision."""
        if not alerts:
            return
        topic = self._settings.alerts_topic
        try:
            async with commands_producer(self._settings, NAME) as producer:
                for alert in alerts:
                    key, headers = alert.machine_id.encode(), _headers(alert)
                    await producer.send_and_wait(topic, orjson.dumps(alert), key=key, headers=headers)
                    self._fleet.alert(alert)
                    log.info("%s", _of_drift(alert))
        except (KafkaError, OSError, TimeoutError, WhirrError) as error:
            refused = refusal(error, self._settings, "write", f"topic {topic!r}")
            shown = str(refused or error) or type(error).__name__
            if shown != self._untold:
                log.warning("drifts can't be told: %s; trying again", shown)
            self._untold = shown
        else:
            self._untold = ""

    async def _follow(self, topic: str, take: Callable[[ConsumerRecord], None], since_us: int | None) -> None:
        backoff = Backoff(*_BACKOFF_S)
        while True:
            try:
                looks = follow_topic(self._settings, topic, self._follow_s, since_us=since_us)
                again = True
                async with aclosing(looks):  # type: ignore[type-var]
                    async for records in looks:
                        self._look_for_loss(topic, records, again)
                        again = False
                        for record in records:
                            self._once(topic, record, take)
                        self._read[topic].set()
                        backoff.succeeded()
            except SettingsError:  # nobody has written to it yet
                self._read[topic].set()
                wait_s = _BACKOFF_S[1]
            except ServiceUnavailable as error:
                if not backoff.failures:
                    log.warning("%s; trying again", error)
                wait_s = backoff.failed()
            await asyncio.sleep(wait_s)

    def _once(self, topic: str, record: ConsumerRecord, take: Callable[[ConsumerRecord], None]) -> None:
        """Take a record unless it was taken before: after an outage a topic is read from its beginning."""
        last = self._last.get((topic, record.partition))
        if last is None or record.offset > last.offset:
            self._last[topic, record.partition] = _Place(record.offset, record.timestamp)
            take(record)

    def _look_for_loss(self, topic: str, records: Sequence[ConsumerRecord], again: bool) -> None:
        """Count offsets anew where a topic was made anew, or has lost its end: what was taken of it is not there.

        Args:
            topic: Which.
            records: Of one look.
            again: Whether the look begins where the topic does, rather than after the one before.
        """
        by_partition: dict[int, list[_Place]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(_Place(record.offset, record.timestamp))
        for partition, own in by_partition.items():
            last = self._last.get((topic, partition))
            if last is None:
                continue
            shorter = max(own).offset < last.offset if again else min(own).offset <= last.offset
            if shorter or any(one.offset == last.offset and one.timestamp != last.timestamp for one in own):
                log.warning("partition %d of %s has lost records; it is read from its beginning", partition, topic)
                del self._last[topic, partition]

    def _take_score(self, record: ConsumerRecord) -> None:
        score = _parsed(_SCORE, record)
        if score is not None:
            self._inbox[record.topic].append(lambda: self._fleet.hear(score))

    def _take_alert(self, record: ConsumerRecord) -> None:
        alert = _parsed(_ALERT, record)
        if alert is not None:
            self._inbox[record.topic].append(lambda: self._fleet.alert(alert))

    def _take_verdict(self, record: ConsumerRecord) -> None:
        verdict = read_verdict(record)
        if verdict is not None:
            self._inbox[record.topic].append(lambda: self._fleet.say(verdict))


def _parsed(adapter: TypeAdapter[Message], record: ConsumerRecord) -> Message | None:
    try:
        return adapter.validate_json(record.value or b"")
    except ValidationError:
        log.warning("record %d of %s is nothing that this version knows", record.offset, record.topic)
        return None


def _headers(alert: Alert) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", alert.alert_id.encode()),
        ("ce_type", ALERT_TYPE.encode()),
        ("ce_source", NAME.encode()),
        ("ce_time", alert.recorded_at.encode()),
        ("content-type", b"application/json"),
    ]


def _of_drift(alert: Alert) -> str:
    names = ", ".join(f"{one.name} by {one.deviations:+.1f} deviations since {one.since[:10]}" for one in alert.drift)
    over = f" ({alert.reason or 'gone'})" if alert.state == "settled" else ""
    return f"{alert.machine_id}: drift {alert.state}{over}: {names}; incident {alert.incident_id[:12]}"


def _first(group: BaseExceptionGroup[AccessRefused]) -> AccessRefused:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


def _in_words(one: Decision | Job | Trained) -> tuple[int, str]:
    """Return a log level and a sentence."""
    match one:
        case Decision():
            return logging.INFO, f"{one.machine_id}: {one.what} version {one.version}: {one.why}"
        case Job():
            return logging.INFO, f"{one.machine_id}: learns ({one.cause}): {one.why}"
        case Trained(version=None):
            return logging.WARNING, f"{one.job.machine_id}: could not learn ({one.job.cause}): {one.why}"
        case _:
            return logging.INFO, f"{one.job.machine_id}: has learnt version {one.version} ({one.job.cause}) {one.why}"
