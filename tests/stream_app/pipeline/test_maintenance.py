"""What frames recorded in a maintenance window lead to, in a backtest and as a worker's timer sees it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from schemas import Alert, Score
from stream_app.pipeline import Engine, Model, Router, StreamState, backtest
from tests.models import SECOND_US, START_US, course, encoded, noise, record, tiny_model
from whirr.maintenance import Maintenance, MaintenanceWindow
from whirr.settings import Route

LOUD = 10.0
FOUR_S = MaintenanceWindow(match="pump-*", start="2026-01-01T00:00:02Z", duration="4s", note="new bearing")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def replay(model):
    def run(frames, *windows, **route):
        routes = [Route(model="m", **route)]
        return list(backtest(frames, {"m": model}, routes, maintenance=windows, now_us=lambda: START_US))

    return run


@pytest.fixture
def engine(model):
    def made(*windows, **route) -> Any:
        return Engine(Router.from_routes([Route(model="m", **route)], {"m": model}), Maintenance(windows))

    return made


def idle_reasons(answers):
    return [a.idle_reason for a in answers if isinstance(a, Score)]


def transitions(answers):
    return [(a.kind, a.state, a.frame.offset) for a in answers if isinstance(a, Alert)]


def test_frames_recorded_in_a_window_are_idle_and_count_for_nothing(replay):
    answers = replay(course([LOUD] * 9), FOUR_S)
    assert idle_reasons(answers) == [None] * 2 + ["maintenance"] * 4 + [None] * 3
    assert transitions(answers) == [("machine", "opened", 6)]
    assert transitions(replay(course([LOUD] * 9))) == [("machine", "opened", 2)]
    assert transitions(replay(course([LOUD] * 9, "fan-1"), FOUR_S)) == [("machine", "opened", 2)]


def test_an_open_incident_stays_open_through_a_window(replay):
    window = MaintenanceWindow(match="*", start="2026-01-01T00:00:03Z", duration="1h")
    answers = replay(course([LOUD] * 3 + [1] * 6), window)
    assert transitions(answers) == [("machine", "opened", 2)]


@pytest.mark.parametrize("samples", [np.zeros((1, 16000)), noise(rms=3.0)], ids=["flat", "clipped"])
def test_no_sensor_fault_is_an_alert_in_a_window(replay, samples):
    frames = [record(encoded(samples), recorded_us=START_US + i * SECOND_US, offset=i) for i in range(8)]
    long = MaintenanceWindow(match="*", start="2025-12-31T00:00:00Z", duration="2d")
    assert transitions(replay(frames, long)) == []
    assert transitions(replay(frames))


def test_a_mute_and_a_window_and_a_machine_that_is_off(replay):
    answers = replay(course([0.01] * 7), FOUR_S, running_dbfs=-40, muted_until="2026-01-01T00:00:03Z")
    assert idle_reasons(answers) == ["muted"] * 3 + ["maintenance"] * 3 + ["quiet"]


def test_a_backtest_answers_as_frames_one_by_one_with_packed_states_do(replay, engine):
    recurring = MaintenanceWindow(
        match="*", start="2026-01-01T00:00:02Z", duration="3s", rule="FREQ=DAILY;BYSECOND=2,12,22;BYMINUTE=0;COUNT=3"
    )
    frames = course([1, LOUD, LOUD, LOUD] * 8)
    expected = replay(frames, recurring, running_dbfs=-60)
    assert idle_reasons(expected).count("maintenance") == 9
    live, state, found = engine(recurring, running_dbfs=-60), None, []
    for frame in frames:
        outcome = live.advance(*live.compute([frame]), state, START_US)
        state = StreamState.from_bytes(outcome.state.to_bytes())
        found += [outcome.score, *outcome.alerts]
    assert found == expected
    assert transitions(expected)


def test_what_a_window_suppressed_is_logged_once_a_stream_and_occurrence(engine, caplog):
    caplog.set_level(logging.INFO, "stream_app.pipeline.engine")
    live, state = engine(FOUR_S), None
    for frame in course([1, 1, 1, LOUD, LOUD, LOUD]):
        state = live.advance(*live.compute([frame]), state, START_US).state
    (told,) = caplog.messages
    assert told == (
        "machine pump-1, source -: above its alert threshold, and not counted: maintenance from "
        "2026-01-01T00:00:02.000000Z to 2026-01-01T00:00:06.000000Z (new bearing)"
    )


def test_silence_is_told_neither_in_a_window_nor_right_after_it(engine):
    window = MaintenanceWindow(match="*", start="2026-01-01T00:00:30Z", duration="10m")
    live = engine(window, silent_after_s=60)
    state = live.advance(*live.compute(course([1])), None, START_US).state
    due_us = START_US + (630 + 60) * SECOND_US
    assert live.silence_due_us("pump-1", state.seen_us, START_US) == due_us
    for at_s in (60, 300, 629, 631, 689):
        assert live.silence("pump-1", "", state, START_US, START_US + at_s * SECOND_US) is None
    (alert,) = live.silence("pump-1", "", state, START_US, due_us).alerts
    assert (alert.sensor_fault, alert.state) == ("silent", "opened")


def test_a_silence_that_was_due_before_a_window_waits_for_its_end(engine):
    window = MaintenanceWindow(match="*", start="2026-01-01T00:10:00Z", duration="10m")
    live = engine(window, silent_after_s=60)
    state = live.advance(*live.compute(course([1])), None, START_US).state
    assert live.silence("pump-1", "", state, START_US, START_US + 900 * SECOND_US) is None
    assert live.silence("pump-1", "", state, START_US, START_US + 1200 * SECOND_US).alerts
    assert live.silence("pump-1", "", state, START_US, START_US + 599 * SECOND_US).alerts


def test_a_worker_that_comes_back_after_a_window_leaves_the_machine_its_time(engine):
    window = MaintenanceWindow(match="*", start="2026-01-01T00:00:30Z", duration="10m")
    live = engine(window, silent_after_s=300)
    state = live.advance(*live.compute(course([1])), None, START_US).state
    back_us = START_US + 640 * SECOND_US
    assert live.silence_due_us("pump-1", state.seen_us, back_us) == START_US + (630 + 300) * SECOND_US
