"""What live days do to thresholds: tighten them when quiet, raise them when days differ more than was learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from schemas import Calibration, EarlyTest, Thresholds
from trainer.live_days import LEAST_DAYS, LOOSEST, TIGHTEST, LiveDay, held_to_days
from trainer.thresholds import Calibrated

MACHINE = "pump-1"
CALIBRATION = Calibration(frame_s=1.0, every_s=1800.0, k=3, n=5, false_alerts_per_30_days=1.0, decision_percentile=95)
EARLY = EarlyTest(
    centre=1.0,
    scale=0.5,
    most=4.0,
    reference=1.3,
    threshold=20.0,
    false_findings_per_30_days=1.0,
    normals=400,
    correlation=0.2,
    effective_normals=250.0,
)
LEARNT = Thresholds(decision_threshold=2.0, alert_threshold=6.0, normals=400, early=EARLY)


def days(openings: list[float], mean: float | None = 0.1) -> list[LiveDay]:
    return [LiveDay(day=20_000 + i, frames=48, opening=one, mean=mean) for i, one in enumerate(openings)]


def held(live: list[LiveDay], calibration: Calibration = CALIBRATION) -> Thresholds:
    return held_to_days(Calibrated(LEARNT, {MACHINE: LEARNT}), live, calibration).of(MACHINE)


def quiet(count: int, spread: float = 0.1, middle: float = 1.0, seed: int = 0) -> list[float]:
    return np.exp(np.random.default_rng(seed).normal(np.log(middle), spread, count)).tolist()


def test_quiet_days_tighten_the_alert_threshold_and_more_of_them_tighten_it_more() -> None:
    found = []
    for count in (LEAST_DAYS, 60):
        typical = stats.norm.ppf((np.arange(count) + 0.5) / count)
        found.append(held(days(np.exp(0.3 * typical / typical.std(ddof=1)).tolist())).alert_threshold)
    assert LEARNT.alert_threshold > found[0] > found[1] > LEARNT.decision_threshold


def test_few_days_tighten_nothing() -> None:
    assert held(days(quiet(LEAST_DAYS - 1))) == LEARNT


def test_days_that_differ_more_than_was_learnt_raise_it() -> None:
    wild = held(days(quiet(20, 0.6, 2.0)))
    assert wild.alert_threshold > LEARNT.alert_threshold


def test_what_was_seen_and_was_normal_must_not_alert_however_few_the_days() -> None:
    assert held(days([1.0, 4.0])).alert_threshold == pytest.approx(1.02 * 2.0 * 4.0)


@pytest.mark.parametrize(("opening", "bound"), [(0.01, TIGHTEST), (1e6, LOOSEST)])
def test_days_move_it_within_bounds(opening: float, bound: float) -> None:
    assert held(days([opening] * 30)).alert_threshold == pytest.approx(bound * LEARNT.alert_threshold)


def test_it_is_wrong_about_the_next_days_as_seldom_as_promised() -> None:
    """30 days after 20, each machine its own: nine of ten machines alarm at most once, as is promised."""
    often = 0
    for seed in range(300):
        openings = quiet(20, 0.4, 1.0, seed)
        limit = held(days(openings)).alert_threshold / LEARNT.decision_threshold
        often += float(stats.norm.sf(np.log(limit) / 0.4)) > 1 / 30
    assert 0.05 < often / 300 < 0.15


def test_the_early_test_asks_for_more_where_days_lie_higher_than_what_was_learnt() -> None:
    live = days(quiet(20), mean=0.9)
    found = held(live).early
    assert found is not None
    assert found.reference == pytest.approx(1.9)
    assert held(days(quiet(20), mean=-0.5)).early == EARLY  # never for less


def test_the_last_days_count_for_themselves() -> None:
    live = days(quiet(20), mean=0.0)
    live[-3:] = [replace(one, mean=1.2) for one in live[-3:]]
    found = held(live).early
    assert found is not None
    assert found.reference == pytest.approx(2.2)


def test_days_that_reach_the_alert_threshold_in_the_mean_leave_no_early_test_and_it_is_said() -> None:
    found = held(days(quiet(20), mean=30.0))
    assert found.early is None
    assert "alert threshold" in found.no_early


def test_a_threshold_that_was_asked_for_as_a_percentile_is_left_alone() -> None:
    asked = replace(CALIBRATION, threshold_method="percentile", alert_percentile=99.0)
    assert held(days([50.0] * 20), asked) == LEARNT
