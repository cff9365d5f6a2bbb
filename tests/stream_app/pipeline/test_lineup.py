"""Which model has a frame, by recording time, and what a challenger may say beside it: scores, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import Alert, DeadLetter, FeatureConfig, Score
from stream_app.pipeline import Champion, Engine, Lineup, Model, Router, StreamState, analyse, backtest, decode
from tests.models import SECOND_US, START_US, course, encoded, noise, plant, record, tiny_metadata, tiny_model
from whirr.settings import Route

LEVELS = [1.0] * 4 + [10.0] * 8 + [1.0] * 6


def made(folder: Path, version: str, scale: float = 1.0, **changes: Any) -> Model:
    metadata = replace(tiny_metadata(), version=version, **changes)
    return Model.load(tiny_model(folder / f"{version}.onnx", metadata, scale))


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Model:
    return made(tmp_path_factory.mktemp("one"), "1")


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Model:
    return made(tmp_path_factory.mktemp("two"), "2", 0.1)  # too deaf to alert


def promoted(one: Model, two: Model, second: float) -> Lineup:
    return Lineup((Champion(0, one), Champion(START_US + round(second * SECOND_US), two)))


def told(answers: Iterable[Score | Alert | DeadLetter]) -> list[Any]:
    """What was answered, without when."""
    return [replace(a, scored_at="") if isinstance(a, Score | Alert) else a for a in answers]


def champions_only(answers: Iterable[Score | Alert | DeadLetter]) -> list[Any]:
    return [one for one in told(answers) if not (isinstance(one, Score) and one.shadow)]


def shadows(answers: Iterable[Score | Alert | DeadLetter]) -> list[Score]:
    return [one for one in answers if isinstance(one, Score) and one.shadow]


# By recording time


def test_a_frame_is_judged_by_the_champion_of_its_recording_time_whenever_it_comes(one, two):
    router = Router.from_routes([Route(model="m")], {"m": promoted(one, two, 2)})
    frames = course([1.0] * 5)
    late_first = [*frames[3:], *frames[:3]]
    versions = {
        score.recorded_at: score.model.version
        for score in backtest(late_first, {"m": promoted(one, two, 2)}, [Route(model="m")])
        if isinstance(score, Score)
    }
    assert list(dict(sorted(versions.items())).values()) == ["1", "1", "2", "2", "2"]
    assert router.find("any").model is two
    boundary = START_US + 2 * SECOND_US
    assert [router.find("any", at).model for at in (0, boundary - 1, boundary)] == [one, one, two]
    assert [routed.model for routed in router.all] == [two, one]


def test_promotion_changes_what_comes_after_it_and_nothing_before(one, two):
    route = Route(model="m", early=False)
    alone = told(backtest(course(LEVELS), {"m": one}, [route]))
    both = told(backtest(course(LEVELS), {"m": promoted(one, two, 8)}, [route]))
    before = [a for a in both if a.model.version == "1"]
    assert before == [a for a in alone if a in before]
    assert [a.state for a in alone if isinstance(a, Alert)] == ["opened", "closed"]
    # The deaf model hears nothing of the same fault: five quiet frames close the incident.
    closed = [a for a in both if isinstance(a, Alert)][-1]
    assert (closed.state, closed.model.version, closed.recorded_at) == ("closed", "2", both[-1 - 6].recorded_at)


def test_a_worker_that_starts_anew_in_between_answers_as_one_that_did_not(one, two):
    """What it needs is the state of each stream, and the same lineup."""
    frames = course(LEVELS)
    lineup = {"m": promoted(one, two, 8)}
    route = Route(model="m")
    expected = told(backtest(frames, lineup, [route]))
    for cut in (3, 8, 9, 12):
        engine: Any = Engine(Router.from_routes([route], lineup))
        state: Any = None
        found: list[Any] = []
        for number, computed in enumerate(engine.compute(frames)):
            if number == cut:
                engine = Engine(Router.from_routes([route], lineup))
                state = StreamState.from_bytes(state.to_bytes())
            outcome = engine.advance(computed, state, 0)
            state = outcome.state
            found += [outcome.score, *outcome.alerts]
        assert told(found) == expected


def test_rolling_back_brings_the_model_before_back_from_then_on(one, two):
    lineup = Lineup(
        (Champion(0, one), Champion(START_US + 2 * SECOND_US, two), Champion(START_US + 4 * SECOND_US, one))
    )
    scores = backtest(course([1.0] * 6), {"m": lineup}, [Route(model="m")])
    assert [score.model.version for score in scores] == ["1", "1", "2", "2", "1", "1"]


def test_a_silent_stream_is_told_of_with_the_model_that_heard_it_last(one, two):
    route = Route(model="m", silent_after_s=60)
    engine: Any = Engine(Router.from_routes([route], {"m": promoted(one, two, 5)}))
    (computed,) = engine.compute(course([1.0]))
    state = engine.advance(computed, None, START_US).state
    outcome = engine.silence("pump-1", "", state, START_US, START_US + 3600 * SECOND_US)
    assert outcome.alerts[0].model.version == "1"


@pytest.mark.parametrize("times", [(), (5, 5), (6, 5)])
def test_a_lineup_out_of_order_is_refused(one, times):
    with pytest.raises(ValueError, match="expected"):
        Lineup(tuple(Champion(time, one) for time in times))


# In shadow


def lineup_with(one: Model, challenger: Model) -> dict[str, Model | Lineup]:
    return {"m": Lineup((Champion(0, one),), challenger)}


@pytest.mark.parametrize("rate_hz", [16_000, 8_000], ids=["same features", "other features"])
def test_a_challenger_scores_the_same_frames_and_changes_nothing_else(one, tmp_path, rate_hz):
    """Also where it would alert on every frame, and where its features are others than the champion's."""
    half = FeatureConfig(sample_rate_hz=8_000, fmax_hz=4_000, n_fft=512, hop=256)
    features = FeatureConfig() if rate_hz == 16_000 else half
    loud = made(tmp_path, "loud", 40.0, features=features)
    frames = [*plant(2, LEVELS), record(b"no audio")]
    route = Route(model="m")
    with_it = list(backtest(frames, lineup_with(one, loud), [route]))
    assert champions_only(with_it) == told(backtest(frames, {"m": one}, [route]))
    alone = [score for score in backtest(frames, {"m": loud}, [route]) if isinstance(score, Score)]
    found = shadows(with_it)
    assert {score.model.version for score in found} == {"loud"}
    assert min(score.score / score.threshold for score in found) > 1
    for shadow, expected in zip(found, alone, strict=True):
        assert (shadow.frame_id, shadow.score, shadow.threshold) == (
            expected.frame_id,
            expected.score,
            expected.threshold,
        )
        assert shadow.unfamiliar == expected.unfamiliar


def test_its_score_comes_after_the_champions(one, two):
    answers = list(backtest(course([1.0, 1.0]), lineup_with(one, two), [Route(model="m")]))
    assert [(a.frame_id == answers[i - i % 2].frame_id, a.shadow) for i, a in enumerate(answers)] == [
        (True, False),
        (True, True),
    ] * 2


def test_windows_are_shared_where_features_are_equal(one, two, monkeypatch):
    calls: list[int] = []

    def counted(raw: bytes, rate_hz: int) -> Any:
        calls.append(rate_hz)
        return decode(raw, rate_hz)

    monkeypatch.setattr(analyse, "decode", counted)
    frames = course([1.0] * 5)
    assert len(shadows(backtest(frames, lineup_with(one, two), [Route(model="m")]))) == 5
    assert calls == [16_000] * 5


def test_a_route_may_do_without_and_others_of_the_same_model_have_it(one, two):
    routes = [Route(match="pump-0", model="m", shadow=False), Route(model="m")]
    found = shadows(backtest(plant(3, [1.0] * 4), lineup_with(one, two), routes))
    assert {score.machine_id for score in found} == {"pump-1", "pump-2"}
    assert len(found) == 8


def test_what_a_route_refuses_of_a_challenger_is_none_for_it(one, tmp_path):
    other = made(tmp_path, "other", machines=["pump-9"])
    answers = list(backtest(course([1.0] * 2), lineup_with(one, other), [Route(model="m")]))
    assert [score.unfamiliar for score in shadows(answers)] == [("machine",)] * 2
    refusing = Route(model="m", refuse_unfamiliar=("machine",))
    answers = list(backtest(course([1.0] * 2), lineup_with(one, other), [refusing]))
    assert [type(answer) for answer in answers] == [Score, Score]
    assert shadows(answers) == []


@pytest.mark.parametrize("wrong", [np.nan, -1.0, np.inf, RuntimeError("broken"), MemoryError()], ids=repr)
def test_one_that_fails_harms_no_answer_and_says_why(one, two, wrong, monkeypatch):
    score = two.score

    def failing(windows: Any, conditions: Any = None) -> Any:
        scores, bands = score(windows, conditions)
        for row in np.flatnonzero(scores > 0.3):  # a loud frame's
            if isinstance(wrong, Exception):
                raise wrong
            scores[row] = wrong
        return scores, bands

    frames = course([1.0, 10.0, 1.0])
    expected = champions_only(backtest(frames, {"m": one}, [Route(model="m")]))
    monkeypatch.setattr(two, "score", failing)
    assert champions_only(backtest(frames, lineup_with(one, two), [Route(model="m")])) == expected
    engine = Engine(Router.from_routes([Route(model="m")], lineup_with(one, two)))
    told = [computed.shadow for computed in engine.compute(frames)]
    assert [shadow.score is None for shadow in told] == [False, True, False]
    assert told[1].failure.startswith(type(wrong).__name__ if isinstance(wrong, Exception) else "ValueError")
    assert [computed.shadow for computed in engine.compute(frames, {two.digest})] == [None] * 3


def test_one_that_takes_other_channels_says_nothing(one, tmp_path):
    stereo = made(tmp_path, "stereo", features=FeatureConfig(channels=2), normal_band_error=[[0.4] * 128] * 2)
    engine = Engine(Router.from_routes([Route(model="m")], lineup_with(one, stereo)))
    mono, both = engine.compute([*course([1.0]), record(encoded(noise(channels=2)))])
    assert mono.shadow is None
    assert both.shadow.score > 0


def test_every_champion_of_a_lineup_has_the_challenger_beside_it(one, two, tmp_path):
    three = made(tmp_path, "3", 2.0)
    lineup = replace(promoted(one, two, 2), challenger=three)
    pairs = list(versions(backtest(course([1.0] * 4), {"m": lineup}, [Route(model="m")])))
    assert pairs == ["1", "3", "1", "3", "2", "3", "2", "3"]


def versions(answers: Iterable[Any]) -> Iterator[str]:
    return (answer.model.version for answer in answers)
