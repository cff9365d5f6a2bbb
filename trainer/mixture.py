"""A mixture of Gaussians over pooled windows, as a part of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from trainer.gaussian import Mahalanobis, Standardise, by_band
from trainer.graph import Float32, Float64, Tensor, concatenated, evaluated

if TYPE_CHECKING:
    from trainer.pooled.graphs import Pooling

LEAST_PER_COMPONENT: Final = 50  # windows; a component of fewer has learnt a recording by heart


def enough_for(components: int, windows: int) -> bool:
    """Return whether so many windows can carry so many components."""
    return components == 1 or windows >= components * LEAST_PER_COMPONENT


class TiedMixture:
    """A mixture of Gaussians that share one shrunk covariance; with one component, the Mahalanobis distance.

    Args:
        centres: float64 ``[component, entry]``.
        shares: Of the training vectors, float64 ``[component]``.
        residuals: Training vectors minus their component's centre, float64 ``[vector, entry]``.
    """

    def __init__(self, centres: Float64, shares: Float64, residuals: Float64) -> None:
        self._whitening = Mahalanobis(residuals).whitening
        self._centres: Float32 = centres.astype(np.float32)
        self._white_centres: Float32 = self._centres @ self._whitening
        # In units of the distance per entry: the most frequent component has none.
        self._penalties: Float32 = (-2 * np.log(shares / shares.max()) / centres.shape[1]).astype(np.float32)

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance to the likeliest component, float32 ``[vector]``, and each entry's share in it."""
        # Whitened once for all components, and back for the likeliest alone: the products are what costs.
        white = vectors.times(self._whitening)
        apart = [(white - centre).square().sum(1).unsqueeze(0) for centre in self._white_centres]
        likeliest = (concatenated(apart, axis=0) + self._penalties[:, np.newaxis]).argmin(0)
        white = white - likeliest.of(self._white_centres)
        shares = (vectors - likeliest.of(self._centres)) * white.times(self._whitening.T)
        return white.square().sum(1) + likeliest.of(self._penalties), shares


class PooledMixture:
    """Scores a window by the negative log-likelihood of its likeliest component, per entry and up to a constant.

    Args:
        pool: Makes a vector of a window.
        windows: Training windows, float32 ``[window, channel, band, time]``.
        components: Of the mixture.
        seed: For where the components lie.
    """

    def __init__(self, pool: Pooling, windows: Float32, components: int, seed: int) -> None:
        self._pool, self._shape = pool, (windows.shape[1], windows.shape[2])
        self._standardise = Standardise(evaluated(pool, windows))
        self._mixture = _tied(self._standardise.vectors, components, seed)

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        score, shares = self._mixture(self._standardise(self._pool(log_mel)))
        return score, by_band(shares, self._pool.per_band, self._shape)


def _tied(vectors: Float64, components: int, seed: int) -> TiedMixture:
    """Return a mixture with one covariance for all; where each component lies is found with diagonal ones."""
    if components == 1:
        return TiedMixture(np.zeros((1, vectors.shape[1])), np.ones(1), vectors)
    from sklearn.mixture import GaussianMixture

    found = GaussianMixture(components, covariance_type="diag", reg_covar=1e-2, random_state=seed).fit(vectors)
    member = found.predict(vectors)
    centres = np.stack([vectors[member == k].mean(axis=0) for k in np.unique(member)])
    _, member, counts = np.unique(member, return_inverse=True, return_counts=True)
    return TiedMixture(centres, counts / counts.sum(), vectors - centres[member])
