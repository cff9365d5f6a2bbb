"""Early findings and alarms as levels of one incident."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Alert
from stream_app.pipeline import Engine, Model, Router, StreamState, backtest
from stream_app.worker.feature_row import alert_state
from tests.helpers import validate_message
from tests.models import SECOND_US, START_US, course, tiny_metadata, tiny_model
from tests.stream_app.pipeline.test_cusum import TEST
from whirr.settings import Route

EARLY = replace(TEST, centre=0.5, scale=0.1, reference=1.5, threshold=10.0)
NORMAL, SHIFTED, LOUD, CRITICAL = 0.5, 0.8, 1.2, 2.5  # of an alert threshold of 1; 0.8 adds 1.5 of 10 a frame
SCORES = st.lists(st.sampled_from([NORMAL, SHIFTED, 0.95, LOUD, CRITICAL]), max_size=80)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    metadata = tiny_metadata()
    metadata = replace(metadata, thresholds=replace(metadata.thresholds, early=EARLY))
    return Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", metadata))


@pytest.fixture(scope="module")
def frame(model):
    engine = Engine(Router.from_routes([Route(model="m")], {"m": model}))
    (computed,) = engine.compute(course([1]))
    return computed


@pytest.fixture(scope="module")
def play(model, frame):
    def played(scores, every_s=1.0, states=None, packed=False, start_us=START_US, state=None, changes=None, **route):
        """Return the alerts on frames of these scores; ``states`` takes the state after each."""
        router = Router.from_routes([Route(model="m", **{"early_settle_s": 20.0, **route})], {"m": model})
        engine = Engine(router)
        found = []
        for number, score in enumerate(scores):
            recorded_us = start_us + round(number * every_s * SECOND_US)
            name = f"{recorded_us:032x}"
            computed = replace(
                frame,
                frame=replace(frame.frame, frame_id=name, recorded_us=recorded_us, sequence=None),
                routed=router.find("pump-1"),
                score=score,
                **(changes or {}),
            )
            outcome = engine.advance(computed, state, START_US)
            assert outcome.dead_letter is None
            state = outcome.state or state
            if packed:
                state = StreamState.from_bytes(state.to_bytes())
            if states is not None:
                states.append(state)
            found += outcome.alerts
        return found

    return played


def told(alerts):
    return [(alert.state, alert.severity, alert.level) for alert in alerts]


def test_a_lasting_shift_below_the_alert_threshold_is_found_once_and_settles(play):
    states = []
    alerts = play([NORMAL] * 10 + [SHIFTED] * 100 + [NORMAL] * 60, states=states)
    assert told(alerts) == [("changed", "early", "early"), ("settled", "early", None)]
    changed, settled = alerts
    assert changed.incident_id == changed.alert_id == settled.incident_id != settled.alert_id
    assert changed.ratio == pytest.approx(0.8)
    assert changed.change.since == "2026-01-01T00:00:10.000000Z"
    assert changed.change.frames == 7
    assert changed.change.score == pytest.approx(0.8)
    assert changed.change.normal_score == 0.5
    assert alert_state(states[9]) == "normal"
    assert alert_state(states[50]) == "changed"
    for alert in alerts:
        validate_message("alert", orjson.dumps(alert))


def test_it_becomes_the_alarm_inside_the_same_incident_and_falls_back(play):
    alerts = play([SHIFTED] * 10 + [LOUD] * 10 + [CRITICAL] * 10 + [LOUD] * 10 + [SHIFTED] * 30 + [NORMAL] * 60)
    assert told(alerts) == [
        ("changed", "early", "early"),
        ("opened", "warning", "warning"),
        ("updated", "critical", "critical"),
        ("updated", "warning", "warning"),
        ("closed", "warning", "early"),
        ("settled", "early", None),
    ]
    assert {alert.incident_id for alert in alerts} == {alerts[0].alert_id}
    assert len({alert.alert_id for alert in alerts}) == len(alerts)


def test_an_alarm_that_comes_and_goes_within_a_lasting_fault_is_one_incident(play):
    alerts = play(([LOUD] * 6 + [SHIFTED] * 8) * 7)
    assert [alert.state for alert in alerts] == ["opened", "closed"] * 7
    assert {alert.incident_id for alert in alerts} == {alerts[0].alert_id}


def test_a_short_alarm_is_over_when_it_closes(play):
    (opened, closed) = play([NORMAL] * 5 + [1.01] * 3 + [NORMAL] * 10)
    assert told([opened, closed]) == [("opened", "warning", "warning"), ("closed", "warning", None)]
    assert closed.incident_id == opened.alert_id


@given(SCORES)
@settings(deadline=None, max_examples=60)
def test_alarms_are_what_they_are_without_early_findings(play, scores):
    alone = play(scores, early=False)
    both = play(scores)
    assert not [alert for alert in alone if alert.severity == "early"]
    alarms = [alert for alert in both if alert.severity != "early"]
    assert [(a.alert_id, a.state, a.severity, a.bands) for a in alarms] == [
        (a.alert_id, a.state, a.severity, a.bands) for a in alone
    ]


@given(SCORES)
@settings(deadline=None, max_examples=60)
def test_an_incident_has_one_id_from_its_first_level_to_its_last(play, scores):
    states, ended, current = [], set(), None
    for alert in play(scores, states=states):
        assert alert.incident_id not in ended
        assert alert.incident_id == (current or alert.alert_id)
        current = alert.incident_id if alert.level else None
        ended |= set() if alert.level else {alert.incident_id}
    for state in states:
        assert bool(state.machine.incident_id) == (state.machine.alert.on or state.shift.found)
    assert current == (states[-1].machine.incident_id or None if states else None)


@given(SCORES)
@settings(deadline=None, max_examples=60)
def test_a_state_that_was_packed_after_every_frame_leads_to_the_same(play, scores):
    assert play(scores, packed=True) == play(scores)


@pytest.mark.parametrize(
    ("route", "changes"),
    [
        ({"muted_until": "2027-01-01T00:00:00Z"}, {}),
        ({"running_dbfs": -20.0}, {"level_dbfs": -60.0}),
        ({}, {"sensor_fault": "flat"}),
        ({}, {"unfamiliar": ("length",)}),
        ({"mode": "every"}, {}),
        ({"early": False}, {}),
    ],
)
def test_frames_that_mean_nothing_are_no_evidence(play, route, changes):
    states = []
    play([SHIFTED] * 50, states=states, changes=changes, **route)
    assert not any(state.shift.evidence or state.shift.found for state in states)


def test_late_frames_are_no_evidence(play):
    states = []
    play([SHIFTED] * 5, states=states)
    (before,) = states[-1:]
    play([LOUD] * 5, states=states, state=before)
    assert states[-1].shift == before.shift


@pytest.mark.parametrize("route", [{"early": False}, {"mode": "every"}])
def test_what_is_open_settles_when_the_route_wants_no_early_findings_any_more(play, route):
    states = []
    (changed,) = play([SHIFTED] * 20 + [NORMAL] * 15, states=states)  # no evidence any more, but not for long
    assert states[-1].shift.found
    assert not states[-1].shift.evidence
    (settled,) = play([SHIFTED], state=states[-1], start_us=START_US + 40 * SECOND_US, **route)
    assert (settled.state, settled.level, settled.incident_id) == ("settled", None, changed.alert_id)


def test_a_stream_that_begins_anew_after_a_long_silence_has_settled(play):
    states = []
    (changed,) = play([SHIFTED] * 20, states=states)
    later_us = START_US + 200 * 3600 * SECOND_US
    (settled,) = play([NORMAL], state=states[-1], start_us=later_us, forget_after_h=100.0)
    assert (settled.state, settled.severity, settled.level) == ("settled", "early", None)
    assert (settled.reason, settled.incident_id) == ("forgotten", changed.alert_id)


def test_a_model_without_the_test_finds_nothing_early(tmp_path):
    model = Model.load(tiny_model(tmp_path / "old.onnx"))
    found = list(backtest(course([1.4] * 60), {"m": model}, [Route(model="m")]))
    assert not [one for one in found if isinstance(one, Alert)]


def test_bands_of_a_change_are_those_that_drove_it_all_along(play, frame):
    error = np.zeros_like(frame.band_error)
    error[:, 40:48] = 5.0
    (changed,) = play([SHIFTED] * 20, changes={"band_error": error})
    edges = frame.routed.model.features.band_edges_hz
    (band,) = changed.bands
    assert (band.from_hz, band.to_hz) == (edges[40, 0], edges[47, 1])
    assert band.share == pytest.approx(1.0)
