"""Maintenance windows in a worker: what its processor sends, counts and leaves unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from stream_app.pipeline import Engine, Model, Router
from tests.models import SECOND_US, START_US, course, tiny_model
from tests.stream_app.worker.fakes import Bench
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
