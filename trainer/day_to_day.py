"""How much days differ: what a threshold must leave for a day like none of those that were learnt.

Frames of one day resemble each other, by load, weather and product, far longer than successive ones do; so many frames
of few days are worth few days. Where recordings tell when they were made, and were made on several days, two things
follow from scores of normals that the graph was not fitted on, day by day:

- the **alert threshold** lies at least where the next day's highest opening score (the score that k of n frames
  reach) comes to lie as seldom as is allowed: the upper prediction limit of one more value of a normal distribution,
  for the logarithms of the days' own, with Student's t for so few of them;
- the **inflation** of the variance of long sums, which the test for early findings needs, is that of the method of
  batch means with days as batches: frames a day times the variance of the days' means, over the variance of frames,
  at the upper limit that so few days leave.

Sources: G. J. Hahn, W. Q. Meeker, "Statistical Intervals" (1991), section 4.8, for the prediction limit;
C. Alexopoulos, A. F. Seila, "Implementing the batch means method in simulation experiments" (1996).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log, sqrt
from typing import Final

import numpy as np
from scipy import stats

from schemas import Calibration
from trainer.exceedance import Runs, Scores

LEAST_DAYS: Final = 4
LEAST_OF_A_DAY: Final = 5  # frames; fewer tell nothing of a day
DAY_US: Final = 86_400_000_000
CONFIDENCE: Final = 0.8  # of the variance between days
MOST: Final = 10.0  # times the highest of all days


def by_day(runs: Runs, recordings: Sequence[str], starts_us: Mapping[str, int]) -> list[Scores]:
    """Return the scores of each day, in the order of time; empty where they don't tell how days differ.

    Args:
        runs: Scores, one array a recording.
        recordings: The name of each.
        starts_us: By name, when it began, microseconds since the epoch, as far as that is known.
    """
    if not all(name in starts_us for name in recordings):
        return []
    days: dict[int, list[tuple[int, Scores]]] = {}
    for run, name in zip(runs, recordings, strict=True):
        days.setdefault(starts_us[name] // DAY_US, []).append((starts_us[name], run))
    ordered = (np.concatenate([run for _, run in sorted(days[day], key=lambda one: one[0])]) for day in sorted(days))
    found = [day for day in ordered if len(day) >= LEAST_OF_A_DAY]
    return found if len(found) >= LEAST_DAYS else []


def alert_limit(opening: Sequence[float], calibration: Calibration) -> float:
    """Return the score that one more day's opening score exceeds as seldom as is allowed.

    Args:
        opening: Each day's highest opening score.
        calibration: With the allowed false alarms.
    """
    values = np.log(np.maximum(np.asarray(opening, np.float64), np.finfo(np.float32).tiny))
    allowed = min(calibration.false_alerts_per_30_days / 30, 0.5)
    t = float(stats.t.isf(allowed, len(values) - 1))
    limit = float(values.mean()) + t * float(values.std(ddof=1)) * sqrt(1 + 1 / len(values))
    return exp(min(limit, float(values.max()) + log(MOST)))  # a day whose score is nearly 0 must not deafen


def sum_inflation(days: Sequence[Scores]) -> float:
    """Return by how much days' differences inflate the variance of long sums of scores, on the safe side; at least 1.

    Args:
        days: Scores by day, standardised and bounded as they will be added up.
    """
    within = float(np.concatenate(days).var(ddof=1))
    if within <= 0:
        return 1.0
    frames = len(np.concatenate(days)) / len(days)
    between = float(np.var([day.mean() for day in days], ddof=1))
    freedom = len(days) - 1
    looseness = freedom / float(stats.chi2.ppf(1 - CONFIDENCE, freedom))
    return max(1.0, frames * between * looseness / within)
