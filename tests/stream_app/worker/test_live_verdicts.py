"""Verdicts in a running worker, on a real broker: what it answers is what a backtest with the same verdicts answers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from schemas import FrameRecord, Verdict
from stream_app.pipeline import Model, backtest
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import SECOND_US, START_US, plant, sent_now, tiny_model
from tests.stream_app.worker.test_worker import alert_set
from tests.stream_app.worker.worker_process import WorkerProcess
from tests.verdicts import said
from whirr.settings import Route

LEVELS = [1.0] * 4 + [10.0] * 116
PARTS = (0, 20, 60, 120)  # seconds; a verdict of second 20 counts from second 50 on, and what is said later from then


@pytest.fixture
def route(tmp_path: Path) -> Route:
    return Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")), remind_after_h=0.01)


async def publish(kafka: KafkaUnderTest, *verdicts: Verdict) -> None:
    topic = kafka.settings().verdicts_topic
    await kafka.produce(topic, [FrameRecord(one.incident_id.encode(), orjson.dumps(one), ()) for one in verdicts])


async def test_live_equals_the_backtest_with_verdicts_in_the_middle(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route
) -> None:
    """One is a false alarm and is then withdrawn, one was repaired; the worker is replaced between."""
    settings = kafka.settings(route=(route,))
    frames = plant(6, LEVELS)
    parts = [[f for f in frames if begin <= _second(f) < end] for begin, end in pairwise(PARTS)]
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        assert worker.readiness()["verdicts"] in {"following", "no topic"}
        await kafka.produce(settings.frames_topic, sent_now(parts[0]))
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == len(parts[0]), 60)
        opened = {a["machine_id"]: a["incident_id"] for a in map(_alert, await kafka.drain(settings.alerts_topic))}
        assert set(opened) == {"pump-1", "pump-3", "pump-5"}
        await kafka.create_topics(settings.verdicts_topic, partitions=1)
        early = {
            machine: said(opened[machine], (word, _us(20), *since), machine_id=machine, source="mic")
            for machine, word, since in (("pump-1", "false_alarm", ()), ("pump-3", "repaired", (_us(15),)))
        }
        await publish(kafka, *early.values())
        await eventually_async(lambda: worker.metric("whirr_verdicts") == 2, 30)
        await eventually_async(lambda: worker.readiness()["verdicts"] == "following", 30)
        await kafka.produce(settings.frames_topic, sent_now(parts[1]))
        both = len(parts[0]) + len(parts[1])
        await kafka.consume(settings.scores_topic, both, 60)
        assert worker.stop() == 0, worker.log
    late = said(opened["pump-1"], ("false_alarm", _us(20)), ("withdrawn", _us(60)), machine_id="pump-1", source="mic")
    await publish(kafka, late)
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        assert worker.metric("whirr_verdicts") == 2
        await kafka.produce(settings.frames_topic, sent_now(parts[2]))
        await kafka.consume(settings.scores_topic, len(frames), 60)
        assert worker.stop() == 0, worker.log
    answers = backtest(frames, {route.model: Model.load(route.model)}, [route], verdicts=[late, early["pump-3"]])
    expected = [answer for answer in answers if hasattr(answer, "alert_id")]
    alerts = await kafka.drain(settings.alerts_topic)
    assert alert_set(alerts) == {(one.alert_id, one.state) for one in expected}
    told = {machine: [(a["state"], a["reason"]) for a in map(_alert, alerts) if a["machine_id"] == machine]
            for machine in opened}  # fmt: skip
    # A reminder comes after 36 s with the incident open; the machine that is learnt anew is idle from second 50 on.
    assert told["pump-1"] == [("opened", None), ("reminded", None), ("closed", "false_alarm"), ("opened", None)]
    assert told["pump-3"] == [("opened", None), ("reminded", None), ("closed", "repaired")]
    assert told["pump-5"] == [("opened", None), ("reminded", None), ("reminded", None), ("reminded", None)]


def _second(frame: FrameRecord) -> int:
    return frame.offset


def _us(second: float) -> int:
    return START_US + round(second * SECOND_US)


def _alert(record) -> dict:
    return json.loads(record.value)
