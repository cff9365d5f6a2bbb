"""Machines without a model: learning, with all that needs none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from schemas import Alert, DeadLetter, FrameRecord, Score
from stream_app.pipeline import Engine, Features, Model, Router, StreamState, backtest
from stream_app.pipeline.analyse import Computed
from stream_app.pipeline.computation import compute
from stream_app.pipeline.cusum import NEVER
from stream_app.pipeline.lineup import Champion, Lineup
from stream_app.pipeline.standard_features import standard_features
from tests.helpers import validate_message
from tests.models import SECOND_US, START_US, course, encoded, noise, record, tiny_model
from trainer.feature_choice import choose_features
from trainer.recording_set import find_recordings
from whirr.settings import Route

TEMPLATE = "models:/whirr.{machine}@champion"
ADDRESS = "models:/whirr.pump-1@champion"
LEVELS = [1.0] * 8 + [10.0] * 8 + [1.0] * 8
Answer = Score | Alert | DeadLetter
Models = Mapping[str, Model | Lineup]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def heard(
    frames: Sequence[FrameRecord], models: Mapping[str, Model | Lineup] | None = None, **route: Any
) -> list[Answer]:
    routes = [Route(match="*", model=TEMPLATE, **route)]
    return list(backtest(frames, models or {}, routes, now_us=lambda: START_US))


def scores(answers: Sequence[Answer]) -> list[Score]:
    return [one for one in answers if isinstance(one, Score)]


def alerts(answers: Sequence[Answer]) -> list[Alert]:
    return [one for one in answers if isinstance(one, Alert)]


def test_a_machine_without_a_model_is_answered_honestly_and_never_alarms():
    found = heard(course(LEVELS))
    assert len(found) == len(scores(found)) == len(LEVELS)
    for score in scores(found):
        assert (score.status, score.idle_reason, score.score, score.threshold) == ("idle", "learning", 0.0, 1.0)
        assert (score.model.name, score.model.version) == ("whirr.pump-1", "none")
        assert score.unfamiliar == ()
        validate_message("score", orjson.dumps(score))


def test_a_machine_with_a_model_of_its_own_is_judged_as_by_a_route_that_names_it(model: Model):
    frames = [*course(LEVELS), *course(LEVELS, "pump-2")]
    found = heard(frames, {ADDRESS: model})
    named = backtest(course(LEVELS), {"m": model}, [Route(match="*", model="m")], now_us=lambda: START_US)
    own = [one for one in found if not isinstance(one, DeadLetter) and one.machine_id == "pump-1"]
    assert own == list(named)
    assert {one.state for one in own if isinstance(one, Alert)} >= {"opened", "closed"}
    others = [one for one in found if one not in own]
    assert {one.idle_reason for one in scores(others)} == {"learning"}
    assert alerts(others) == []


def test_a_colon_in_a_machines_id_finds_its_model(model: Model):
    found = heard(course([1.0], "hall:pump-1"), {"models:/whirr.hall_-.pump-1@champion": model})
    assert [one.status for one in scores(found)] == ["scored"]


def test_a_flat_signal_alarms_without_a_model_and_says_that_the_machine_is_learning():
    found = alerts(heard(course([1.0] * 3 + [0.0] * 5 + [1.0] * 8)))
    assert [(one.kind, one.sensor_fault, one.state) for one in found] == [
        ("sensor", "flat", "opened"),
        ("sensor", "flat", "closed"),
    ]
    for alert in found:
        assert alert.learning
        assert (alert.score, alert.threshold, alert.ratio, alert.bands) == (None, None, None, ())
        assert (alert.model.name, alert.model.version, alert.model.run_id) == ("whirr.pump-1", "none", None)
        validate_message("alert", orjson.dumps(alert))


def test_a_sensor_incident_that_began_while_learning_ends_under_the_model(model: Model):
    frames = course([0.0] * 4 + [1.0] * 6)
    learning, judging = (Engine(Router.from_routes([Route(model=TEMPLATE)], own)) for own in ({}, {ADDRESS: model}))
    state: StreamState | None = None
    raised: list[Alert] = []
    for frame, engine in zip(frames, [learning] * 5 + [judging] * 5, strict=True):
        outcome = engine.advance(engine.compute([frame])[0], state, START_US)  # type: ignore[arg-type]
        state = outcome.state
        raised += outcome.alerts
    assert [(one.state, one.learning) for one in raised] == [("opened", True), ("closed", False)]
    assert raised[0].incident_id == raised[1].incident_id


def test_silence_of_a_learning_machine_is_told():
    engine = Engine(Router.from_routes([Route(model=TEMPLATE)], {}))
    state = engine.advance(engine.compute(course([1.0]))[0], None, START_US).state  # type: ignore[arg-type]
    assert state is not None
    outcome = engine.silence("pump-1", "", state, START_US, START_US + 3600 * SECOND_US)
    assert outcome is not None
    assert (outcome.alerts[0].sensor_fault, outcome.alerts[0].learning) == ("silent", True)
    validate_message("alert", orjson.dumps(outcome.alerts[0]))


def test_rest_start_up_muting_late_frames_and_gaps_are_told_as_ever():
    late, jumped = record(encoded(noise()), "pump-1", START_US + 500_000), course([1.0] * 9)[8]
    found = scores(heard([*course([0.001, 1.0, 1.0, 1.0]), late, jumped], running_dbfs=-60.0, start_up_s=2.0))
    assert [(one.status, one.idle_reason) for one in found] == [
        ("idle", "quiet"),
        ("idle", "start_up"),
        ("idle", "start_up"),
        ("idle", "learning"),
        ("late", None),
        ("idle", "learning"),
    ]
    assert [one.missing_before for one in found] == [0, 0, 0, 0, 0, 4]
    muted = scores(heard(course([1.0]), muted_until="2027-01-01T00:00:00Z"))
    assert [one.idle_reason for one in muted] == ["muted"]


def test_dead_letters_are_the_same_as_with_a_model(model: Model):
    bad = [
        record(None, "pump-1"),
        record(b"no audio", "pump-1"),
        record(encoded(noise())[:100], "pump-1"),
        record(encoded(noise(0.01)), "pump-1"),
        record(encoded(noise(), subtype="PCM_U8"), "pump-1"),
    ]
    answers = [heard(bad, models) for models in ({}, {ADDRESS: model})]
    codes = [[one.code for one in found if isinstance(one, DeadLetter)] for found in answers]
    assert codes[0] == codes[1]
    assert len(codes[0]) == len(bad)


@pytest.mark.parametrize(
    ("rate_hz", "seconds", "channels"),
    [(16_000, 1.0, 1), (44_100, 2.0, 2), (8_000, 1.0, 1), (25_600, 0.1, 1), (200, 5.0, 3), (1_000, 1.0, 6)],
)
def test_statistics_are_those_of_the_features_that_training_would_take(
    rate_hz: int, seconds: float, channels: int, tmp_path: Path
):
    samples = noise(seconds, rate_hz=rate_hz, channels=channels)
    value = encoded(samples, rate_hz)
    (answer,) = compute([record(value, "pump-1")], Router.from_routes([Route(model=TEMPLATE)], {}))
    assert isinstance(answer, Computed)
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(value)
    chosen = choose_features(find_recordings(tmp_path)).features
    own = standard_features(rate_hz, seconds).config
    for name in ("sample_rate_hz", "n_fft", "hop", "bands", "scale", "fmax_hz"):
        assert getattr(own, name) == getattr(chosen, name), name
    assert answer.statistics.shape == (13,)
    if rate_hz == chosen.sample_rate_hz:
        features = Features(chosen)
        decoded = np.round(samples * 32768).clip(-32768, 32767) / np.float32(32768)
        expected = features.log_mel_and_statistics(decoded.astype(np.float32)[np.newaxis])[1][0]
        np.testing.assert_allclose(answer.statistics, expected, rtol=1e-3, atol=1e-3)


def test_no_answer_depends_on_the_frames_beside_it():
    router = Router.from_routes([Route(model=TEMPLATE)], {})
    frames = [
        record(encoded(noise(seconds, rate_hz=rate_hz, seed=i), rate_hz), f"pump-{i}")
        for i, (rate_hz, seconds) in enumerate([(16_000, 1.0), (8_000, 1.0), (16_000, 1.0), (200, 2.0), (48_000, 1.0)])
    ]
    together = compute(frames, router)
    for frame, answer in zip(frames, together, strict=True):
        (alone,) = compute([frame], router)
        assert isinstance(alone, Computed)
        assert isinstance(answer, Computed)
        assert alone.statistics.tolist() == answer.statistics.tolist()


def test_machines_with_models_of_their_own_that_share_features_are_answered_as_if_alone(tmp_path: Path):
    own = {
        f"models:/whirr.pump-{i}@champion": Model.load(tiny_model(tmp_path / f"{i}.onnx", scale=1.0 + i / 10))
        for i in range(4)
    }
    router = Router.from_routes([Route(model=TEMPLATE)], own)
    frames = [record(encoded(noise(seed=i)), f"pump-{i % 6}", START_US + i) for i in range(18)]
    together = compute(frames, router)
    for frame, answer in zip(frames, together, strict=True):
        (alone,) = compute([frame], router)
        assert isinstance(alone, Computed)
        assert isinstance(answer, Computed)
        assert (answer.score, answer.routed.model_ref) == (alone.score, alone.routed.model_ref)
        assert answer.band_error.tolist() == alone.band_error.tolist()
        assert answer.statistics.tolist() == alone.statistics.tolist()
    assert len({answer.score for answer in together if isinstance(answer, Computed)}) == 13


def test_rolling_statistics_go_on_when_a_model_comes(model: Model):
    frames = course([1.0] * 4)
    learning, judging = (Engine(Router.from_routes([Route(model=TEMPLATE)], own)) for own in ({}, {ADDRESS: model}))
    state: StreamState | None = None
    for frame, engine in zip(frames, [learning, learning, judging, judging], strict=True):
        state = engine.advance(engine.compute([frame])[0], state, START_US).state  # type: ignore[arg-type]
    assert state is not None
    steady: StreamState | None = None
    for frame in frames:
        steady = judging.advance(judging.compute([frame])[0], steady, START_US).state  # type: ignore[arg-type]
    assert steady is not None
    # The tiny model takes the features that the rule gives for its frames, so nothing jumps.
    np.testing.assert_allclose(state.rolling.mean, steady.rolling.mean)
    assert (state.frames, state.scores.weight > 0) == (4, True)


def test_the_router_asks_for_the_model_of_a_machine_that_has_none():
    routed = Router.from_routes([Route(model=TEMPLATE, threshold=3.0)], {}).find("pump-1")
    assert routed.learning
    assert routed.threshold_for("pump-1") == 3.0
    with pytest.raises(RuntimeError, match=r"waits for 'whirr\.pump-1'"):
        _ = routed.model


def test_what_was_recorded_before_a_machines_first_champion_is_nobodys(model: Model):
    frames = course([1.0] * 4)
    from_us = START_US + 2 * SECOND_US
    found = scores(heard(frames, {ADDRESS: Lineup((Champion(from_us, model),))}))
    assert [one.status for one in found] == ["idle", "idle", "scored", "scored"]
    by_hand = scores(heard(frames, {ADDRESS: Lineup((Champion(0, model),))}))
    assert [one.status for one in by_hand] == ["scored"] * 4


def test_the_state_knows_since_when_a_machine_is_learning_until_there_is_a_model(model: Model):
    engines = [Engine(Router.from_routes([Route(model=TEMPLATE)], own)) for own in ({}, {ADDRESS: model})]
    state: StreamState | None = None
    since: list[int] = []
    for frame, engine in zip(course([1.0] * 3), [engines[0], engines[0], engines[1]], strict=True):
        state = engine.advance(engine.compute([frame])[0], state, START_US).state  # type: ignore[arg-type]
        assert state is not None
        since.append(StreamState.from_bytes(state.to_bytes()).learning_since_us)
    assert since == [START_US, START_US, NEVER]


def test_a_challenger_is_heard_in_shadow_beside_a_machines_own_champion(model: Model):
    found = scores(heard(course([1.0] * 2), {ADDRESS: Lineup((Champion(0, model),), model)}))
    assert [one.shadow for one in found] == [False, True] * 2
