"""A mixture of Gaussians over pooled windows, as a torch module."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from trainer.gaussian import Mahalanobis, Standardise, product
from trainer.stacks import by_band

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

LEAST_PER_COMPONENT: Final = 50  # windows; a component of fewer has learnt a recording by heart


def enough_for(components: int, windows: int) -> bool:
    """Return whether so many windows can carry so many components."""
    return components == 1 or windows >= components * LEAST_PER_COMPONENT


class TiedMixture(nn.Module):
    """A mixture of Gaussians that share one shrunk covariance; with one component, the Mahalanobis distance.

    Args:
        centres: float64 ``[component, entry]``.
        shares: Of the training vectors, float64 ``[component]``.
        residuals: Training vectors minus their component's centre, float64 ``[vector, entry]``.
    """

    centres: Tensor
    white_centres: Tensor
    penalties: Tensor

    def __init__(self, centres: Float64, shares: Float64, residuals: Float64) -> None:
        super().__init__()
        self.distance = Mahalanobis(residuals)
        self.register_buffer("centres", torch.from_numpy(centres.astype(np.float32)))
        self.register_buffer("white_centres", self.centres @ self.distance.whitening)
        # In units of the distance per entry: the most frequent component has none.
        penalties = -2 * np.log(shares / shares.max()) / centres.shape[1]
        self.register_buffer("penalties", torch.from_numpy(penalties.astype(np.float32)))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance to the likeliest component, float32 ``[vector]``, and each entry's share in it."""
        # Whitened once for all components, and back for the likeliest alone: the products are what costs.
        white = product(vectors, self.distance.whitening)
        apart = [(white - centre).square().sum(dim=1) for centre in self.white_centres]
        likeliest = (torch.stack(apart) + self.penalties.unsqueeze(1)).argmin(dim=0)
        white = white - self.white_centres[likeliest]
        shares = (vectors - self.centres[likeliest]) * product(white, self.distance.whitening.T)
        return white.square().sum(dim=1) + self.penalties[likeliest], shares


class PooledMixture(nn.Module):
    """Scores a window by the negative log-likelihood of its likeliest component, per entry and up to a constant.

    Args:
        pool: Makes a vector of k * channel * band entries of a window.
        windows: Training windows, float32 ``[window, channel, band, time]``.
        components: Of the mixture.
        seed: For where the components lie.
    """

    def __init__(self, pool: nn.Module, windows: Float32, components: int, seed: int) -> None:
        super().__init__()
        self.pool, self.shape = pool, (windows.shape[1], windows.shape[2])
        vectors = pooled(windows, pool)
        self.standardise = Standardise(vectors)
        with torch.no_grad():
            standardised = self.standardise(torch.from_numpy(vectors.astype(np.float32))).numpy().astype(np.float64)
        self.mixture = _tied(standardised, components, seed)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        score, shares = self.mixture(self.standardise(self.pool(log_mel)))
        return score, by_band(shares, self.shape)


@torch.no_grad()
def pooled(windows: Float32, pool: nn.Module) -> Float64:
    """Return what ``pool`` makes of windows, float64 ``[window, entry]``, a few at a time."""
    parts = [pool(torch.from_numpy(windows[at : at + 512])).numpy() for at in range(0, len(windows), 512)]
    return np.concatenate(parts).astype(np.float64)


def _tied(vectors: Float64, components: int, seed: int) -> TiedMixture:
    """Return a mixture with one covariance for all; where each component lies is found with diagonal ones."""
    if components == 1:
        return TiedMixture(np.zeros((1, vectors.shape[1])), np.ones(1), vectors)
    found = GaussianMixture(components, covariance_type="diag", reg_covar=1e-2, random_state=seed).fit(vectors)
    member = found.predict(vectors)
    centres = np.stack([vectors[member == k].mean(axis=0) for k in np.unique(member)])
    _, member, counts = np.unique(member, return_inverse=True, return_counts=True)
    return TiedMixture(centres, counts / counts.sum(), vectors - centres[member])
