"""Exceedance: how often k of n successive frames exceed a threshold that each exceeds with a known probability.

An incident that opens at a frame implies that at least k of n successive frames exceed the threshold, so openings are
at most as frequent as such windows. Were frames independent, their probability would be about C(n, k) p^k, and of
frames of 1 s p = 0.3 % would do for 3 of 5 and one opening in 30 days. They are not: load and speed drift. Frames are
modelled as exchangeable Gaussians after transformation of the margin (a one-factor copula): each pair among the n has
the same correlation r, as if a drift common to all n were added to what is independent. For a correlation that fades
with distance this overstates the dependence, since r is the largest over the lags 1 to n-1, and half a standard error
more. The probability is the factor's integral over a binomial tail; p(r) follows by root finding, and falls from
C(n, k)^(-1/k) rate^(1/k) at r = 0 to ``rate`` at r = 1.

Source: one-factor copula, O. Vasicek, "Limiting loan loss probability distribution" (1991).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Scores = NDArray[np.float64]
Runs = Sequence[Scores]  # the frames' scores of one recording each, in time order

_FACTOR = np.linspace(-8.0, 8.0, 1601)
_FACTOR_WEIGHTS = stats.norm.pdf(_FACTOR) * (_FACTOR[1] - _FACTOR[0])
_NEARLY_ONE = 0.999  # frames so alike exceed together or not at all


def exceedance_probability(rate: float, k: int, n: int, correlation: float) -> float:
    """Return how often a frame may exceed the threshold so that k of n do with probability ``rate``; at least that.

    Args:
        rate: Allowed probability that at least k of n successive frames exceed.
        k: Frames that must exceed.
        n: Frames that they are counted among.
        correlation: Of each pair among the n, after transformation to Gaussians, 0 to 1.
    """
    if correlation >= _NEARLY_ONE:
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


def opening_probability(p: float, k: int, n: int, correlation: float) -> float:
    """Return how probable an opening is at a frame, at most, where each frame exceeds with probability ``p``.

    The inverse of :func:`exceedance_probability`, with the same arguments: the probability that at least k of n
    successive frames exceed, or ``p`` if that is less, since the frame that opens an incident exceeds itself.
    """
    if correlation >= _NEARLY_ONE or p <= 0:
        return max(p, 0.0)
    return min(p, _joint_probability(float(stats.norm.isf(p)), k, n, correlation))


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
        return 0.95  # nothing is known: nearly one event a run
    estimates = [_lagged(within or [ranks], lag, variance) for lag in range(1, n)]
    return float(np.clip(max(estimates), 0.0, 0.99))


def _joint_probability(u: float, k: int, n: int, correlation: float) -> float:
    """Return P(at least k of n equally correlated standard normals exceed ``u``)."""
    given = stats.norm.cdf((np.sqrt(correlation) * _FACTOR - u) / np.sqrt(1 - correlation))
    tail = sum(comb(n, j) * given**j * (1 - given) ** (n - j) for j in range(k, n + 1))
    return max(float(np.sum(_FACTOR_WEIGHTS * tail)), 1e-300)


def _lagged(parts: Sequence[Scores], lag: int, variance: float) -> float:
    products = [part[:-lag] * part[lag:] for part in parts if len(part) > lag]
    if not products:
        return 0.0
    pairs = np.concatenate(products)
    return float(pairs.mean() / variance + 0.5 / np.sqrt(len(pairs)))
