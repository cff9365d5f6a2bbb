"""Tests for early findings: what a CUSUM of normal scores needs, so that it finds something at most so often.

Scores are standardised by the normals' median and deviation, and at most four deviations count. The test's numbers come
from normals that the scoring graph was not fitted on, each on the safe side of what so few can tell:

- the **correlation** of successive frames is its upper limit, corrected for the bias of short series; the sum of
  correlated scores has the variance of independent ones times (1 + r) / (1 - r), and so few *effective* normals there
  are;
- the **variance** is the upper limit that so many effective normals leave;
- the **reference value** lies one deviation above the larger of two means: the upper limit of that of all normals, and
  that of the last fifth, since what is recorded next resembles what was recorded last;
- the **threshold** is such that a Brownian motion of this variance, which falls by one deviation a frame, reaches it
  once in the promised time. Its increments are bounded above, which the motion's are not.

Where successive normals resemble each other so much that they are worth less than ten, they drift: no threshold would
both hold its promise and find anything, so there is no test. Where so few in random order would be worth no more, it is
not their drift: there are too few of them.

Sources: M. R. Reynolds, "Approximations to the average run length in cumulative sum control charts" (1975), for the
Brownian motion's run length; F. H. C. Marriott and J. A. Pope, "Bias in the estimation of autocorrelations" (1954).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import exp, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from schemas import Calibration, EarlyTest, Thresholds
from trainer.day_to_day import sum_inflation
from trainer.exceedance import Runs, dependence
from trainer.fusion import NORMAL_MAD
from trainer.thresholds import Calibrated

Float64 = NDArray[np.float64]

ALLOWANCE: Final = 1.0  # deviations
MOST: Final = 4.0  # deviations
CONFIDENCE: Final = 0.95  # of the mean
VARIANCE_CONFIDENCE: Final = 0.8
LAGS: Final = 5
LAST: Final = 5  # the last fifth
LEAST_EFFECTIVE: Final = 10.0
ORDERS: Final = 50
OFTEN: Final = 0.1  # of the orders
_LEAST_VARIANCE: Final = 0.8  # of a standardised score: what lies closer together has not shown its tails


def with_early_tests(
    calibrated: Calibrated,
    runs_by_machine: Mapping[str | None, Runs],
    calibration: Calibration,
    days_by_machine: Mapping[str | None, Runs] | None = None,
) -> Calibrated:
    """Return thresholds with tests for early findings, or with why there are none.

    Args:
        calibrated: Without them.
        runs_by_machine: Scores of normal frames that the scoring graph was not fitted on, per machine (None: not
            named), one array a recording, in time order.
        calibration: Frame length, and the allowed false findings.
        days_by_machine: The same by day, of machines that were recorded on several (:mod:`trainer.day_to_day`).
    """
    days_by_machine = days_by_machine or {}
    everything = [run for runs in runs_by_machine.values() for run in runs]
    by_machine = {
        machine: _with_test(own, runs_by_machine.get(machine, ()), calibration, days_by_machine.get(machine, ()))
        for machine, own in calibrated.by_machine.items()
    }
    only = next(iter(days_by_machine.values())) if len(runs_by_machine) == len(days_by_machine) == 1 else ()
    return Calibrated(_with_test(calibrated.pooled, everything, calibration, only), by_machine)


def _with_test(thresholds: Thresholds, runs: Runs, calibration: Calibration, days: Runs) -> Thresholds:
    test = early_test(runs, calibration, days)
    if isinstance(test, str):
        return replace(thresholds, no_early=test)
    reaches = test.centre + test.reference * test.scale
    if reaches >= thresholds.alert_threshold:
        why = f"normals alone reach {reaches:.3g} in the mean, the alert threshold is {thresholds.alert_threshold:.3g}"
        return replace(thresholds, no_early=why)
    return replace(thresholds, early=test)


def early_test(runs: Runs, calibration: Calibration, days: Runs = ()) -> EarlyTest | str:
    """Return the test that normals give, or why they give none; see the module's text.

    Args:
        runs: Scores of normal frames, one array a recording, in time order.
        calibration: Frame length, and the allowed false findings.
        days: The scores by day, where they are of several.
    """
    scores = np.concatenate([np.zeros(0), *(np.asarray(run, np.float64) for run in runs)])
    count = len(scores)
    if count < LEAST_EFFECTIVE:
        return f"{count} normal frames; expected {LEAST_EFFECTIVE:g} or more"
    correlation = _correlation(runs, count)
    inflation = max(_inflation(correlation), _of_days(scores, days))
    effective = count / inflation
    if effective < LEAST_EFFECTIVE:
        if _few_in_any_order(runs, scores):
            return f"too few normals: {count} frames don't tell how alike successive ones are; record more"
        return (
            f"normals drift: {count} frames with a correlation of {correlation:.2f} tell as much as "
            f"{effective:.1f} independent ones; expected {LEAST_EFFECTIVE:g} or more"
        )
    centre, scale = _standard(scores)
    standard = np.minimum((scores - centre) / scale, MOST)
    mean = float(standard.mean())
    freedom = effective - 1
    upper = mean + float(stats.t.ppf(CONFIDENCE, freedom)) * float(standard.std(ddof=1)) / sqrt(effective)
    last = float(standard[-max(1, count // LAST) :].mean())
    reference = max(upper, last) + ALLOWANCE
    looseness = freedom / float(stats.chi2.ppf(1 - VARIANCE_CONFIDENCE, freedom))
    variance = max(float(standard.var(ddof=1)), _LEAST_VARIANCE) * looseness * inflation
    frames = calibration.frames_in_30_days / calibration.false_alerts_per_30_days
    return EarlyTest(
        centre=centre,
        scale=scale,
        most=max(MOST, reference + 2 * ALLOWANCE),
        reference=reference,
        threshold=run_length_threshold(frames, ALLOWANCE, variance),
        false_findings_per_30_days=calibration.false_alerts_per_30_days,
        normals=count,
        correlation=correlation,
        effective_normals=effective,
    )


def run_length_threshold(frames: float, drift: float, variance: float) -> float:
    """Return the threshold that a CUSUM reaches once in so many frames, at least its smallest sensible value.

    Args:
        frames: Mean run length wanted, at least 1.
        drift: By so much the sum falls a frame, in the mean.
        variance: Of its increments, a frame; of correlated ones that of long sums.
    """

    def surplus(u: float) -> float:
        return variance / (2 * drift**2) * (exp(u) - 1 - u) - frames

    exponent = optimize.brentq(surplus, 0.0, 100.0)
    return max(float(exponent) * variance / (2 * drift), drift)


def _inflation(correlation: float) -> float:
    return (1 + correlation) / (1 - correlation)


def _of_days(scores: Float64, days: Runs) -> float:
    if not days:
        return 1.0
    centre, scale = _standard(scores)
    return sum_inflation([np.minimum((day - centre) / scale, MOST) for day in days])


def _standard(scores: Float64) -> tuple[float, float]:
    """Return by what scores are standardised."""
    centre = float(np.median(scores))
    deviation = NORMAL_MAD * float(np.median(np.abs(scores - centre)))
    return centre, max(deviation, _LEAST_VARIANCE * float(scores.std(ddof=1)), 0.02 * centre, 1e-12)


def _few_in_any_order(runs: Runs, scores: Float64) -> bool:
    """Whether scores that are known not to drift, these in random order, would often be worth too little as well."""
    rng = np.random.default_rng(0)
    borders = np.cumsum([len(run) for run in runs])[:-1]
    orders = [np.split(rng.permutation(scores), borders) for _ in range(ORDERS)]
    worth = [len(scores) / _inflation(_correlation(order, len(scores))) for order in orders]
    return float(np.mean(np.array(worth) < LEAST_EFFECTIVE)) > OFTEN


def _correlation(runs: Runs, count: int) -> float:
    """Return the upper limit of the correlation of successive frames: a standard error more, and the bias."""
    found = dependence(runs, LAGS)  # half a standard error is in it
    return min(found + 0.5 / sqrt(count) + (1 + 3 * found) / count, 0.99)
