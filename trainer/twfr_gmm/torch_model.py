"""The time-weighted frequency-domain representation with a Gaussian mixture, as a torch module."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.gaussian import Mahalanobis, Standardise

Float64 = NDArray[np.float64]


class TimeWeighted(nn.Module):
    """Sorts each band over time, largest first, and averages with weights ``r**i``: r = 0 is the maximum, 1 the mean.

    Args:
        r: From 0 to 1.
        columns: Columns of a window.
    """

    weights: Tensor

    def __init__(self, r: float, columns: int) -> None:
        super().__init__()
        weights = np.power(r, np.arange(columns, dtype=np.float64))
        self.columns = columns
        self.register_buffer("weights", torch.from_numpy((weights / weights.sum()).astype(np.float32)))

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return float32 ``[window, channel * band]`` of ``[window, channel, band, time]``."""
        # A sum over the last axis, not a product with a vector: that one's order of summation depends on the batch.
        ordered = log_mel.topk(self.columns, dim=3).values
        return (ordered * self.weights).sum(dim=3).flatten(1)


class TiedMixture(nn.Module):
    """A mixture of Gaussians that share one shrunk covariance; with one component, the Mahalanobis distance.

    Args:
        centres: float64 ``[component, entry]``.
        shares: Of the training vectors, float64 ``[component]``.
        residuals: Training vectors minus their component's centre, float64 ``[vector, entry]``.
    """

    centres: Tensor
    penalties: Tensor

    def __init__(self, centres: Float64, shares: Float64, residuals: Float64) -> None:
        super().__init__()
        self.distance = Mahalanobis(residuals)
        self.register_buffer("centres", torch.from_numpy(centres.astype(np.float32)))
        # In units of the distance per entry: the most frequent component has none.
        penalties = -2 * np.log(shares / shares.max()) / centres.shape[1]
        self.register_buffer("penalties", torch.from_numpy(penalties.astype(np.float32)))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance to the likeliest component, float32 ``[vector]``, and each entry's share in it."""
        found = [self.distance(vectors - centre) for centre in self.centres]
        distances = torch.stack([distance for distance, _ in found]) + self.penalties.unsqueeze(1)
        shares = torch.stack([share for _, share in found])
        likeliest = distances.argmin(dim=0)
        chosen = torch.nn.functional.one_hot(likeliest, len(found)).T.to(distances.dtype)
        return (distances * chosen).sum(dim=0), (shares * chosen.unsqueeze(2)).sum(dim=0)


class TimeWeightedMixture(nn.Module):
    """Scores a window by the negative log-likelihood of its likeliest component, per entry and up to a constant."""

    def __init__(
        self, pool: TimeWeighted, standardise: Standardise, mixture: TiedMixture, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.pool, self.standardise, self.mixture, self.shape = pool, standardise, mixture, shape

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        score, shares = self.mixture(self.standardise(self.pool(log_mel)))
        return score, shares.reshape(len(shares), *self.shape)
