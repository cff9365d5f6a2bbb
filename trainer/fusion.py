"""Several distances as one score: the mean of what is surprising in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trainer.graph import Float64, Tensor

SOFTNESS: Final = 4.0
NORMAL_MAD: Final = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
UPPER: Final = 0.95  # quantile of a distance whose place tells how heavy its upper tail is
NORMAL_UPPER: Final = 1.645  # its place in a standard normal distribution
LEAST: Final = 1e-12  # of a distance that is divided by


class Fusion:
    """The mean of standardised distances, standardised once more, as a score of at least 0.

    The eighth root of a distance is standardised: as a logarithm would, it lets no single one drown the others, but
    roots are exact, where a logarithm's last bit depends on the place of a window in its batch. A distance counts the
    less the heavier its upper tail is: where normals of another block are far away by it, since the level or the place
    of a microphone drifts, it says less of a fault than one by which they are not. The score is
    (z + sqrt(z² + 4)) / 2, which is in the same order as z (J. T. Barron, "Squareplus: a softplus-like algebraic
    rectifier", 2021).

    Args:
        unseen: Distances of normals that were not learnt from, float64 ``[distance, normal]``.

    Attributes:
        medians, deviations: Of the roots of each distance, float64 ``[distance]``.
    """

    def __init__(self, unseen: Float64) -> None:
        roots = eighth_root(unseen)
        self.medians, deviations = standards(roots)
        upper = (np.quantile(roots, UPPER, axis=-1) - self.medians) / NORMAL_UPPER
        self.deviations = np.maximum(deviations, upper)
        middle, spread = standards(self._mean(roots))
        self._middle, self._spread = float(middle), float(spread)

    def scores(self, distances: Float64) -> Float64:
        """Return scores, float64 ``[window]``, of distances, float64 ``[distance, window]``."""
        standard = (self._mean(eighth_root(distances)) - self._middle) / self._spread
        return np.asarray((standard + np.sqrt(np.square(standard) + SOFTNESS)) / 2)

    def __call__(self, found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the score, float32 ``[window]``, and each band's part in it, float32 ``[window, channel, band]``.

        Args:
            found: Each distance, float32 ``[window]``, and the bands' shares that add up to it, float32
                ``[window, channel, band]``. A distance's bands count as much as it is surprising.
        """
        total: Tensor | None = None
        bands: Tensor | None = None
        for (distance, shares), median, deviation in zip(found, self.medians, self.deviations, strict=True):
            standard = (distance.sqrt().sqrt().sqrt() - median) / deviation
            weight = squareplus(standard) / len(found) / (distance + LEAST)
            band = shares * weight.unsqueeze(1, 2)
            total = standard if total is None else total + standard
            bands = band if bands is None else bands + band
        assert total is not None
        assert bands is not None
        return squareplus((total / len(found) - self._middle) / self._spread), bands

    def _mean(self, roots: Float64) -> Float64:
        return np.asarray(((roots - self.medians[:, np.newaxis]) / self.deviations[:, np.newaxis]).mean(axis=0))


def eighth_root(distances: Float64) -> Float64:
    """Return the eighth roots of distances, of at least 0."""
    return np.asarray(np.sqrt(np.sqrt(np.sqrt(np.maximum(distances, 0)))))


def squareplus(standard: Tensor) -> Tensor:
    """Return what is at least 0 and in the same order, (z + sqrt(z² + 4)) / 2."""
    return (standard + (standard.square() + SOFTNESS).sqrt()) / 2.0


def standards(values: Float64) -> tuple[Float64, Float64]:
    """Return the median and a robust standard deviation, at least a hundredth of it, over the last axis."""
    median = np.median(values, axis=-1)
    deviation = NORMAL_MAD * np.median(np.abs(values - median[..., np.newaxis]), axis=-1)
    return median, np.maximum(deviation, np.maximum(0.01 * np.abs(median), 1e-6))
