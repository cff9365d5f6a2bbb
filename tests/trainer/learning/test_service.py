"""The trainer's service: what is said on Kafka reaches the fleet, all of it, once, and before anything is decided."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from aiokafka import ConsumerRecord

from schemas import Alert, FrameRecord, Score
from schemas.errors import AccessRefused, ServiceUnavailable, SettingsError
from schemas.verdict import Verdict
from stream_app.pipeline.rule import Rule
from tests.conftest import LateKafka
from tests.helpers import KafkaUnderTest, eventually_async
from tests.trainer.learning.stories import MACHINE, NOW_US, alert, score, verdict
from trainer.learning import service as service_module
from trainer.learning.fleet import Fleet
from trainer.learning.service import SCORES_BACK_H, LearningService, alert_rule_of
from whirr.settings import Route, Settings
from whirr.topic_reader import follow_topic

Message = Score | Alert | Verdict
SAID = "1" * 32, "2" * 32, "3" * 32  # incidents
SETTINGS = Settings(scores_topic="scores", alerts_topic="alerts", verdicts_topic="verdicts")


class RecordingFleet:
    """Takes note of all that it is given, and of each decision.

    Attributes:
        got: In order.
        decided: How much it had been given at each decision.
        away: Answers of the registry: it can't be reached while there are any.
    """

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.decided: list[int] = []
        self.refreshed = 0
        self.away: list[str] = []
        self.untold: list[Alert] = []

    def refresh(self, now_us: int) -> None:
        self._ask()
        self.refreshed += 1
        assert not self.got, "a shadow's scores count only while the registry's word is known"

    def tick(self, now_us: int) -> list[Any]:
        assert now_us == NOW_US
        self._ask()
        self.decided.append(len(self.got))
        return []

    def _ask(self) -> None:
        if self.away:
            raise ServiceUnavailable(self.away.pop(0))

    def hear(self, one: Score) -> None:
        self.got.append(one)

    def alert(self, one: Alert) -> None:
        self.got.append(one)

    def say(self, one: Verdict) -> None:
        self.got.append(one)

    @property
    def names(self) -> list[str]:
        return [name_of(one) for one in self.got]


def name_of(one: Message) -> str:
    match one:
        case Score():
            return f"score {one.frame_id}"
        case Alert():
            return f"alert {one.incident_id} {one.state}"
        case _:
            return f"verdict {one.verdict_id}"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_BACKOFF_S", (0.02, 0.05))


@pytest.fixture
def fleet() -> RecordingFleet:
    return RecordingFleet()


def service_of(settings: Settings, fleet: RecordingFleet, tick_s: float = 0.02) -> LearningService:
    return LearningService(settings, cast("Fleet", fleet), lambda: NOW_US, tick_s, follow_s=0.01)


@asynccontextmanager
async def running(settings: Settings, fleet: RecordingFleet) -> AsyncIterator[LearningService]:
    """A service that runs; it is stopped at the end, and what ended it before that is raised."""
    service = service_of(settings, fleet)
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        service.stop()
        await asyncio.wait_for(task, 30)


class Topics:
    """Topics whose looks the test gives, one at a time; :meth:`give` nothing to let a look find nothing new."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._looks: dict[str, asyncio.Queue[Sequence[ConsumerRecord] | Exception]] = {}
        self._offset = 0
        self.since_us: dict[str, int | None] = {}
        monkeypatch.setattr(service_module, "follow_topic", self._follow)

    def give(self, topic: str, *values: Message | bytes | None, offset: int | None = None, stored_ms: int = 0) -> None:
        records = []
        for value in values:
            raw = value if value is None or isinstance(value, bytes) else orjson.dumps(value)
            at = self._offset if offset is None else offset
            records.append(ConsumerRecord(topic, 0, at, stored_ms, 0, b"k", raw, 0, 1, len(raw or b""), ()))
            self._offset += 1
        self._queue(topic).put_nowait(records)

    def fail(self, topic: str, error: Exception) -> None:
        self._queue(topic).put_nowait(error)

    def _queue(self, topic: str) -> asyncio.Queue[Sequence[ConsumerRecord] | Exception]:
        return self._looks.setdefault(topic, asyncio.Queue())

    async def _follow(
        self, settings: Settings, topic: str, every_s: float, *, since_us: int | None
    ) -> AsyncIterator[Sequence[ConsumerRecord]]:
        self.since_us[topic] = since_us
        while True:
            look = await self._queue(topic).get()
            if isinstance(look, Exception):
                raise look
            yield look


@pytest.fixture
async def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    return Topics(monkeypatch)


async def tell(kafka: KafkaUnderTest, *messages: Message) -> None:
    await send(kafka, kafka.settings(), *messages)


async def send(kafka: KafkaUnderTest, settings: Settings, *messages: Message) -> None:
    topics = {Score: settings.scores_topic, Alert: settings.alerts_topic, Verdict: settings.verdicts_topic}
    for kind, topic in topics.items():
        own = [one for one in messages if isinstance(one, kind)]
        await kafka.produce(topic, [FrameRecord(_key(one), orjson.dumps(one), (), 0) for one in own])


def _key(one: Message) -> bytes:
    return (one.incident_id if isinstance(one, Verdict) else one.machine_id).encode()


def scores(first: int, count: int) -> list[Score]:
    """Of several machines, so that they are in several partitions."""
    return [replace(score(first + i), machine_id=f"pump-{i % 7}") for i in range(count)]


# On a broker


async def test_everything_arrives_once_and_what_was_said_of_frames_before_their_scores(
    kafka: KafkaUnderTest, fleet: RecordingFleet
) -> None:
    await kafka.create_topics()
    early: list[Message] = [*scores(0, 30), alert("opened", 5), alert("closed", 6), verdict("false_alarm", 7)]
    await tell(kafka, *early)
    async with running(kafka.settings(), fleet):
        await eventually_async(lambda: fleet.decided, 30)
        assert fleet.decided[0] == len(early), "the first decision knows all that there is"
        assert [name.partition(" ")[0] for name in fleet.names] == ["verdict", "alert", "alert", *["score"] * 30]
        assert [one.state for one in fleet.got if isinstance(one, Alert)] == ["opened", "closed"]
        late: list[Message] = [
            *scores(30, 10),
            alert("opened", 40, incident=SAID[0]),
            verdict("seen", 41, incident=SAID[0]),
        ]
        await tell(kafka, *late)
        await eventually_async(lambda: len(fleet.got) >= len(early) + len(late), 30)
        looks = len(fleet.decided)
        await eventually_async(lambda: len(fleet.decided) > looks + 3, 30)  # and nothing comes again
    assert sorted(fleet.names) == sorted(map(name_of, early + late))
    assert fleet.refreshed == 1


@pytest.mark.parametrize("kind", ["scores", "alerts", "verdicts"])
async def test_what_was_taken_before_an_outage_does_not_come_again_and_what_came_during_it_does(
    kafka: KafkaUnderTest,
    fleet: RecordingFleet,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind,
) -> None:
    gone: set[str] = set()
    outages: list[str] = []

    async def breaks(settings: Settings, topic: str, every_s: float, **more: Any) -> AsyncIterator[list[Any]]:
        async with aclosing(follow_topic(settings, topic, every_s, **more)) as looks:  # type: ignore[type-var]
            async for records in looks:
                if topic in gone:
                    outages.append(topic)
                    raise ServiceUnavailable(f"Kafka went away while {topic!r} was read")
                yield records

    monkeypatch.setattr(service_module, "follow_topic", breaks)
    settings = kafka.settings()
    topic = {"scores": settings.scores_topic, "alerts": settings.alerts_topic, "verdicts": settings.verdicts_topic}
    await kafka.create_topics()
    before: list[Message] = [*scores(0, 8), alert("opened", 5), verdict("seen", 6)]
    during: list[Message] = [*scores(8, 8), alert("closed", 7), verdict("false_alarm", 8)]
    await tell(kafka, *before)
    async with running(settings, fleet):
        await eventually_async(lambda: len(fleet.got) == len(before), 30)
        gone.add(topic[kind])
        await eventually_async(lambda: len(outages) > 2, 30)
        await tell(kafka, *during)
        gone.clear()
        await eventually_async(lambda: len(fleet.got) >= len(before) + len(during), 30)
        looks = len(fleet.decided)
        await eventually_async(lambda: len(fleet.decided) > looks + 3, 30)
    assert sorted(fleet.names) == sorted(map(name_of, before + during))
    assert caplog.text.count("trying again") == 1  # an outage is said once


async def test_topics_that_nobody_has_written_to_yet_hold_nothing_up(
    kafka: KafkaUnderTest, fleet: RecordingFleet
) -> None:
    settings = kafka.settings()
    await kafka.create_topics(settings.scores_topic)
    heard = scores(0, 3)
    said: list[Message] = [alert("opened", 5), verdict("seen", 6)]
    await tell(kafka, *heard)
    async with running(settings, fleet):
        await eventually_async(lambda: fleet.decided, 30)
        assert sorted(fleet.names) == sorted(map(name_of, heard))
        await kafka.create_topics(settings.alerts_topic, settings.verdicts_topic)
        await tell(kafka, *said)
        await eventually_async(lambda: len(fleet.got) == 5, 30)
    assert sorted(fleet.names) == sorted(map(name_of, [*heard, *said]))


async def test_a_broker_that_comes_late_goes_and_comes_back_with_nothing_in_it(
    tmp_path: Path, fleet: RecordingFleet
) -> None:
    """What the embedded broker, which keeps nothing, is told from then on is heard, though its offsets begin anew."""
    late_kafka = LateKafka("embedded", tmp_path)
    settings = Settings(kafka_bootstrap_servers=late_kafka.bootstrap)
    first: list[Message] = [*scores(0, 12), alert("opened", 5), alert("closed", 6)]
    second: list[Message] = [*scores(12, 3), alert("opened", 20, incident=SAID[1])]
    async with running(settings, fleet):
        for messages in (first, second):
            with late_kafka.started() as kafka:
                await kafka.create_topics(settings.scores_topic, settings.alerts_topic, partitions=1)
                await send(kafka, settings, *messages)
                wanted = set(map(name_of, messages))
                await eventually_async(partial(_has_all, fleet, wanted), 60, "all that was sent is heard")
    assert sorted(fleet.names) == sorted(map(name_of, [*first, *second]))


def _has_all(fleet: RecordingFleet, names: set[str]) -> bool:
    return names <= set(fleet.names)


# Without one


async def test_nothing_is_decided_before_all_topics_were_read_once(topics: Topics, fleet: RecordingFleet) -> None:
    settings = SETTINGS
    asked = []
    async with running(settings, fleet) as service:
        wait, service._stopping.wait = service._stopping.wait, lambda: asked.append(1) or wait()  # type: ignore[method-assign,func-returns-value]
        topics.give(settings.scores_topic, score(1))
        topics.give(settings.alerts_topic)
        await eventually_async(lambda: len(asked) > 5)
        assert (fleet.decided, fleet.refreshed) == ([], 0)
        topics.give(settings.verdicts_topic, verdict("seen", 6))
        await eventually_async(lambda: fleet.decided)
    assert fleet.decided[0] == 2
    back_us = NOW_US - SCORES_BACK_H * 3_600_000_000
    assert topics.since_us == {"scores": back_us, "alerts": None, "verdicts": None}


async def test_a_registry_that_is_away_is_said_once_and_asked_again(
    topics: Topics, fleet: RecordingFleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = SETTINGS
    fleet.away = ["MLflow at nowhere can't be reached"] * 4
    topics.give(settings.scores_topic, score(1))
    topics.give(settings.alerts_topic)
    topics.give(settings.verdicts_topic)
    async with running(settings, fleet):
        await eventually_async(lambda: fleet.decided)
        assert caplog.text.count("nothing is decided until it answers") == 1
        assert caplog.text.count("answer again") == 1
        decided, fleet.away = len(fleet.decided), ["MLflow is away", "MLflow is away", "and the archive, too"]
        topics.give(settings.scores_topic, score(2))
        await eventually_async(lambda: len(fleet.decided) > decided + 2)
    assert sorted(fleet.names) == sorted(map(name_of, [score(1), score(2)]))  # of what came meanwhile nothing is lost
    assert caplog.text.count("MLflow is away; nothing is decided") == 1
    assert caplog.text.count("and the archive, too; nothing is decided") == 1


@pytest.mark.parametrize("when", ["before it runs", "while it waits to decide", "before anything could be read"])
async def test_it_stops_at_once(topics: Topics, fleet: RecordingFleet, when: str) -> None:
    settings = SETTINGS
    service = service_of(settings, fleet, tick_s=3600.0)
    if when != "before anything could be read":
        for topic in (settings.scores_topic, settings.alerts_topic, settings.verdicts_topic):
            topics.give(topic)
    if when == "before it runs":
        service.stop()
    task = asyncio.create_task(service.run())
    if when != "before it runs":
        await eventually_async(lambda: len(topics.since_us) == 3)
    service.stop()
    await asyncio.wait_for(task, 5)
    assert not fleet.decided


async def test_records_that_are_nothing_known_are_named_and_left(
    topics: Topics, fleet: RecordingFleet, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS
    worded = orjson.dumps(verdict("seen", 6)).replace(b'"seen"', b'"maybe"')
    topics.give(settings.scores_topic, b"no JSON", score(1), None)
    topics.give(settings.alerts_topic, orjson.dumps({"alert_id": "x"}), alert("opened", 5))
    topics.give(settings.verdicts_topic, worded, verdict("seen", 6), b"\xff")
    async with running(settings, fleet):
        await eventually_async(lambda: len(fleet.got) == 3)
    for told in (
        "record 0 of scores is nothing that this version knows",
        "record 2 of scores is nothing that this version knows",
        "record 3 of alerts is nothing that this version knows",
        "record 5 of verdicts",
        "record 7 of verdicts",
    ):
        assert told in caplog.text
    assert len(caplog.records) == 5


async def test_a_topic_that_goes_back_while_it_is_followed_is_heard(topics: Topics, fleet: RecordingFleet) -> None:
    """As a consumer sees a topic that was made anew: it begins at the first offset."""
    settings = SETTINGS
    async with running(settings, fleet):
        topics.give(settings.scores_topic, score(1), offset=7)
        topics.give(settings.scores_topic, score(2), offset=0)
        topics.give(settings.scores_topic, score(3), offset=1)
        topics.give(settings.alerts_topic)
        topics.give(settings.verdicts_topic)
        await eventually_async(lambda: len(fleet.got) == 3)
    assert fleet.names == [name_of(score(at)) for at in (1, 2, 3)]


async def test_a_topic_made_anew_that_is_as_long_as_before_is_heard(topics: Topics, fleet: RecordingFleet) -> None:
    settings = SETTINGS
    async with running(settings, fleet):
        topics.give(settings.scores_topic, score(1), offset=0, stored_ms=1000)
        topics.fail(settings.scores_topic, ServiceUnavailable("gone"))
        topics.give(settings.scores_topic, score(1), offset=0, stored_ms=1000)
        topics.fail(settings.scores_topic, ServiceUnavailable("gone"))
        topics.give(settings.scores_topic, score(2), offset=0, stored_ms=2000)
        topics.give(settings.alerts_topic)
        topics.give(settings.verdicts_topic)
        await eventually_async(lambda: len(fleet.got) == 2)
    assert fleet.names == [name_of(score(1)), name_of(score(2))]


async def test_a_topic_that_ends_before_what_was_taken_is_read_from_its_beginning(
    topics: Topics, fleet: RecordingFleet, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS
    async with running(settings, fleet):
        topics.give(settings.scores_topic, score(1), offset=7)
        topics.fail(settings.scores_topic, ServiceUnavailable("gone"))
        topics.give(settings.scores_topic, score(1), offset=7)
        topics.fail(settings.scores_topic, ServiceUnavailable("gone"))
        topics.give(settings.scores_topic)  # all of it was deleted, as its age has it
        topics.fail(settings.scores_topic, ServiceUnavailable("gone"))
        topics.give(settings.scores_topic, score(2), offset=0)
        topics.give(settings.scores_topic, score(3), offset=1)
        topics.give(settings.alerts_topic)
        topics.give(settings.verdicts_topic)
        await eventually_async(lambda: len(fleet.got) == 3)
    assert fleet.names == [name_of(score(at)) for at in (1, 2, 3)]
    assert caplog.text.count("partition 0 of scores has lost records") == 1


@pytest.mark.parametrize("kinds", [1, 2])
async def test_a_user_who_may_not_read_is_told_so(topics: Topics, fleet: RecordingFleet, kinds: int) -> None:
    settings = SETTINGS
    for topic in (settings.scores_topic, settings.alerts_topic)[:kinds]:
        topics.fail(topic, AccessRefused(f"may not read {topic}"))
    with pytest.raises(AccessRefused, match=r"may not read (scores|alerts)"):
        await asyncio.wait_for(service_of(settings, fleet, tick_s=3600.0).run(), 5)


async def test_a_topic_is_looked_for_until_it_is_there(topics: Topics, fleet: RecordingFleet) -> None:
    settings = SETTINGS
    topics.give(settings.scores_topic)
    topics.give(settings.alerts_topic)
    for _ in range(3):
        topics.fail(settings.verdicts_topic, SettingsError("no topic"))
    topics.give(settings.verdicts_topic, verdict("seen", 6))
    async with running(settings, fleet):
        await eventually_async(lambda: fleet.got)
    assert fleet.names == [name_of(verdict("seen", 6))]


def test_only_machines_whose_route_gives_them_a_model_of_their_own_have_a_rule() -> None:
    routes = (
        Route(match="fan-*", model="fan.onnx"),
        Route(match="pump-*", model="models:/whirr.{machine}@champion", k=2, n=4, m=6),
    )
    found: Callable[[str], Rule | None] = alert_rule_of(Settings(route=routes))
    rule = found(MACHINE)
    assert rule is not None
    assert (rule.k, rule.n, rule.m) == (2, 4, 6)
    assert found("fan-1") is None
    assert found("motor-1") is None
