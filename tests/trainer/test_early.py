"""Tests for early findings, held against simulated time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from schemas import Calibration, EarlyTest
from tests.trainer.scores import autocorrelated
from trainer.early import early_test, run_length_threshold, with_early_tests
from trainer.thresholds import calibrate

CALIBRATION = Calibration(frame_s=1.0, k=3, n=5, false_alerts_per_30_days=1.0, decision_percentile=95)
PROMISED = 20_000  # frames for each false finding
SOON = replace(CALIBRATION, false_alerts_per_30_days=30 * 86_400 / PROMISED)


Runs = dict[str | None, list[np.ndarray]]


def scores(count: int, correlation: float, seed: int) -> np.ndarray:
    """Gamma-distributed scores around 1 with a deviation of 0.25; an AR(1) process of Gaussians behind them."""
    return autocorrelated(count, correlation, seed, lambda p: stats.gamma.isf(p, 16) / 16)


def made(found: EarlyTest | str) -> EarlyTest:
    assert isinstance(found, EarlyTest), found
    return found


def crossings(test: EarlyTest, values: np.ndarray) -> list[int]:
    """Return at which frames the sum reaches the threshold, from where it begins anew."""
    total, found = 0.0, []
    for number, value in enumerate(np.minimum((values - test.centre) / test.scale, test.most).tolist()):
        total = max(0.0, total + value - test.reference)
        if total >= test.threshold:
            found.append(number)
            total = 0.0
    return found


@pytest.mark.parametrize(("correlation", "normals"), [(0.0, 40), (0.0, 200), (0.5, 100), (0.8, 200)])
def test_false_findings_are_as_rare_as_promised_in_nine_of_ten_trainings(correlation: float, normals: int) -> None:
    counts = []
    for seed in range(20):
        values = scores(normals + PROMISED, correlation, seed)
        test = early_test([values[:normals]], SOON)
        if isinstance(test, EarlyTest):
            counts.append(len(crossings(test, values[normals:])))
    assert len(counts) >= 15
    assert sum(count > 1 for count in counts) <= len(counts) // 10 + 1
    assert np.mean(counts) < 2


def test_a_shift_that_no_single_frame_shows_is_found_within_minutes() -> None:
    test = made(early_test([scores(120, 0.0, seed=1)], CALIBRATION))
    shifted = scores(600, 0.0, seed=2) + 0.5  # two deviations
    assert crossings(test, shifted)[0] < 60
    assert not crossings(test, scores(10_000, 0.0, seed=3))


def test_correlation_and_few_normals_ask_for_more_evidence() -> None:
    thresholds = [made(early_test([scores(*data, seed=5)], CALIBRATION)).threshold for data in [(300, 0.0), (300, 0.6)]]
    assert thresholds[1] > 2 * thresholds[0]
    few, many = (made(early_test([scores(n, 0.0, seed=5)], CALIBRATION)) for n in (30, 1000))
    assert few.reference + few.threshold > many.reference + many.threshold


def test_what_came_last_counts_as_normal_too() -> None:
    values = scores(100, 0.0, seed=4)
    risen = np.concatenate([values[:80], values[80:] + 0.3])
    before, after = (made(early_test([run], CALIBRATION)) for run in (values, risen))
    last = float(((risen[80:] - after.centre) / after.scale).mean())
    assert after.reference >= last + 1 - 0.1
    assert after.reference > before.reference


def test_normals_that_drift_apart_give_no_test_and_say_so() -> None:
    blocks = [np.full(25, level) + 0.01 * scores(25, 0.0, seed) for seed, level in enumerate([1.0, 3.0, 1.5, 4.0, 2.0])]
    why = early_test(blocks, CALIBRATION)
    assert isinstance(why, str)
    assert "normals drift" in why


@pytest.mark.parametrize("seed", range(5))
def test_few_normals_that_do_not_drift_are_called_few(seed: int) -> None:
    why = early_test(np.split(scores(16, 0.0, seed), 4), CALIBRATION)
    assert isinstance(why, str)
    assert why.startswith("too few normals: 16 frames")


@pytest.mark.parametrize("runs", [[], [np.array([1.0, 2.0])]])
def test_too_few_normals_give_no_test_and_say_so(runs: list[np.ndarray]) -> None:
    why = early_test(runs, CALIBRATION)
    assert isinstance(why, str)
    assert "normal frames" in why


def test_scores_that_are_all_alike_give_finite_numbers() -> None:
    found = early_test([np.full(200, 2.0)], CALIBRATION)
    assert isinstance(found, str) or np.isfinite([found.centre, found.scale, found.reference, found.threshold]).all()


def test_thresholds_of_machines_and_of_all_carry_their_own_tests() -> None:
    runs: Runs = {"a": [scores(60, 0.0, 1)], "b": [scores(60, 0.0, 2) + 3]}
    found = with_early_tests(calibrate(runs, CALIBRATION), runs, CALIBRATION)
    tests = [made(found.by_machine[name].early or found.by_machine[name].no_early) for name in ("a", "b")]
    assert [test.normals for test in tests] == [60, 60]
    assert tests[1].centre == pytest.approx(tests[0].centre + 3, abs=0.2)
    pooled = made(found.pooled.early or found.pooled.no_early)  # of two machines in one, so it takes far more
    assert pooled.threshold * pooled.scale > 10 * tests[0].threshold * tests[0].scale


def test_no_test_where_the_alarm_is_quicker() -> None:
    runs: Runs = {"a": [scores(60, 0.0, 1)]}
    calibrated = calibrate(runs, CALIBRATION)
    low = replace(calibrated, by_machine={"a": replace(calibrated.by_machine["a"], alert_threshold=1.0)})
    found = with_early_tests(low, runs, CALIBRATION).by_machine["a"]
    assert found.early is None
    assert "alert threshold" in found.no_early


def test_the_run_length_is_that_of_a_random_walk() -> None:
    threshold = run_length_threshold(2_000, 0.5, 1.0)
    rng = np.random.default_rng(0)
    total, lengths = np.zeros(400), np.zeros(400)
    alive = np.ones(400, bool)
    for _ in range(40_000):
        total = np.maximum(0.0, total + rng.normal(-0.5, 1.0, 400))
        lengths += alive
        alive &= total < threshold
        if not alive.any():
            break
    assert lengths.mean() > 2_000  # a walk overshoots where the motion doesn't, and so is on the safe side
    assert lengths.mean() < 10_000
