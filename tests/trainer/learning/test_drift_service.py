"""A drift that the service finds is told on Kafka, once; people answer it by its id, and what is learnt follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from pydantic import TypeAdapter

from schemas import ALERT_TYPE, Alert, Band, FrameRecord
from schemas.errors import ServiceUnavailable
from stream_app.pipeline.rule import Rule
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import tiny_metadata
from tests.trainer.learning.stories import HOUR_US, MACHINE, NOW_US, score, time
from tests.trainer.learning.test_fleet import Executor, Kept, Registry
from trainer.learning import service as service_module
from trainer.learning.drift import Drift
from trainer.learning.fleet import Fleet
from trainer.learning.learner import LearntVersion, MachineModels
from trainer.learning.learning_rule import LearningRule
from trainer.learning.service import LearningService
from trainer.learning.spans import Span
from whirr.kafka_clients import commands_producer
from whirr.settings import Settings
from whirr.verdicts import Word, give, incidents, newest

DAY_H = 24
NOW_H, SINCE_H, LEARNT_H = 20 * DAY_H, 15 * DAY_H, 10 * DAY_H
MOVED = Drift("rms_mean", NOW_US + SINCE_H * HOUR_US, 4.0, 0.5, 1e-6)
BAND = Band(from_hz=900.0, to_hz=1200.0, share=0.7)
ALERT = TypeAdapter(Alert)


class Plant:
    """A machine whose registry and features survive its service; the clock is the test's."""

    def __init__(self, kafka: KafkaUnderTest) -> None:
        self.kafka, self.settings = kafka, kafka.settings()
        self.registry, self.kept = Registry(), Kept()
        learnt = Span(NOW_US, NOW_US + LEARNT_H * HOUR_US)
        champion = LearntVersion(number=1, metadata=tiny_metadata(version="1"), from_us=learnt.from_us, baseline=learnt)
        # A drift is being learnt already: what is told does not wait for that.
        self.registry.models[MACHINE] = MachineModels(champion=champion, anchor=champion)
        self.kept.drifted, self.kept.bands = [MOVED], (BAND,)
        self.now_us = NOW_US + NOW_H * HOUR_US
        self.executor = Executor()

    async def hear(self) -> None:
        await self.kafka.create_topics(self.settings.scores_topic, self.settings.alerts_topic)
        heard = [score(hours) for hours in range(SINCE_H, NOW_H)]
        records = [FrameRecord(MACHINE.encode(), orjson.dumps(one), (), self.now_us // 1000) for one in heard]
        await self.kafka.produce(self.settings.scores_topic, records)

    @asynccontextmanager
    async def running(self, settings: Settings | None = None) -> AsyncIterator[Fleet]:
        self.executor = Executor()
        rule = LearningRule(learn_h=24, learn_frames=40)
        fleet = Fleet(rule, self.registry, self.executor, self.kept, {MACHINE: Rule()}.get)
        service = LearningService(settings or self.settings, fleet, lambda: self.now_us, 0.05)
        task = asyncio.create_task(service.run())
        try:
            yield fleet
        finally:
            service.stop()
            await asyncio.wait_for(task, 30)

    async def told(self) -> list[Alert]:
        return [ALERT.validate_json(one.value or b"") for one in await self.kafka.drain(self.settings.alerts_topic)]


@pytest.fixture
async def plant(kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch) -> Plant:
    monkeypatch.setattr(service_module, "FOLLOW_S", 0.02)
    made = Plant(kafka)
    await made.hear()
    return made


async def test_a_drift_is_told_once_and_an_answer_by_its_id_changes_what_is_learnt(plant: Plant) -> None:
    async with plant.running() as fleet:
        await eventually_async(lambda: heard_of_it(fleet), 30)
        (job,) = plant.executor.jobs
        assert (job.cause, job.left_out) == ("drift", ())
    for _ in range(2):  # it commits nothing, and tells nothing again
        async with plant.running():
            await eventually_async(lambda: plant.executor.jobs, 30)
    records = await plant.kafka.drain(plant.settings.alerts_topic)
    (told,) = await plant.told()
    assert (told.kind, told.state, told.drift[0].name, told.bands) == ("drift", "changed", "rms_mean", (BAND,))
    assert plant.kept.compared[0] == (NOW_US, MOVED.since_us)
    (record,) = records
    assert record.key == MACHINE.encode()
    assert dict(record.headers)["ce_type"] == ALERT_TYPE.encode()
    assert dict(record.headers)["ce_id"] == told.alert_id.encode()

    known = (await incidents(plant.settings))[told.incident_id]
    assert (known.kind, known.began_at, known.ended_at) == ("drift", time(SINCE_H), None)
    said = await give(plant.settings, told.incident_id[:8], Word(verdict="new_normal", by="ana"), now_us=plant.now_us)
    assert (said.kind, said.since) == ("drift", time(SINCE_H))
    async with plant.running() as fleet:
        await eventually_async(lambda: MACHINE in fleet.running, 30)
        (job,) = plant.executor.jobs
        assert (job.cause, job.span) == ("new_normal", Span(MOVED.since_us, plant.now_us))
        over = "settled", "new_normal", told.incident_id
        await eventually_async(lambda: plant_has(plant, over), 30)
    async with plant.running() as fleet:
        await eventually_async(lambda: MACHINE in fleet.running, 30)
    assert [one.state for one in await plant.told()] == ["changed", "settled"]
    ended = (await incidents(plant.settings))[told.incident_id].ended_at
    assert ended == time(NOW_H - 1)  # when the machine was last heard


async def test_one_that_was_confirmed_is_not_learnt_from_its_beginning_on(plant: Plant) -> None:
    async with plant.running() as fleet:
        await eventually_async(lambda: heard_of_it(fleet), 30)
    (told,) = await plant.told()
    await give(plant.settings, told.incident_id, Word(verdict="confirmed", by="ana", fault="belt"), now_us=plant.now_us)
    assert (await newest(plant.settings))[told.incident_id].fault == "belt"
    async with plant.running() as fleet:
        await eventually_async(lambda: heard_of_it(fleet), 30)
        learner = fleet.learners[MACHINE]
        await eventually_async(lambda: learner.incidents.unlearnable(0), 30)
        assert learner.incidents.unlearnable(0) == [(Span(MOVED.since_us, None), "fault")]
    assert plant.executor.jobs == []  # most of what came since may not be learnt
    assert [one.state for one in await plant.told()] == ["changed"]


async def test_what_kafka_does_not_take_is_told_later_and_said_once(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def away(*args: object) -> object:
        tries.append(1)
        if len(tries) < 4:
            raise ServiceUnavailable("Kafka at nowhere can't be reached")
        return commands_producer(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(service_module, "commands_producer", away)
    async with plant.running() as fleet:
        await eventually_async(lambda: heard_of_it(fleet), 30)
    assert len(tries) == 4
    assert len(await plant.told()) == 1
    assert caplog.text.count("drifts can't be told: Kafka at nowhere can't be reached") == 1


def heard_of_it(fleet: Fleet) -> bool:
    learner = fleet.learners.get(MACHINE)
    return learner is not None and any(one.kind == "drift" for one in learner.incidents)


async def plant_has(plant: Plant, wanted: tuple[str, str, str]) -> bool:
    return wanted in [(one.state, one.reason, one.incident_id) for one in await plant.told()]
