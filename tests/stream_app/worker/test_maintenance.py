"""Maintenance windows in a worker: what its processor sends, counts and leaves unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import Alert, Score
from stream_app.pipeline import Engine, Model, Router, backtest
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import SECOND_US, START_US, course, plant, sent_now, tiny_model
from tests.stream_app.worker.fakes import Bench
from tests.stream_app.worker.worker_process import WorkerProcess
from whirr.maintenance import Maintenance, MaintenanceWindow
from whirr.settings import Route

LOUD = 10.0
WINDOW = MaintenanceWindow(match="pump-*", start="2026-01-01T00:00:00Z", duration="2m", rule="FREQ=DAILY")


def bench_of(tmp_path: Path, **route: Any) -> Bench:
    model = Model.load(tiny_model(tmp_path / "tiny.onnx"))
    bench = Bench(engine=Engine(Router.from_routes([Route(model="m", **route)], {"m": model}), Maintenance([WINDOW])))
    bench.now_us = START_US
    return bench


def sent(bench: Bench, topic: str) -> list[dict[str, Any]]:
    return [orjson.loads(message.value or b"") for message in bench.sender.to(topic)]


async def test_frames_of_a_window_are_reported_counted_and_alert_nobody(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    await bench.finish([*course([1, LOUD, LOUD, LOUD, LOUD]), *course([LOUD] * 3, "fan-1")])
    assert [score["idle_reason"] for score in sent(bench, "scores")] == ["maintenance"] * 5 + [None] * 3
    assert [alert["machine_id"] for alert in sent(bench, "alerts")] == ["fan-1"]
    text = bench.metrics.text().decode()
    assert "whirr_suppressed_frames_total 4.0" in text
    assert 'whirr_frames_total{outcome="idle"} 5.0' in text


async def test_the_timer_tells_no_silence_in_a_window_and_tells_it_when_the_machine_had_its_time(
    tmp_path: Path,
) -> None:
    bench = bench_of(tmp_path, silent_after_s=60)
    await bench.finish([*course([1]), *course([1], "fan-1")])
    told = []
    for at_s in range(0, 300, 5):
        bench.now_us = START_US + at_s * SECOND_US
        await bench.processor.check_silence({0: START_US}, 60.0)
        told += [(alert["machine_id"], at_s) for alert in sent(bench, "alerts")]
        bench.sender.sent.clear()
    (fan, fan_s), (pump, pump_s) = told
    assert (fan, pump) == ("fan-1", "pump-1")
    assert 60 <= fan_s <= 75
    assert 180 <= pump_s <= 195, "a minute after the window's end"


@pytest.mark.slow
async def test_a_worker_answers_as_a_backtest_with_the_same_windows(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    windows = (
        MaintenanceWindow(match="pump-1", start="2026-01-01T01:00:06", timezone="Europe/Berlin", duration="5s"),
        MaintenanceWindow(match="pump-[35]", start="2025-12-01T00:00:00Z", duration="40s", rule="FREQ=DAILY"),
    )
    frames = plant()
    settings = kafka.settings(route=(route,), maintenance=windows)
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames))
        done = ("scored", "idle")
        await eventually_async(
            lambda: sum(worker.metric("whirr_frames_total", outcome=one) for one in done) == len(frames), 60
        )
        suppressed = worker.metric("whirr_suppressed_frames_total")
        assert worker.stop() == 0, worker.log
    expected = list(backtest(frames, {route.model: Model.load(route.model)}, [route], maintenance=windows))
    alerts = [orjson.loads(record.value) for record in await kafka.drain(settings.alerts_topic)]
    assert {(one["alert_id"], one["state"]) for one in alerts} == {
        (one.alert_id, one.state) for one in expected if isinstance(one, Alert)
    }
    assert {one["machine_id"] for one in alerts} == {"pump-1"}, "others had faults in their windows alone"
    scores = [orjson.loads(record.value) for record in await kafka.drain(settings.scores_topic)]
    reasons = {one["frame_id"]: one["idle_reason"] for one in scores}
    assert reasons == {one.frame_id: one.idle_reason for one in expected if isinstance(one, Score)}
    above = [one for one in scores if one["idle_reason"] and one["score"] > one["threshold"]]
    assert suppressed == len(above) > 20
    assert "not counted: maintenance from 2026-01-01T00:00:06.000000Z to 2026-01-01T00:00:11.000000Z" in worker.log
