"""What a model says of the recordings that it was learnt from, and what an alert says of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson

from schemas import Alert
from stream_app.pipeline import Model, backtest
from tests.helpers import validate_message
from tests.models import course, tiny_metadata, tiny_model
from trainer.baselines import baselines
from trainer.recording_set import NOT_LOOKED, Recording, RecordingSet
from trainer.trimming import Stray
from whirr.settings import Route

NOW_US = 1_769_860_800_000_000  # 2026-01-31T12:00:00Z


def _recording(name: str, machine: str | None, start_s: int | None) -> Recording:
    start = NOT_LOOKED if start_s is None else NOW_US + start_s * 1_000_000
    return Recording(path=Path(name), name=name, machine=machine, rate_hz=100, channels=1, samples=6000, start=start)


def _found(*recordings: Recording) -> RecordingSet:
    return RecordingSet(Path(), recordings, ())


def test_a_baseline_tells_its_time_its_hours_and_what_was_left_out() -> None:
    found = _found(_recording("b", "pump", 600), _recording("a", "pump", 0), _recording("c", "fan", None))
    made = baselines(found, [Stray("b", 0, 60, 2.5, False)], "abc")
    pump, fan = made["pump"], made["fan"]
    assert (pump.from_at, pump.until_at) == ("2026-01-31T12:00:00.000000Z", "2026-01-31T12:11:00.000000Z")
    assert (pump.recordings, pump.hours, pump.left_out) == (2, 120 / 3600, {"unlike_neighbours": 1})
    assert (fan.from_at, fan.until_at, fan.left_out) == (None, None, {})


def test_its_id_is_of_the_machine_and_of_the_recordings() -> None:
    found = _found(_recording("a", "pump", 0), _recording("c", "fan", 0))
    first, again, other = (baselines(found, [], of) for of in ("abc", "abc", "abd"))
    assert first == again
    ids = {one.baseline_id for made in (first, other) for one in made.values()}
    assert len(ids) == 4
    assert all(len(one) == 32 for one in ids)


def test_recordings_without_a_machine_have_none() -> None:
    assert baselines(_found(_recording("a", None, 0)), [], "abc") == {}


def test_one_time_that_is_not_known_leaves_the_span_open() -> None:
    found = _found(_recording("a", "pump", 0), replace(_recording("b", "pump", 60), start=NOT_LOOKED))
    assert baselines(found, [], "abc")["pump"].from_at is None


def test_an_alert_names_the_baseline_that_its_incident_departs_from(tmp_path: Path) -> None:
    made = baselines(_found(_recording("a", "pump-1", 0)), [], "abc")
    model = Model.load(tiny_model(tmp_path / "tiny.onnx", tiny_metadata(baselines=made)))
    frames = course([1, 10, 10, 10], "pump-1") + course([1, 10, 10, 10], "pump-2")
    alerts = [one for one in backtest(frames, {"m": model}, [Route(model="m")]) if isinstance(one, Alert)]
    assert [one.machine_id for one in alerts] == ["pump-1", "pump-2"]
    assert [one.baseline for one in alerts] == [made["pump-1"].baseline_id, None]
    validate_message("alert", orjson.dumps(alerts[0]))
