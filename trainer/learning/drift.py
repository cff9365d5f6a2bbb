"""Whether a machine has drifted: its days since a moment, held against the days that its model was learnt from.

Within a day successive values resemble each other by an unknown amount, so a day counts as one value, its median, and
only the differences between days say what is usual. The last days' mean is compared with that of the first half by
Welch's t-test (the second half may be on its way already), and resemblance between days widens it: so many days are
worth fewer independent ones. Tested once a day, of several quantities at once, at a level at which all tests together
are wrong once in a stated time.

Sources: B. L. Welch, "The generalization of Student's problem" (1947); for the worth of correlated values, G. Zieba,
"Effective number of observations and unbiased estimators of variance for autocorrelated data" (2010).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEAST_DAYS: Final = 5  # fewer don't tell how days differ
RECENT_DAYS: Final = 3
DAY_US: Final = 86_400_000_000
LEAST_OF_A_DAY: Final = 5  # values, for a day to count

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """A quantity that has moved.

    Attributes:
        name: Which.
        since_us: From when on its values lie on one side of what was usual.
        deviations: By how much, in standard deviations between days.
        per_day: How fast, in those a day, over the days since.
        p: How seldom days that have not drifted look so different.
    """

    name: str
    since_us: int
    deviations: float
    per_day: float
    p: float


class DailyMedians:
    """The median of each day of several quantities, from values that come in the order of time, a day's at a time.

    Args:
        names: Of the quantities.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._days: dict[int, Float64] = {}
        self._today: int | None = None
        self._values: list[Sequence[float]] = []

    def add(self, at_us: int, values: Sequence[float]) -> None:
        """Take the values of one frame, one of each quantity, recorded at ``at_us``."""
        day = at_us // DAY_US
        if day != self._today:
            self._close()
            self._today = day
        self._values.append(values)

    def days(self) -> tuple[NDArray[np.int64], Float64]:
        """Return the days that are over, as numbers since the epoch, and their medians, float64 [day, quantity]."""
        days = np.array(sorted(self._days), np.int64)
        return days, np.array([self._days[int(day)] for day in days]).reshape(len(days), len(self.names))

    def _close(self) -> None:
        if self._today is not None and len(self._values) >= LEAST_OF_A_DAY:
            self._days[self._today] = np.median(np.array(self._values, np.float64), axis=0)
        self._values = []


def drifts(
    days: NDArray[np.int64],
    medians: Mapping[str, Float64],
    *,
    false_per_30_days: float,
    recent: int = RECENT_DAYS,
    reference: int = 0,
) -> list[Drift]:
    """Return the quantities whose last days differ from the days before, the most certain first.

    Args:
        days: Numbers of the days, ascending, int64 [day].
        medians: By quantity its median on each day, float64 [day].
        false_per_30_days: So often all quantities together may seem to have drifted when none has.
        recent: Days at the end that are held against the reference.
        reference: So many days at the beginning are known to be usual; at least the first half is taken for it.
    """
    if len(days) < LEAST_DAYS + recent or not medians:
        return []
    # A few days alone don't tell how days differ, even if they are all that was learnt: with seven, steps of eight
    # deviations stay unfound.
    usual = min(max(LEAST_DAYS, len(days) // 2, reference), len(days) - recent)
    level = false_per_30_days / 30 / len(medians)
    found = []
    for name, values in medians.items():
        before, last = values[:usual], values[-recent:]
        spread = float(before.std(ddof=1))
        if spread <= 0:
            continue
        p = _welch(before, last)
        if p < level:
            deviations = float(last.mean() - before.mean()) / spread
            first = _since(values, float(before.mean()), deviations > 0)
            per_day = _slope(days[first:], values[first:]) / spread
            found.append(Drift(name, int(days[first]) * DAY_US, deviations, per_day, p))
    return sorted(found, key=lambda one: one.p)


def _welch(before: Float64, last: Float64) -> float:
    """Return how seldom days that have not drifted differ so much in the mean, two-sided."""
    inflation = _inflation(before)
    worth = max(len(before) / inflation, 2.0)
    variance = float(before.var(ddof=1))
    of_last = max(float(last.var(ddof=1)), variance)  # three days don't tell their spread
    error = sqrt(variance / worth + of_last * min(inflation, len(last)) / len(last))
    t = (float(last.mean()) - float(before.mean())) / error
    return 2 * float(stats.t.sf(abs(t), worth - 1))


def _inflation(values: Float64) -> float:
    """Return how many correlated values are worth one, by their lag-one correlation and a standard error more."""
    centred = values - values.mean()
    found = float((centred[:-1] * centred[1:]).sum() / max((centred**2).sum(), 1e-300))
    upper = min(max(found, 0.0) + 1 / sqrt(len(values)), 0.9)
    return (1 + upper) / (1 - upper)


def _since(values: Float64, usual: float, above: bool) -> int:
    """Return the first place from which on all values lie on one side of what is usual."""
    sides = (values > usual) == above
    others = np.flatnonzero(~sides)
    return min(int(others[-1]) + 1 if len(others) else 0, len(values) - 1)


def _slope(days: NDArray[np.int64], values: Float64) -> float:
    return float(np.polyfit(days - days[0], values, 1)[0]) if len(days) > 1 else 0.0
