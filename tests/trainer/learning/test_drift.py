"""Drift: how often days that only differ seem to have drifted, and how soon a drift is found."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.learning.drift import DAY_US, DailyMedians, Drift, drifts

TRIALS = 200
DAYS = 30
NAMES = ("score", "rms_mean", "zcr_mean")


def _days(rng: np.random.Generator, correlation: float, count: int = DAYS) -> np.ndarray:
    """Autocorrelated days of unit variance, float64 [day, quantity]."""
    values = rng.normal(size=(count, len(NAMES)))
    for day in range(1, count):
        values[day] = correlation * values[day - 1] + np.sqrt(1 - correlation**2) * values[day]
    return values


def _first(values: np.ndarray) -> int | None:
    """The day after which a drift is found first, looked for every day."""
    for day in range(1, len(values) + 1):
        by_name = {name: values[:day, number] for number, name in enumerate(NAMES)}
        if drifts(np.arange(day), by_name, false_per_30_days=1.0):
            return day
    return None


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_days_that_do_not_drift_seem_to_less_often_than_promised(correlation: float) -> None:
    rng = np.random.default_rng(7)
    found = sum(_first(_days(rng, correlation)) is not None for _ in range(TRIALS))
    # Promised: one in 30 days in the mean, so that at most 63 % of months have one.
    assert found / TRIALS < 0.63


def test_a_step_is_found_within_days_and_told_from_when_and_how_far() -> None:
    rng = np.random.default_rng(3)
    values = _days(rng, 0.0, 20)
    values[14:, 1] += 8.0
    day = _first(values)
    assert day is not None
    assert 15 <= day <= 18
    by_name = {name: values[:18, number] for number, name in enumerate(NAMES)}
    found = drifts(np.arange(18) + 20_000, by_name, false_per_30_days=1.0)[0]
    assert isinstance(found, Drift)
    assert found.name == "rms_mean"
    assert 20_010 <= found.since_us / DAY_US <= 20_014  # days before it may lie on the same side by chance
    assert found.deviations > 2


def test_a_slope_is_told_with_how_fast_it_goes() -> None:
    rng = np.random.default_rng(5)
    values = 0.2 * rng.normal(size=30)
    values[18:] -= 0.5 * np.arange(12)
    (found,) = drifts(np.arange(30), {"score": values}, false_per_30_days=1.0)
    assert found.deviations < -1
    assert found.per_day < 0


def test_few_days_tell_nothing() -> None:
    values = np.array([0.0, 0.1, 0.0, 0.1, 50.0, 50.0, 50.0])
    assert drifts(np.arange(7), {"score": values}, false_per_30_days=1.0) == []


def test_a_day_is_its_median_and_counts_when_it_is_over() -> None:
    medians = DailyMedians(("a", "b"))
    for hour in range(30):
        medians.add(hour * DAY_US // 24, (float(hour), -1.0))
    days, values = medians.days()
    assert days.tolist() == [0]
    assert values.tolist() == [[11.5, -1.0]]


def test_a_day_with_few_frames_does_not_count() -> None:
    medians = DailyMedians(("a",))
    for at in (0, 1, 2, DAY_US, 2 * DAY_US):
        medians.add(at, (1.0,))
    assert medians.days()[0].tolist() == []


def test_days_that_are_known_to_be_usual_are_what_the_last_ones_are_held_against() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=30)
    values[15:] += 12.0

    def found(reference: int) -> int:
        return len(drifts(np.arange(30), {"score": values}, false_per_30_days=1.0, reference=reference))

    assert [found(0), found(7), found(27)] == [1, 1, 0]
    assert found(100) == found(27)  # the last days are never their own reference
