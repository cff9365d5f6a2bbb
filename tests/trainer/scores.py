"""Scores of simulated healthy machines, and what the default rule makes of very many of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal, stats

# From the probability to exceed a score to that score.
MARGINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gamma": lambda p: stats.gamma.isf(p, 2) / 2,
    "lognormal": lambda p: stats.lognorm.isf(p, 0.5),
    "normal": lambda p: stats.norm.isf(p, 1, 0.15),
}


def autocorrelated(count: int, correlation: float, seed: int, margin: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Scores [frame] of a margin, with an AR(1) process of Gaussians behind them."""
    steps = np.random.default_rng(seed).standard_normal(count)
    steps[1:] *= np.sqrt(1 - correlation**2)
    return margin(stats.norm.sf(signal.lfilter([1], [1, -correlation], steps)))


def count_openings(scores: np.ndarray, threshold: float, k: int = 3, n: int = 5, m: int = 5) -> int:
    """Incidents that the rule opens (hysteresis 0.9): as the worker's own, but fast enough for months."""
    above = scores > threshold
    enough = np.flatnonzero((np.convolve(above, np.ones(n, int))[: len(scores)] >= k) & above)
    low = scores < 0.9 * threshold
    quiet = np.flatnonzero(np.convolve(low, np.ones(m, int))[: len(scores)] == m)
    count, until = 0, -1
    for frame in enough:
        if frame > until:
            count += 1
            later = np.searchsorted(quiet, frame, side="right")
            until = int(quiet[later]) if later < len(quiet) else len(scores)
    return count
