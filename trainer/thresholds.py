"""Thresholds from the scores of held-out normal frames.

The decision threshold is a percentile. The alert threshold T is such that the rule "k of the last n frames exceed T"
opens at most a stated number of incidents (default one) per machine in 30 days. With frames of 1 s that is one in
2.6 million frames, from perhaps a hundred held-out normals; so it is extrapolated, each step on the safe side:

1. *How rare must a frame above T be?* An incident that opens at a frame implies that at least k of n successive frames
   exceed T, so openings are at most as frequent as such windows: their probability must be ``rate`` = allowed alerts /
   frames in 30 days. Were frames independent, it would be about C(n, k) p^k, and p = 0.3 % would do for 3 of 5. They
   are not: load and speed drift. Frames are modelled as exchangeable Gaussians after transformation of the margin (a
   one-factor copula): each pair among the n has the same correlation r, as if a drift common to all n were added to
   what is independent. For a correlation that fades with distance this overstates the dependence, since r is the
   largest over the lags 1 to n-1, and half a standard error more. The probability is the factor's integral over a
   binomial tail; p(r) follows by root finding, and falls from C(n, k)^(-1/k) rate^(1/k) at r = 0 to ``rate`` at r = 1.
2. *What score is exceeded so rarely?* The excess of scores over their median follows a gamma distribution (the
   closed form of Ye and Chen, corrected for small samples; shape held within [0.5, 1.5], so the tail is never lighter
   than about an exponential's: for Gaussian scores it overstates).
3. *How well is the tail known?* With m effectively independent excesses (design effect of the correlation included) the
   exponential's predictive quantile is m (q^(-1/m) - 1) in place of -ln q means; the gamma quantile is stretched by
   this ratio, at most by 1.5. The mean excess is taken as at least 2 % of the median, and more with few frames, because
   held-out normals of some minutes have not seen a month.
4. *What has been seen must not alert*: T is above every score for which the rule would have opened on the held-out
   normals themselves, and above the largest score where there are too few frames to know how often such a one comes.

What this cannot know is a normal state that the recordings lack, such as a season or another product on the line; nor
a drift so slow that the held-out normals show a fraction of it (some dozen frames at a correlation of 0.98).

Sources: gamma fit, Z.-S. Ye and N. Chen, "Closed-form estimators for the gamma distribution derived from likelihood
equations" (2017), with the correction of F. Louzada et al. (2019); one-factor copula, O. Vasicek, "Limiting loan loss
probability distribution" (1991); the predictive distribution of an exponential variable whose mean is estimated from m
others is a Lomax distribution: J. F. Lawless, "A prediction problem concerning samples from the exponential
distribution" (1971).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, expm1, log

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from schemas import Calibration, Thresholds

Scores = NDArray[np.float64]
Runs = Sequence[Scores]  # the frames' scores of one recording each, in time order

MIN_OWN_FRAMES = 20  # a machine with fewer held-out frames takes the pooled thresholds
SHAPE_RANGE = (0.5, 1.5)
MIN_SHAPE_VALUES = 30  # fewer tell nothing of a shape
MAX_STRETCH = 1.5
MIN_RELATIVE_EXCESS = 0.02
_FACTOR = np.linspace(-8.0, 8.0, 1601)
_FACTOR_WEIGHTS = stats.norm.pdf(_FACTOR) * (_FACTOR[1] - _FACTOR[0])
_SECONDS_IN_30_DAYS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Thresholds for machines that have none of their own, and by machine."""

    pooled: Thresholds
    by_machine: dict[str, Thresholds]


def calibrate(runs_by_machine: Mapping[str | None, Runs], calibration: Calibration) -> Calibrated:
    """Return the thresholds that held-out normals give.

    Args:
        runs_by_machine: The frames' scores per machine (None: not named), one array a recording, in time order.
        calibration: Frame length, rule, and what is asked of the thresholds.

    Raises:
        ValueError: There is no score at all.
    """
    everything = [run for runs in runs_by_machine.values() for run in runs]
    by_machine = {
        machine: thresholds(runs, calibration)
        for machine, runs in runs_by_machine.items()
        if machine is not None and sum(map(len, runs)) >= MIN_OWN_FRAMES
    }
    return Calibrated(thresholds(everything, calibration), by_machine)


def thresholds(runs: Runs, calibration: Calibration) -> Thresholds:
    """Return both thresholds of one machine, or of several taken as one.

    Raises:
        ValueError: There is no score at all.
    """
    scores = np.concatenate([np.asarray(run, np.float64) for run in runs]) if len(runs) else np.zeros(0)
    if scores.size == 0:
        raise ValueError("no held-out normal frame; expected at least one")
    smallest = float(np.finfo(np.float32).tiny)
    decision = max(float(np.percentile(scores, calibration.decision_percentile)), smallest)
    return Thresholds(
        decision_threshold=decision,
        alert_threshold=max(alert_threshold(runs, calibration), decision),
        normals=int(scores.size),
    )


def alert_threshold(runs: Runs, calibration: Calibration) -> float:
    """Return the alert threshold: see the module's text for the derivation.

    Args:
        runs: Scores of held-out normal frames, one array a recording, in time order; at least one score.
        calibration: Frame length, rule (k of n) and allowed false alerts per 30 days.
    """
    k, n = calibration.k, calibration.n
    rate = min(calibration.false_alerts_per_30_days * calibration.frame_s / _SECONDS_IN_30_DAYS, 0.1)
    scores = np.concatenate([np.asarray(run, np.float64) for run in runs])
    correlation = dependence(runs, n)
    tail = _tail_quantile(scores, exceedance_probability(rate, k, n, correlation), correlation)
    seen = 1.02 * _opening_score(scores, k, n)
    if len(scores) * exceedance_probability(rate, k, n, 0.0) < 1:
        seen = max(seen, 1.05 * float(scores.max()))
    return max(tail, seen)


def exceedance_probability(rate: float, k: int, n: int, correlation: float) -> float:
    """Return how often a frame may exceed the threshold so that k of n do with probability ``rate``.

    Args:
        rate: Allowed probability that at least k of n successive frames exceed.
        k: Frames that must exceed.
        n: Frames that they are counted among.
        correlation: Of each pair among the n, after transformation to Gaussians, 0 to 1.
    """
    if correlation >= 0.999:
        return rate

    def surplus(u: float) -> float:
        return log(_joint_probability(u, k, n, correlation) / rate)

    highest = float(stats.norm.isf(rate)) + 0.01
    lowest = -1.0
    if surplus(lowest) <= 0:
        return float(stats.norm.sf(lowest))
    if surplus(highest) >= 0:
        return rate
    return float(stats.norm.sf(optimize.brentq(surplus, lowest, highest, xtol=1e-4)))


def _joint_probability(u: float, k: int, n: int, correlation: float) -> float:
    """Return P(at least k of n equally correlated standard normals exceed ``u``)."""
    given = stats.norm.cdf((np.sqrt(correlation) * _FACTOR - u) / np.sqrt(1 - correlation))
    tail = sum(comb(n, j) * given**j * (1 - given) ** (n - j) for j in range(k, n + 1))
    return max(float(np.sum(_FACTOR_WEIGHTS * tail)), 1e-300)


def dependence(runs: Runs, n: int) -> float:
    """Return the largest correlation of a frame with one of the n-1 after it, and half a standard error more.

    Scores are turned into Gaussian ranks over all runs first. Pairs within a recording count where there are any; with
    one frame a recording, successive recordings stand in for successive frames.
    """
    if n == 1:
        return 0.0
    scores = np.concatenate(runs)
    ranks = stats.norm.ppf((stats.rankdata(scores) - 0.5) / len(scores))
    bounds = np.cumsum([len(run) for run in runs])[:-1]
    within = [part for part in np.split(ranks, bounds) if len(part) > 1]
    variance = float(np.mean(ranks**2))
    if len(ranks) < 3 or variance == 0:
        return 0.95  # nothing is known: nearly one event a stretch
    estimates = [_lagged(within or [ranks], lag, variance) for lag in range(1, n)]
    return float(np.clip(max(estimates), 0.0, 0.99))


def _lagged(parts: Sequence[Scores], lag: int, variance: float) -> float:
    products = [part[:-lag] * part[lag:] for part in parts if len(part) > lag]
    if not products:
        return 0.0
    pairs = np.concatenate(products)
    return float(pairs.mean() / variance + 0.5 / np.sqrt(len(pairs)))


def _tail_quantile(scores: Scores, p: float, correlation: float) -> float:
    """Return the score that is exceeded with probability ``p``, on the safe side of what so few frames can tell."""
    median = float(np.median(scores))
    excess = scores[scores > median] - median
    effective = max(len(scores) * (1 - correlation) / (1 + correlation), 2.0) / 2
    smallest = (MIN_RELATIVE_EXCESS + 0.4 / len(scores)) * median
    mean = max(float(excess.mean()) if len(excess) else 0.0, smallest, 1e-12)
    shape = gamma_shape(excess)
    q = min(p / 0.5, 0.5)
    stretch = min(effective * expm1(-log(q) / effective) / -log(q), MAX_STRETCH)
    return median + float(stats.gamma.isf(q, shape, scale=mean / shape)) * stretch


def gamma_shape(excess: Scores) -> float:
    """Return the shape of a gamma distribution fitted to positive values; 1 (an exponential) for too few."""
    m = len(excess)
    if m < MIN_SHAPE_VALUES:
        return 1.0
    logs = np.log(np.maximum(excess, 1e-300))
    spread = float((excess * logs).mean() - excess.mean() * logs.mean())
    if spread <= 1e-9 * float(excess.mean()):
        return SHAPE_RANGE[1]
    shape = float(excess.mean()) / spread
    corrected = shape - (3 * shape - 2 / 3 * shape / (1 + shape) - 4 / 5 * shape / (1 + shape) ** 2) / m
    return float(np.clip(corrected, *SHAPE_RANGE))


def _opening_score(scores: Scores, k: int, n: int) -> float:
    """Return the largest score that k of n successive frames reach; below it the rule would have opened."""
    if len(scores) < n:
        return float(np.sort(scores)[-min(k, len(scores))])
    windows = np.lib.stride_tricks.sliding_window_view(scores, n)
    return float(np.sort(windows, axis=1)[:, n - k].max())
