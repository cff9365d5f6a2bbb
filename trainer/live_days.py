"""What a machine's models said of it live, day by day, and what thresholds learn from that.

Held-out normals tell how a threshold would have done on the days that were learnt. How it does on the days after, which
no model had heard, is told by those days alone: by the scores of the models that served then, of frames of which nobody
disputes that they were normal. Each day counts by two numbers, in units that a later model has as well:

- its highest **opening score** (the score that k of n successive frames reach), as a multiple of the decision threshold
  of the model that gave it. The alert threshold becomes their upper tolerance limit: what a day's exceeds as seldom as
  is allowed, on the safe side of what so many days tell; within bounds about the threshold that held-out normals gave,
  and never less than what has been seen. So it tightens with every quiet day, and is raised where days turned out to
  differ more than those that were learnt;
- its **mean**, standardised and bounded as the early test adds scores up. The test's reference value lies above the
  upper limit of their mean, and above that of the last days.

A day costs two numbers, and at most :data:`MOST_DAYS` days count: the cost doesn't grow with what was heard.

Source: G. J. Hahn, W. Q. Meeker, "Statistical Intervals" (1991), section 4.6, for the tolerance limit of a normal
distribution, here of logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Final

import numpy as np
from scipy import stats

from schemas import Calibration, EarlyTest, Thresholds
from trainer.day_to_day import MOST
from trainer.early import ALLOWANCE, CONFIDENCE
from trainer.thresholds import Calibrated

MOST_DAYS: Final = 60
LEAST_DAYS: Final = 10  # fewer don't say more than the held-out normals
LAST_DAYS: Final = 3
TIGHTEST: Final = 0.5  # of the alert threshold that held-out normals gave
LOOSEST: Final = 3.0
SEEN: Final = 1.02  # times what was seen
SURE: Final = 0.9  # of the tolerance limit


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDay:
    """One day of a machine, as the models that served then scored it; what isn't known to be normal is left out.

    Attributes:
        day: Its number since the epoch, UTC.
        frames: So many were scored.
        opening: The highest score that k of n successive frames reached, in decision thresholds of its model.
        mean: Mean standardised score, in deviations of its model's normals, each bounded as in the early test; None
            where the model had no such test.
    """

    day: int
    frames: int
    opening: float
    mean: float | None


def held_to_days(calibrated: Calibrated, days: Sequence[LiveDay], calibration: Calibration) -> Calibrated:
    """Return thresholds that have learnt from what was live.

    Args:
        calibrated: What held-out normals gave; of one machine, whose days these are.
        days: Normal days, in order; too few change nothing but that what was seen must not alert.
        calibration: With the allowed false alarms.
    """
    if not days or calibration.threshold_method != "tail":
        return calibrated
    latest = days[-MOST_DAYS:]
    by_machine = {machine: _held(own, latest, calibration) for machine, own in calibrated.by_machine.items()}
    return Calibrated(_held(calibrated.pooled, latest, calibration), by_machine)


def tolerance_limit(openings: Sequence[float], calibration: Calibration) -> float:
    """Return what a day's opening score exceeds as seldom as is allowed, with a confidence of :data:`SURE`.

    Args:
        openings: Those of at least two days.
        calibration: With the allowed false alarms.
    """
    values, count = np.log(openings), len(openings)
    allowed = min(calibration.false_alerts_per_30_days / 30, 0.5)
    usual = float(stats.norm.isf(allowed))
    factor = float(stats.nct.ppf(SURE, count - 1, usual * sqrt(count))) / sqrt(count)
    limit = float(values.mean()) + factor * float(values.std(ddof=1))
    return exp(min(limit, float(values.max()) + log(MOST)))


def _held(thresholds: Thresholds, days: Sequence[LiveDay], calibration: Calibration) -> Thresholds:
    alert, decision = thresholds.alert_threshold, thresholds.decision_threshold
    openings = [one.opening for one in days]
    wanted = alert
    if len(days) >= LEAST_DAYS:
        wanted = min(max(decision * tolerance_limit(openings, calibration), TIGHTEST * alert), LOOSEST * alert)
    seen = min(SEEN * decision * max(openings), LOOSEST * alert)
    found = replace(thresholds, alert_threshold=max(wanted, seen, decision))
    if found.early is None:
        return found
    test = _raised(found.early, [one.mean for one in days if one.mean is not None])
    reaches = test.centre + test.reference * test.scale
    if reaches >= found.alert_threshold:
        why = f"days alone reach {reaches:.3g} in the mean, the alert threshold is {found.alert_threshold:.3g}"
        return replace(found, early=None, no_early=why)
    return replace(found, early=test)


def _raised(test: EarlyTest, means: Sequence[float]) -> EarlyTest:
    """Return a test whose reference value is above what days had in the mean."""
    if len(means) < LAST_DAYS:
        return test
    values = np.asarray(means, np.float64)
    upper = float(values.mean())
    if len(values) >= LEAST_DAYS:
        upper += float(stats.t.ppf(CONFIDENCE, len(values) - 1)) * float(values.std(ddof=1)) / sqrt(len(values))
    reference = max(test.reference, max(upper, float(values[-LAST_DAYS:].mean())) + ALLOWANCE)
    return replace(test, reference=reference, most=max(test.most, reference + 2 * ALLOWANCE))
