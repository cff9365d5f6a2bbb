"""What thresholds promise: kept by simulated machines, and checked against held-out normals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas import Calibration
from stream_app.pipeline.rule import Rule
from tests.trainer.scores import MARGINS, autocorrelated, count_openings
from trainer.false_alarms import FOLDS, FalseAlarmCheck, check_false_alarms, openings
from trainer.thresholds import alert_threshold, calibrate

CALIBRATION = Calibration(frame_s=1.0, k=3, n=5, false_alerts_per_30_days=1.0, decision_percentile=95)
DAY = 86_400


def _check(runs: dict[str | None, list[np.ndarray]], calibration: Calibration = CALIBRATION) -> FalseAlarmCheck:
    return check_false_alarms(runs, calibrate(runs, calibration), calibration)


# The bounds leave room for another seed: of 200 trainings each, 98 % kept the allowed rate with lognormal scores, whose
# tail is heavier than what is fitted, and 99.5 % with the others; the worst came to 3.2 openings a day.
@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("margin", MARGINS)
def test_most_trainings_keep_the_allowed_openings_a_day(margin: str, correlation: float) -> None:
    days, allowed_per_day, trainings = 5, 1.0, 40
    future = autocorrelated(days * DAY, correlation, 1, MARGINS[margin])
    calibration = replace(CALIBRATION, false_alerts_per_30_days=30 * allowed_per_day)
    found = [
        alert_threshold([autocorrelated(300, correlation, 100 + seed, MARGINS[margin])], calibration)
        for seed in range(trainings)
    ]
    per_day = np.array([count_openings(future, threshold) for threshold in found]) / days
    kept = 0.9 if margin == "lognormal" else 0.95
    assert np.mean(per_day <= allowed_per_day) >= kept
    assert np.median(per_day) <= allowed_per_day
    assert per_day.max() <= 5 * allowed_per_day


def test_openings_are_counted_with_the_workers_rule() -> None:
    scores = autocorrelated(20_000, 0.5, 3, MARGINS["gamma"])
    for threshold in (0.5, 1.5, 2.5):
        assert openings(scores, threshold, Rule()) == count_openings(scores, threshold)
    assert openings(np.array([0.0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 2, 2, 2]), 1.0, Rule()) == 2


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7])
def test_what_is_expected_bounds_what_comes(margin: str, correlation: float) -> None:
    calibration = replace(CALIBRATION, threshold_method="percentile", threshold_level="frame", alert_percentile=95.0)
    runs = [autocorrelated(1000, correlation, 7, MARGINS[margin])]
    check = _check({"pump": runs}, calibration)
    threshold = alert_threshold(runs, calibration)
    future = autocorrelated(5 * DAY, correlation, 8, MARGINS[margin])
    assert count_openings(future, threshold) / 5 <= check.overall.openings.expected_per_day
    # A 95th percentile lies in the midst of the data, where there is nothing to extrapolate.
    assert check.overall.frames.expected_per_day == pytest.approx(np.sum(future > threshold) / 5, rel=0.5)


def test_a_target_is_expected_to_be_kept_and_is_seen_kept() -> None:
    check = _check({"pump": [autocorrelated(2000, 0.3, 1, MARGINS["gamma"])]})
    rate = check.overall.openings
    assert check.target_per_day == pytest.approx(1 / 30)
    assert 0 < rate.expected_per_day <= check.target_per_day * 1.01
    assert (rate.observed, rate.left_out, check.exceeded) == (0, 0, False)
    assert check.overall.hours == pytest.approx(2000 / 3600)
    # No event in a time leaves a rate of up to 3 in that time (the rule of three).
    assert rate.at_most_per_day == pytest.approx(3.0 / (2000 / DAY), rel=0.01)


def test_normals_that_change_over_time_are_found_out_on_left_out_fifths() -> None:
    calm = autocorrelated(500, 0.0, 1, MARGINS["normal"])
    calm[400:] += np.tile([0.0] * 10 + [9.0] * 10, 5)  # a way to run that the first four fifths don't know
    check = _check({"pump": [calm]}, replace(CALIBRATION, false_alerts_per_30_days=30.0))
    assert check.overall.openings.observed == 0  # thresholds made from it allow it
    assert check.overall.openings.left_out == 5
    assert check.exceeded


def test_a_percentile_has_no_target_and_shows_what_it_costs() -> None:
    calibration = replace(CALIBRATION, threshold_method="percentile", alert_percentile=99.0)
    check = _check({None: [autocorrelated(3000, 0.3, 1, MARGINS["gamma"])]}, calibration)
    assert (check.target_per_day, check.exceeded) == (None, False)
    assert check.overall.openings.observed > 0
    assert check.overall.openings.expected_per_day > 100


def test_machines_are_added_up_per_machine_and_day() -> None:
    names: list[str | None] = ["a", "b", None]
    runs = {name: [autocorrelated(300 + 100 * i, 0.0, i, MARGINS["gamma"])] * 2 for i, name in enumerate(names)}
    check = _check(runs, replace(CALIBRATION, threshold_method="percentile", alert_percentile=90.0))
    assert [own.machine for own in check.machines] == names
    for kind in ("openings", "frames"):
        rates = [getattr(own, kind) for own in check.machines]
        assert getattr(check.overall, kind).observed == sum(rate.observed for rate in rates)
        expected = [rate.expected_per_day for rate in rates]
        assert min(expected) <= getattr(check.overall, kind).expected_per_day <= max(expected)
    assert check.overall.hours == pytest.approx(sum(own.hours for own in check.machines))
    assert {"held_out_hours", "expected_openings_per_day", "observed_openings_per_day/unnamed"} <= set(check.figures())
    assert all(np.isfinite(list(check.figures().values())))


@pytest.mark.parametrize("count", [1, 2, FOLDS - 1, FOLDS, 20])
def test_a_handful_of_frames_can_be_checked(count: int) -> None:
    check = _check({"pump": [np.array([1.0 + i]) for i in range(count)]})
    assert check.overall.hours == pytest.approx(count / 3600)
    assert not check.exceeded or count >= FOLDS
