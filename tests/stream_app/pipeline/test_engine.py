"""What frames lead to: scores, alerts, states; run through the backtest with a model whose scores are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Alert, Condition, DeadLetter, FrameRecord, Score, Thresholds, alert_id
from schemas.errors import SettingsError
from stream_app.pipeline import Engine, Model, Router, StreamState, backtest
from tests.helpers import validate_message
from tests.models import (
    NORMAL_RMS,
    SECOND_US,
    START_US,
    conditioned_model,
    course,
    encoded,
    noise,
    record,
    tiny_metadata,
    tiny_model,
)
from whirr.settings import Route

LOUD = 10.0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def replay(model):
    def run(frames, **route):
        routes = [Route(model="m", **route)]
        return list(backtest(frames, {"m": model}, routes, now_us=lambda: START_US))

    return run


def scores(answers):
    return [a for a in answers if isinstance(a, Score)]


def alerts(answers):
    return [a for a in answers if isinstance(a, Alert)]


def codes(answers):
    return [a.code for a in answers if isinstance(a, DeadLetter)]


def transitions(answers):
    return [(a.kind, a.sensor_fault, a.state, a.frame.offset if a.frame else None) for a in alerts(answers)]


def test_incident_opens_updates_and_closes_with_one_id(replay):
    answers = replay(course([1, 1, 4, 4, 4, 1, 1, 1, 1, 1, 1]))
    assert transitions(answers) == [("machine", None, "opened", 4), ("machine", None, "closed", 9)]
    opened, closed = alerts(answers)
    assert opened.incident_id == opened.alert_id == closed.incident_id != closed.alert_id
    assert opened.alert_id == alert_id(opened.frame.frame_id, "machine::opened")
    assert opened.ratio == pytest.approx(opened.score / opened.threshold)
    assert opened.severity == "critical"
    assert 0 < opened.statistics["rms_mean"] < 0.3
    assert all(s.status == "scored" and s.threshold == 1.0 for s in scores(answers))


def test_mode_every_tells_each_anomalous_frame(replay):
    answers = replay(course([1, LOUD, 1, LOUD]), mode="every")
    assert transitions(answers) == [("machine", None, "anomalous", 1), ("machine", None, "anomalous", 3)]
    assert all(a.incident_id == a.alert_id for a in alerts(answers))


def test_repeated_and_older_frames_are_late_and_move_nothing(replay, model):
    frames = course([1, 1, LOUD, LOUD, LOUD])
    shuffled = [frames[0], frames[2], frames[2], frames[1], frames[3], frames[2], frames[4]]
    answers = replay(shuffled)
    assert [s.status for s in scores(answers)] == ["scored", "scored", "late", "late", "scored", "late", "scored"]
    expected = replay([frames[0], frames[2], frames[3], frames[4]])
    assert [a.alert_id for a in alerts(answers)] == [a.alert_id for a in alerts(expected)]
    engine: Any = Engine(Router.from_routes([Route(model="m")], {"m": model}))
    (computed,) = engine.compute([frames[0]])
    state = engine.advance(computed, None, START_US).state
    assert engine.advance(computed, state, START_US).state is None


def test_streams_are_apart(replay):
    a, b = course([LOUD] * 2, source="a"), course([LOUD] * 2, source="b")
    other = course([LOUD] * 2, machine_id="pump-2")
    mixed = [frame for trio in zip(a, b, other, strict=True) for frame in trio]
    assert transitions(replay(mixed)) == []


def test_sequence_gaps_are_counted_and_restarts_are_not(replay):
    frames = [
        record(encoded(noise()), recorded_us=START_US + i * SECOND_US, sequence=q)
        for i, q in enumerate([5, 6, 9, 0, 1])
    ]
    assert [s.missing_before for s in scores(replay(frames))] == [0, 0, 2, 0, 0]


def test_quiet_and_starting_machines_are_idle_and_raise_nothing(replay):
    levels = [1, 1, 0.01, 0.01, 0.01, 0.01, LOUD, LOUD, LOUD, 1, 1]
    answers = replay(course(levels), running_dbfs=-40, start_up_s=3)
    assert [s.idle_reason for s in scores(answers)] == ["start_up"] * 2 + ["quiet"] * 4 + ["start_up"] * 3 + [None] * 2
    assert transitions(answers) == []
    assert transitions(replay(course(levels)))  # without the route's help it would have been an alert


def test_idle_frames_keep_an_incident_open(replay):
    answers = replay(course([LOUD] * 3 + [0.01] * 10), running_dbfs=-40)
    assert transitions(answers) == [("machine", None, "opened", 2)]


def test_muted_until(replay):
    answers = replay(course([LOUD] * 8), muted_until="2026-01-01T00:00:04Z")
    assert [s.idle_reason for s in scores(answers)] == ["muted"] * 4 + [None] * 4
    assert transitions(answers) == [("machine", None, "opened", 6)]


@pytest.mark.parametrize(("fault", "samples"), [("flat", np.zeros((1, 16000))), ("clipped", noise(rms=3.0))])
def test_sensor_faults_are_incidents_of_their_own(replay, fault, samples):
    value = encoded(samples)
    bad = [record(value, recorded_us=START_US + i * SECOND_US, offset=i) for i in range(4)]
    good = course([1] * 6, start_us=START_US + 4 * SECOND_US)
    answers = replay(bad + good, threshold=1000.0)
    assert transitions(answers) == [("sensor", fault, "opened", 2), ("sensor", fault, "closed", 4)]
    assert [s.sensor_fault for s in scores(answers)] == [fault] * 4 + [None] * 6


@pytest.mark.parametrize(
    ("silent_after_s", "due_s"), [(40, 740), (900, 900), (300, 760)], ids=["short", "not yet silent", "long silent"]
)
def test_silence_counts_across_a_worker_that_was_away_but_gateways_get_a_minute(model, silent_after_s, due_s):
    engine: Any = Engine(Router.from_routes([Route(model="m", silent_after_s=silent_after_s)], {"m": model}))
    state = engine.advance(*engine.compute(course([1])), None, START_US).state
    back_us, due_us = START_US + 700 * SECOND_US, START_US + due_s * SECOND_US
    assert engine.silence_due_us("pump-1", state.seen_us, back_us) == due_us
    assert engine.silence("pump-1", "", state, back_us, due_us - 1) is None
    assert engine.silence("pump-1", "", state, back_us, due_us).alerts[0].sensor_fault == "silent"


def test_a_flat_signal_is_no_machine_fault_but_a_clipped_one_may_be(replay):
    flat = [record(encoded(np.zeros((1, 16000))), recorded_us=START_US + i * SECOND_US) for i in range(4)]
    assert {kind for kind, *_ in transitions(replay(flat))} == {"sensor"}
    clipped = [record(encoded(noise(rms=3.0)), recorded_us=START_US + i * SECOND_US) for i in range(4)]
    assert {kind for kind, *_ in transitions(replay(clipped))} == {"sensor", "machine"}


def test_silence_opens_once_and_closes_with_the_next_frame(model):
    engine: Any = Engine(Router.from_routes([Route(model="m", silent_after_s=60)], {"m": model}))
    first, second = engine.compute(course([1, 1]))
    state = engine.advance(first, None, START_US).state
    assert engine.silence("pump-1", "", state, START_US, START_US + 59 * SECOND_US) is None
    silent = engine.silence("pump-1", "", state, START_US, START_US + 60 * SECOND_US)
    (opened,) = silent.alerts
    assert (opened.sensor_fault, opened.state, opened.frame, opened.score) == ("silent", "opened", None, None)
    assert engine.silence("pump-1", "", silent.state, START_US, START_US + 600 * SECOND_US) is None
    restored = StreamState.from_bytes(silent.state.to_bytes())
    heard = engine.advance(second, restored, START_US + 700 * SECOND_US)
    (closed,) = heard.alerts
    assert (closed.sensor_fault, closed.state, closed.incident_id) == ("silent", "closed", opened.alert_id)
    assert not heard.state.silent.incident_id


def test_bands_name_where_the_energy_rose(replay):
    t = np.arange(16000) / 16000
    value = encoded(noise() + 0.5 * np.sin(2 * np.pi * 3000 * t))
    frames = [record(value, recorded_us=START_US + i * SECOND_US) for i in range(3)]
    (opened,) = alerts(replay(frames, threshold=0.5))
    largest = opened.bands[0]
    assert largest.from_hz < 3000 < largest.to_hz
    assert largest.to_hz - largest.from_hz < 1500
    assert [b.share for b in opened.bands] == sorted((b.share for b in opened.bands), reverse=True)
    assert sum(b.share for b in opened.bands) <= 1 + 1e-9


def test_worst_channel_counts(replay):
    both = np.concatenate([noise(), noise(rms=LOUD * NORMAL_RMS)])
    alone = scores(replay([record(encoded(both[1:]))]))[0]
    assert scores(replay([record(encoded(both))]))[0].score == alone.score


def test_other_rates_are_resampled(replay):
    value = encoded(noise(rate_hz=48_000, rms=NORMAL_RMS * 3**0.5), 48_000)
    assert scores(replay([record(value)]))[0].score == pytest.approx(0.55, abs=0.15)


def test_dead_letters_say_why(replay, model):
    short = encoded(noise(0.3))
    frames = [record(None), record(b"\x00\x01noise" * 40), record(short), record(encoded(noise()), machine_id="a b")]
    answers = replay(frames)
    assert codes(answers) == ["empty_value", "not_audio", "too_short", "key_invalid"]
    routes = [Route(match="fan-*", model="m")]
    assert codes(backtest([record(encoded(noise()))], {"m": model}, routes)) == ["no_route"]


def test_a_frame_must_not_grow_without_bound_when_resampled(replay):
    value = encoded(noise(60.0, rate_hz=100, channels=64), 100, kind="WAV", subtype="PCM_16")
    assert codes(replay([record(value)])) == ["too_many_samples"]


def test_an_unexpected_error_is_one_frames_dead_letter(replay, monkeypatch):
    real = Model.score
    loudest = encoded(noise(rms=LOUD * NORMAL_RMS))

    def fails_on_loud(self, windows, conditions):
        found = real(self, windows, conditions)
        if found[0].max() > 3:
            raise RuntimeError("out of order")
        return found

    monkeypatch.setattr(Model, "score", fails_on_loud)
    frames = [record(encoded(noise())), record(loudest, "pump-2"), record(encoded(noise()), "pump-3")]
    answers = replay(frames)
    assert codes(answers) == ["processing_failed"]
    assert [s.machine_id for s in scores(answers)] == ["pump-1", "pump-3"]


def test_frames_that_cant_be_used_harm_no_other_of_their_shape(replay):
    def of(samples: int, machine: str):
        return record(encoded(noise(2.0)[:, :samples]), machine)

    # 3,000 samples are less than a window: what is wrong shows only when the frames are computed together.
    mixed = [of(16_000, "pump-1"), of(3_000, "pump-2"), of(3_000, "pump-3"), record(b"RIFF", "pump-4")]
    mixed += [of(20_000, "pump-5"), of(16_000, "pump-6"), of(3_000, "pump-7"), of(16_000, "pump-8")]
    answers = replay(mixed)
    transitions = [a.machine_id if isinstance(a, Score) else (a.record.key.decode(), a.code) for a in answers]
    short = [(f"pump-{number}", "too_short") for number in (2, 3, 7)]
    assert transitions == ["pump-1", *short[:2], ("pump-4", "not_audio"), "pump-5", "pump-6", short[2], "pump-8"]
    alone = [answer for one in mixed for answer in replay([one])]
    assert answers == alone


def test_machine_thresholds_and_route_thresholds(tmp_path):
    own = Thresholds(decision_threshold=4.0, alert_threshold=5.0, normals=50)
    path = tiny_model(tmp_path / "own.onnx", tiny_metadata(machine_thresholds={"pump-1": own}))
    models = {"m": Model.load(path)}
    frames = [*course([1]), *course([1], "pump-2")]
    assert [s.threshold for s in scores(backtest(frames, models, [Route(model="m")]))] == [5.0, 1.0]
    assert [s.threshold for s in scores(backtest(frames, models, [Route(model="m", threshold=7)]))] == [7.0, 7.0]


def test_first_matching_route_counts(tmp_path):
    models = {n: Model.load(tiny_model(tmp_path / n, replace(tiny_metadata(), name=n))) for n in ("a", "b")}
    routes = [Route(match="pump-*", model="a"), Route(match="*", model="b")]
    frames = [*course([1]), *course([1], "fan-1")]
    assert [s.model.name for s in scores(backtest(frames, models, routes))] == ["a", "b"]
    with pytest.raises(SettingsError, match="'c'"):
        Router.from_routes([Route(model="c")], models)


def test_frames_of_another_length_are_warned_of_once(replay, caplog):
    frames = [record(encoded(noise(2.0)), recorded_us=START_US + i * SECOND_US) for i in range(3)]
    replay(frames)
    assert [r for r in caplog.messages if "calibrated" in r] == [caplog.messages[0]]
    assert "2 s" in caplog.messages[0]


HOSTILE_TIMES = st.sampled_from(
    [b"0001-01-01T00:00:00+00:01", b"9999-12-31T23:59:59-00:04", b"0099-01-01T00:00:00Z", b"1970-01-01T00:00:00Z"]
)
HOSTILE_HEADERS = st.lists(
    st.one_of(
        st.tuples(st.just("ce_time"), HOSTILE_TIMES),
        st.tuples(st.just("ce_sequence"), st.integers(0, 10**18 - 1).map(lambda n: str(n).encode())),
        st.tuples(
            st.sampled_from(["ce_id", "ce_source"]), st.sampled_from([b"x" * 256, b"x" * 257, b"\x01" * 99, b"\xff"])
        ),
        st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=20)),
    ),
    max_size=6,
)
HOSTILE_STAMPS = st.sampled_from([START_US // 1000, START_US // 1000 + 1, 0, -1, 253_402_300_799_999, 2**62])


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(HOSTILE_HEADERS, HOSTILE_STAMPS, st.sampled_from([1.0, LOUD])), min_size=1, max_size=8))
def test_hostile_envelopes_end_as_small_valid_messages(model, envelopes):
    values = {level: encoded(noise(rms=NORMAL_RMS * level)) for level in (1.0, LOUD)}
    engine: Any = Engine(Router.from_routes([Route(model="m", k=1, n=1, m=1)], {"m": model}))
    states = {}
    for headers, stamp_ms, level in envelopes:
        (answer,) = engine.compute([FrameRecord(b"pump-1", values[level], headers, stamp_ms)])
        if isinstance(answer, DeadLetter):
            assert answer.code != "processing_failed", answer.detail
            continue
        outcome = engine.advance(answer, states.get(answer.frame.stream), START_US)
        assert outcome.dead_letter is None
        if outcome.state is not None:
            states[answer.frame.stream] = StreamState.from_bytes(outcome.state.to_bytes())
        validate_message("score", orjson.dumps(outcome.score))
        for alert in outcome.alerts:
            assert len(orjson.dumps(alert)) < 20_000
            validate_message("alert", orjson.dumps(alert))


def test_a_frame_that_fails_late_is_a_dead_letter_too(replay, monkeypatch):
    def fail(*_):
        raise OverflowError("date value out of range")

    monkeypatch.setattr("stream_app.pipeline.engine._frame_status", fail)
    assert codes(replay(course([1]))) == ["processing_failed"]


def test_a_counter_that_jumps_absurdly_far_was_restarted(replay):
    counts = [0, 10**18 - 1, 0, 10**18 - 1, 2, 1_000_002]
    frames = [record(encoded(noise()), recorded_us=START_US + i * SECOND_US, sequence=q) for i, q in enumerate(counts)]
    assert [s.missing_before for s in scores(replay(frames))] == [0, 0, 0, 0, 0, 999_999]


def test_a_flat_sensor_is_told_though_its_machine_counts_as_switched_off(replay):
    flat = [record(encoded(np.zeros((1, 16000))), recorded_us=START_US + i * SECOND_US, offset=i) for i in range(4)]
    assert transitions(replay(flat, running_dbfs=-60)) == [("sensor", "flat", "opened", 2)]
    assert transitions(replay(flat, muted_until="2027-01-01T00:00:00Z")) == []


def test_an_incident_ends_when_its_route_begins_to_tell_every_frame(model):
    engine: Any = Engine(Router.from_routes([Route(model="m")], {"m": model}))
    state = None
    *opening, last = engine.compute(course([LOUD] * 4))
    for computed in opening:
        state = engine.advance(computed, state, START_US).state
    engine.router = Router.from_routes([Route(model="m", mode="every")], {"m": model})
    (last,) = engine.compute(course([LOUD] * 4)[3:])
    outcome = engine.advance(last, state, START_US)
    assert [a.state for a in outcome.alerts] == ["closed", "anomalous"]
    assert outcome.alerts[0].incident_id == state.machine.incident_id
    assert not outcome.state.machine.incident_id


def test_absurd_floats_are_scored(replay):
    value = encoded(noise(1.0, 1.0, 44_100), 44_100, subtype="FLOAT")
    header, samples = value[:-176_400], np.frombuffer(value[-176_400:], "<f4")
    absurd = header + (samples * np.float32(1e37)).tobytes()
    assert [s.status for s in scores(replay([record(absurd)]))] == ["scored"]


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 9), st.randoms(use_true_random=False))
def test_answers_do_not_depend_on_batches(model, batch_frames, random):
    levels = [random.choice([0.5, 1, 1.2, 3, LOUD]) for _ in range(12)]
    frames = course(levels)
    routes = [Route(model="m")]
    one = list(backtest(frames, {"m": model}, routes, batch_frames=1, now_us=lambda: 0))
    assert list(backtest(frames, {"m": model}, routes, batch_frames=batch_frames, now_us=lambda: 0)) == one


@settings(deadline=None, max_examples=15)
@given(st.randoms(use_true_random=False))
def test_redelivery_changes_no_alert(model, random):
    frames = course([random.choice([1, LOUD]) for _ in range(15)])
    routes = [Route(model="m")]
    again = list(frames)
    for _ in range(5):
        at = random.randrange(1, len(again) + 1)
        again[at:at] = again[max(0, at - random.randrange(1, 6)) : at]
    once = {(a.alert_id, a.state) for a in alerts(backtest(frames, {"m": model}, routes))}
    assert {(a.alert_id, a.state) for a in alerts(backtest(again, {"m": model}, routes))} == once


# Forgetting

HOUR_US = 3_600 * SECOND_US
FORGET_H = 1.0


def test_a_stream_begins_anew_after_a_long_silence(replay):
    levels = [LOUD, LOUD]
    parts = [*course(levels), *course([LOUD] * 2, start_us=START_US + HOUR_US + SECOND_US)]
    assert transitions(replay(parts, forget_after_h=FORGET_H)) == [], "two of five before count no more"
    assert transitions(replay(parts, forget_after_h=2.0)) == [("machine", None, "opened", 0)]


def test_what_is_open_in_a_stream_that_begins_anew_is_closed(replay):
    parts = [*course([LOUD] * 3), *course([1.0] * 2, start_us=START_US + 2 * HOUR_US)]
    opened, closed = alerts(replay(parts, forget_after_h=FORGET_H))
    assert (opened.state, closed.state, closed.reason) == ("opened", "closed", "forgotten")
    assert (closed.incident_id, closed.severity) == (opened.incident_id, opened.severity)
    assert closed.alert_id == alert_id(opened.frame.frame_id, "machine::closed")
    assert closed.frame is None
    validate_message("alert", orjson.dumps(closed))


def test_forgetting_by_a_timer_leads_to_what_the_backtest_says(model, replay):
    """A worker drops the state, a backtest has it still: the next frame must not tell them apart."""
    route = {"forget_after_h": FORGET_H}
    before, after = course([LOUD] * 4), course([LOUD] * 4, start_us=START_US + 2 * HOUR_US)
    expected = {(a.alert_id, a.state) for a in alerts(replay([*before, *after], **route))}
    engine: Any = Engine(Router.from_routes([Route(model="m", **route)], {"m": model}))
    sent, state, seen_us = [], None, START_US
    for computed in engine.compute(before):
        outcome = engine.advance(computed, state, seen_us)
        sent, state = [*sent, *outcome.alerts], outcome.state
    due_us = engine.forget_due_us("pump-1", state.seen_us)
    # Whatever comes from now on begins a stream anew by its recording time, unless it was on its way for an hour.
    assert due_us - int(FORGET_H * HOUR_US) >= state.newest_us + int(FORGET_H * HOUR_US) - 5 * SECOND_US
    sent += engine.forget("pump-1", "", state, due_us)
    state = None
    for computed in engine.compute(after):
        outcome = engine.advance(computed, state, due_us)
        sent, state = [*sent, *outcome.alerts], outcome.state
    assert {(a.alert_id, a.state) for a in sent} == expected
    assert len(expected) == 3


def test_a_silence_that_is_forgotten_is_closed(model):
    engine: Any = Engine(Router.from_routes([Route(model="m")], {"m": model}))
    (computed,) = engine.compute(course([1.0]))
    state = engine.advance(computed, None, START_US).state
    told_silent = engine.silence("pump-1", "", state, START_US, START_US + 601 * SECOND_US)
    (closed,) = engine.forget("pump-1", "", told_silent.state, START_US + 5_000 * HOUR_US)
    assert (closed.kind, closed.sensor_fault, closed.state, closed.reason) == (
        "sensor",
        "silent",
        "closed",
        "forgotten",
    )
    assert closed.incident_id == told_silent.alerts[0].alert_id


def test_a_machine_without_a_route_is_forgotten_and_closed_too(model):
    engine: Any = Engine(Router.from_routes([Route(match="pump-*", model="m")], {"m": model}))
    outcomes, state = [], None
    for computed in engine.compute(course([LOUD] * 3)):
        outcomes.append(engine.advance(computed, state, START_US))
        state = outcomes[-1].state
    gone: Any = Engine(Router.from_routes([Route(match="fan-*", model="m")], {"m": model}))
    assert gone.silence_due_us("pump-1", START_US, START_US) is None
    assert gone.forget_due_us("pump-1", START_US) == START_US + 2 * 2160 * HOUR_US
    (closed,) = gone.forget("pump-1", "", state, START_US)
    assert closed.incident_id == outcomes[-1].alerts[0].incident_id


# What a model was not trained for


def named(tmp_path, **changes):
    return Model.load(tiny_model(tmp_path / "named.onnx", tiny_metadata(**changes)))


def unfamiliar(model, frames, **route):
    return list(backtest(frames, {"m": model}, [Route(model="m", **route)], now_us=lambda: START_US))


def test_another_machines_model_is_told_in_every_score_and_once_in_the_log(tmp_path, caplog):
    model = named(tmp_path, machines=("pump-1", "pump-2"))
    frames = [*course([LOUD] * 3, "fan-1"), *course([LOUD] * 3, "pump-1")]
    answers = unfamiliar(model, frames)
    assert {(s.machine_id, s.unfamiliar) for s in scores(answers)} == {("fan-1", ("machine",)), ("pump-1", ())}
    assert {(a.machine_id, a.unfamiliar) for a in alerts(answers)} == {("fan-1", ("machine",)), ("pump-1", ())}
    assert caplog.text.count("fan-1, source -") == 1
    assert "it was trained on pump-1, pump-2, not on fan-1" in caplog.text
    for answer in scores(answers):
        validate_message("score", orjson.dumps(answer))


def test_a_model_of_before_names_the_machines_with_thresholds_of_their_own(tmp_path):
    own = Thresholds(decision_threshold=1.0, alert_threshold=1.0, normals=100)
    model = named(tmp_path, machine_thresholds={"pump-1": own})
    assert [s.unfamiliar for s in scores(unfamiliar(model, course([1], "pump-2")))] == [("machine",)]


def test_a_generic_model_judges_any_machine(replay, caplog):
    for machine in ("pump-1", "fan-7"):
        assert [s.unfamiliar for s in scores(replay(course([1], machine)))] == [()]
    assert caplog.text == ""


@pytest.mark.parametrize(("rate_hz", "reasons"), [(8_000, ("rate",)), (15_000, ("rate",)), (16_000, ()), (48_000, ())])
def test_a_rate_that_leaves_bands_empty_is_told(replay, rate_hz, reasons):
    frame = record(encoded(noise(1.0, rate_hz=rate_hz), rate_hz))
    assert [s.unfamiliar for s in scores(replay([frame]))] == [reasons]


@pytest.mark.parametrize(("seconds", "reasons"), [(1.0, ()), (1.19, ()), (1.5, ("length",)), (3.0, ("length",))])
def test_frames_of_another_length_are_told(replay, seconds, reasons):
    assert [s.unfamiliar for s in scores(replay([record(encoded(noise(seconds)))]))] == [reasons]


def test_a_frame_is_judged_by_how_the_machine_ran(tmp_path, caplog):
    model = Model.load(conditioned_model(tmp_path / "conditioned.onnx"))
    loads = [None, 50.0, 70.0, 100.0, 130.0, -10.0] * 12  # several windows' batches
    frames = [
        record(
            encoded(noise(rms=NORMAL_RMS * np.exp(((load or 50) - 50) / 40), seed=i)), condition=Condition(load=load)
        )
        for i, load in enumerate(loads)
    ]
    together = scores(unfamiliar(model, frames))
    alone = [scores(unfamiliar(model, [frame]))[0] for frame in frames]
    assert [s.score for s in together] == [s.score for s in alone]
    by_load = dict(zip(loads, together, strict=True))
    assert max(by_load[load].score for load in (None, 50.0, 70.0, 100.0)) < 1  # as normal as at rest, since it is known
    assert by_load[130.0].score > 1  # beyond what is learnt, no more than its end is expected
    assert [by_load[load].unfamiliar for load in (None, 100.0, 130.0, -10.0)] == [(), (), *[("condition",)] * 2]
    untold = scores(unfamiliar(model, [record(frames[3].value)]))[0]
    assert untold.score > 2
    assert "load 130; it knows 0 to 100" in caplog.text
    caplog.clear()
    unfamiliar(model, frames[:1] * 3 + frames[1:3])
    assert caplog.text.count("frames don't state the load that model tiny judges by; they are judged without") == 1
    for answer in together:
        validate_message("score", orjson.dumps(answer))
    refused = unfamiliar(model, frames[:6], refuse_unfamiliar=["condition"])
    assert codes(refused) == ["unfamiliar"] * 2


def test_a_route_can_refuse_what_its_model_was_not_trained_for(tmp_path):
    model = named(tmp_path, machines=("pump-1",))
    low = record(encoded(noise(1.0, rate_hz=8_000), 8_000))
    frames = [*course([1, 1], "fan-1"), low, *course([1], "pump-1")]
    answers = unfamiliar(model, frames, refuse_unfamiliar=["machine", "rate"])
    assert codes(answers) == ["unfamiliar"] * 3
    assert len(scores(answers)) == 1
    details = [a.detail for a in answers if isinstance(a, DeadLetter)]
    assert "trained on pump-1, not on fan-1" in details[0]
    assert "8000 Hz" in details[2]
    assert codes(unfamiliar(model, frames, refuse_unfamiliar=["rate"])) == ["unfamiliar"]
