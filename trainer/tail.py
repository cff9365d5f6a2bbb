"""The tail of normal scores: which score is exceeded how seldom, on the safe side of what some frames can tell.

1. The excess of scores over their median follows a gamma distribution (the closed form of Ye and Chen, corrected for
   small samples; shape held within [0.5, 1.5], so the tail is never lighter than about an exponential's: for Gaussian
   scores it overstates).
2. With m effectively independent excesses (design effect of the correlation included) the exponential's predictive
   quantile is m (q^(-1/m) - 1) in place of -ln q means; the gamma quantile is stretched by this ratio, at most by 1.5.
   The mean excess is taken as at least 2 % of the median, and more with few frames, because held-out normals of some
   minutes have not seen a month.

Sources: gamma fit, Z.-S. Ye and N. Chen, "Closed-form estimators for the gamma distribution derived from likelihood
equations" (2017), with the correction of F. Louzada et al. (2019); the predictive distribution of an exponential
variable whose mean is estimated from m others is a Lomax distribution: J. F. Lawless, "A prediction problem concerning
samples from the exponential distribution" (1971).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, log

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Scores = NDArray[np.float64]

SHAPE_RANGE = (0.5, 1.5)
MIN_SHAPE_VALUES = 30  # fewer tell nothing of a shape
MAX_STRETCH = 1.5
MIN_RELATIVE_EXCESS = 0.02
_ABOVE = 0.5  # share of scores above their median
_LOG_SMALLEST = -700.0  # of a probability that double precision holds


@dataclass(frozen=True, slots=True)
class Tail:
    """The upper half of normal scores.

    Attributes:
        median: Of all scores.
        mean, shape: Of the gamma distribution of what scores above the median exceed it by.
        effective: So many independent excesses would tell as much.
    """

    median: float
    mean: float
    shape: float
    effective: float

    @classmethod
    def fit(cls, scores: Scores, correlation: float) -> Tail:
        """Return the tail of scores, float64 [frame], at least one, whose neighbours have a correlation of 0 to 1."""
        median = float(np.median(scores))
        excess = scores[scores > median] - median
        smallest = (MIN_RELATIVE_EXCESS + 0.4 / len(scores)) * median
        return cls(
            median=median,
            mean=max(float(excess.mean()) if len(excess) else 0.0, smallest, 1e-12),
            shape=gamma_shape(excess),
            effective=max(len(scores) * (1 - correlation) / (1 + correlation), 2.0) / 2,
        )

    def quantile(self, p: float) -> float:
        """Return the score that a frame exceeds with probability ``p``; above 1/4 that of 1/4."""
        return self.median + self._excess(min(p / _ABOVE, 0.5))

    def probability(self, score: float) -> float:
        """Return how often a frame exceeds ``score``, the inverse of :meth:`quantile`; 1/2 at the median and below."""
        above = score - self.median
        if above <= 0:
            return _ABOVE
        if self._excess(exp(_LOG_SMALLEST)) <= above:
            return 0.0
        log_q = optimize.brentq(lambda at: self._excess(exp(at)) - above, _LOG_SMALLEST, 0.0)
        return _ABOVE * exp(log_q)

    def _excess(self, q: float) -> float:
        """Return what the excess over the median exceeds with probability ``q``, predicted for a new frame."""
        if q >= 1:
            return 0.0
        stretch = min(self.effective * expm1(-log(q) / self.effective) / -log(q), MAX_STRETCH)
        return float(stats.gamma.isf(q, self.shape, scale=self.mean / self.shape)) * stretch


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
