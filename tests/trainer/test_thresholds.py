"""Thresholds, held against simulated months."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from scipy import stats

from schemas import Calibration
from tests.trainer.scores import autocorrelated, count_openings
from trainer.exceedance import dependence, exceedance_probability, opening_probability
from trainer.false_alarms import check_false_alarms
from trainer.tail import Tail, gamma_shape
from trainer.thresholds import MIN_OWN_FRAMES, alert_threshold, calibrate, thresholds

CALIBRATION = Calibration(frame_s=1.0, k=3, n=5, false_alerts_per_30_days=1.0, decision_percentile=95)
MONTH = 30 * 86_400


def _scores(count: int, correlation: float, seed: int) -> np.ndarray:
    """Gamma-distributed scores around 1 with a deviation of 0.25; an AR(1) process of Gaussians behind them."""
    return autocorrelated(count, correlation, seed, lambda p: stats.gamma.isf(p, 16) / 16)


@pytest.mark.slow
@pytest.mark.parametrize(("correlation", "normals"), [(0.0, 20), (0.0, 100), (0.0, 1000), (0.5, 100), (0.9, 300)])
def test_a_month_opens_at_most_one_false_alert_and_a_doubled_score_is_no_mystery(
    correlation: float, normals: int
) -> None:
    month = _scores(MONTH, correlation, seed=1)
    found = [alert_threshold([_scores(normals, correlation, seed)], CALIBRATION) for seed in range(10, 21)]
    alerts = [count_openings(month, threshold) for threshold in found]
    assert np.median(alerts) <= 1
    assert sum(count <= 1 for count in alerts) >= 9  # of 11 trainings
    # With a relative deviation of 25 %, an ideal threshold is at 1.8 (independent) to 2.5 (r = 0.9).
    assert np.median(found) < 5


def test_more_normals_give_a_lower_threshold() -> None:
    few, many = (np.median([alert_threshold([_scores(n, 0, s)], CALIBRATION) for s in range(9)]) for n in (30, 1000))
    assert many < few


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
def test_the_joint_probability_is_the_allowed_one(correlation: float) -> None:
    p = exceedance_probability(1e-3, 3, 5, correlation)
    rng = np.random.default_rng(0)
    common = rng.standard_normal((400_000, 1)) * np.sqrt(correlation)
    each = common + np.sqrt(1 - correlation) * rng.standard_normal((400_000, 5))
    share = np.mean((each > stats.norm.isf(p)).sum(axis=1) >= 3)
    assert share == pytest.approx(1e-3, rel=0.2)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
@pytest.mark.parametrize(("k", "n"), [(3, 5), (1, 1), (2, 8)])
def test_the_opening_probability_is_the_inverse(k: int, n: int, correlation: float) -> None:
    for rate in (1e-6, 1e-3):
        p = exceedance_probability(rate, k, n, correlation)
        assert opening_probability(p, k, n, correlation) == pytest.approx(rate, rel=0.01)
    assert opening_probability(0.0, k, n, correlation) == 0


@pytest.mark.parametrize("count", [5, 100, 5000])
def test_a_tails_probability_is_the_inverse_of_its_quantile(count: int) -> None:
    tail = Tail.fit(_scores(count, 0.3, seed=1), 0.3)
    for p in (1e-8, 1e-3, 0.2):
        assert tail.probability(tail.quantile(p)) == pytest.approx(p, rel=1e-6)
    assert tail.probability(tail.median - 1) == 0.5
    assert tail.probability(tail.median + 1e6) == 0


def test_frames_that_repeat_each_other_may_exceed_as_seldom_as_the_rule_itself() -> None:
    assert exceedance_probability(1e-6, 3, 5, 1.0) == 1e-6
    assert exceedance_probability(1e-6, 1, 1, 0.0) == pytest.approx(1e-6, rel=0.01)
    falling = [exceedance_probability(1e-6, 3, 5, r) for r in (0, 0.3, 0.6, 0.9)]
    assert falling == sorted(falling, reverse=True)


def test_dependence_is_found_within_recordings_and_between_them() -> None:
    long = _scores(4000, 0.8, seed=3)
    assert dependence([long], 5) == pytest.approx(0.8, abs=0.06)
    assert dependence(list(long.reshape(400, 10)), 5) == pytest.approx(0.8, abs=0.06)
    assert dependence(list(long.reshape(4000, 1)), 5) == pytest.approx(0.8, abs=0.06)
    assert dependence([_scores(4000, 0, seed=3)], 5) < 0.1
    assert dependence([np.array([1.0])], 5) > 0.9


def test_the_rule_would_not_have_opened_on_the_held_out_normals() -> None:
    scores = _scores(2000, 0, seed=5)
    scores[700:703] = 9.0  # three in a row, as at a change of tools
    assert alert_threshold([scores], CALIBRATION) > 9.0
    scores[701] = 1.0  # two of five open nothing
    assert alert_threshold([scores], CALIBRATION) < 9.0


def test_few_normals_keep_the_threshold_above_the_largest() -> None:
    scores = _scores(40, 0, seed=2)
    scores[17] = 30.0
    assert alert_threshold([scores], CALIBRATION) > 30.0


@pytest.mark.parametrize("count", [1, 2, 5, 19])
def test_a_handful_of_equal_scores_still_leaves_room(count: int) -> None:
    found = thresholds([np.full(count, 0.5)], CALIBRATION)
    assert found.normals == count
    assert found.decision_threshold == pytest.approx(0.5)
    assert 0.55 < found.alert_threshold < 10


def test_zero_scores_give_positive_thresholds() -> None:
    found = thresholds([np.zeros(30)], CALIBRATION)
    assert 0 < found.decision_threshold <= found.alert_threshold


def test_longer_frames_and_more_allowed_alerts_lower_the_threshold() -> None:
    scores = [_scores(500, 0.2, seed=4)]
    default = alert_threshold(scores, CALIBRATION)
    values: dict[str, Any] = {
        "frame_s": 1.0,
        "k": 3,
        "n": 5,
        "false_alerts_per_30_days": 1.0,
        "decision_percentile": 95.0,
    }
    assert alert_threshold(scores, Calibration(**{**values, "frame_s": 10.0})) < default
    assert alert_threshold(scores, Calibration(**{**values, "false_alerts_per_30_days": 30.0})) < default
    assert alert_threshold(scores, Calibration(**{**values, "k": 1, "n": 1})) > default


def test_frames_that_come_seldom_may_each_exceed_more_often() -> None:
    scores = [_scores(500, 0.2, seed=4)]
    seldom = replace(CALIBRATION, every_s=1800.0)
    assert seldom.frames_in_30_days == 1440
    assert alert_threshold(scores, seldom) < alert_threshold(scores, CALIBRATION)
    assert alert_threshold(scores, seldom) == alert_threshold(scores, replace(CALIBRATION, frame_s=1800.0))
    runs: dict[str | None, list[np.ndarray]] = {"pump": scores}
    checked = check_false_alarms(runs, calibrate(runs, seldom), seldom)
    assert checked.overall.hours == pytest.approx(250)


def _percentile(percentile: float, level: Literal["rule", "frame"]) -> Calibration:
    return replace(CALIBRATION, threshold_method="percentile", threshold_level=level, alert_percentile=percentile)


def test_a_percentile_is_of_frames_or_of_what_the_rule_compares() -> None:
    runs = [_scores(2000, 0.3, seed=4), _scores(2000, 0.3, seed=5)]
    scores = np.concatenate(runs)
    found = alert_threshold(runs, _percentile(99, "frame"))
    assert np.mean(scores > found) == pytest.approx(0.01, abs=0.001)
    found = alert_threshold(runs, _percentile(90, "rule"))
    exceeding = np.convolve(scores > found, np.ones(5, int), mode="valid")
    assert np.mean(exceeding >= 3) == pytest.approx(0.1, abs=0.005)
    assert alert_threshold(runs, _percentile(95, "rule")) > found
    assert alert_threshold([np.array([1.0, 2.0])], _percentile(90, "rule")) == 1.0  # of two frames, three can't exceed


def test_a_tail_at_the_level_of_frames_allows_so_many_frames() -> None:
    runs = [_scores(2000, 0.3, seed=4)]
    allowed = replace(CALIBRATION, threshold_level="frame", false_alerts_per_30_days=30 * 86.4)  # one frame in 1000
    found = alert_threshold(runs, allowed)
    assert np.mean(_scores(500_000, 0.3, seed=6) > found) <= 1e-3
    assert found > alert_threshold(runs, replace(allowed, threshold_level="rule"))
    assert found < alert_threshold(runs, replace(allowed, false_alerts_per_30_days=1.0))


def test_machines_with_enough_frames_get_their_own() -> None:
    runs = {
        "calm": [_scores(MIN_OWN_FRAMES, 0, 1)],
        "loud": [3 * _scores(30, 0, 2)],
        "new": [_scores(MIN_OWN_FRAMES - 1, 0, 3)],
        None: [_scores(50, 0, 4)],
    }
    found = calibrate(runs, CALIBRATION)
    assert set(found.by_machine) == {"calm", "loud"}
    assert found.by_machine["loud"].decision_threshold > 2 * found.by_machine["calm"].decision_threshold
    assert found.pooled.normals == 119
    assert found.pooled.alert_threshold > found.by_machine["calm"].alert_threshold


def test_no_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="no held-out normal"):
        calibrate({}, CALIBRATION)


def test_the_gamma_shape_is_recovered() -> None:
    drawn = stats.gamma.rvs(1.2, size=5000, random_state=0)
    assert gamma_shape(drawn) == pytest.approx(1.2, rel=0.05)
    assert gamma_shape(drawn[:5]) == 1.0
