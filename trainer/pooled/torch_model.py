"""Pooled spectra as torch modules: each band's mean and variation over time, judged against the training windows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.gaussian import Mahalanobis, Standardise, product
from trainer.mixture import pooled
from trainer.stacks import by_band

Float32 = NDArray[np.float32]

MAX_REFERENCES = 2_000


class Pool(nn.Module):
    """Mean and standard deviation over time: ``[window, channel, band, time]`` to ``[window, 2 * channel * band]``."""

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return means, then deviations, each channel by channel."""
        mean = log_mel.mean(dim=3)
        deviation = (log_mel - mean.unsqueeze(3)).square().mean(dim=3).sqrt()
        return torch.cat([mean.flatten(1), deviation.flatten(1)], dim=1)


class FlutterPool(nn.Module):
    """Mean over time and flutter: the mean square difference of neighbouring columns, its root.

    A level that drifts or steps within a window moves the deviation, and hardly moves the flutter. Shapes as in
    :class:`Pool`.
    """

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return means, then flutters, each channel by channel."""
        mean = log_mel.mean(dim=3)
        if log_mel.shape[3] == 1:
            return torch.cat([mean.flatten(1), torch.zeros_like(mean).flatten(1)], dim=1)
        flutter = (log_mel[..., 1:] - log_mel[..., :-1]).square().mean(dim=3).sqrt()
        return torch.cat([mean.flatten(1), flutter.flatten(1)], dim=1)


class PooledMahalanobis(nn.Module):
    """Scores a window by its pooled vector's Mahalanobis distance.

    Args:
        windows: Training windows, float32 ``[window, channel, band, time]``.
    """

    def __init__(self, windows: Float32) -> None:
        super().__init__()
        self.shape = (windows.shape[1], windows.shape[2])
        self.pool = Pool()
        vectors = pooled(windows, self.pool)
        self.standardise = Standardise(vectors)
        self.distance = Mahalanobis(_standardised(self.standardise, vectors))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        score, shares = self.distance(self.standardise(self.pool(log_mel)))
        return score, by_band(shares, self.shape)


class NearestNeighbour(nn.Module):
    """Scores a window by its pooled vector's mean squared difference to the nearest training window's.

    The matrix product finds the nearest; the difference is then taken exactly, so that rounding in large sums does not
    enter the score.

    Args:
        windows: Training windows, float32 ``[window, channel, band, time]``; evenly thinned to 2,000.
        pool: What makes a vector of a window; default: :class:`Pool`.
    """

    references: Tensor
    squares: Tensor

    def __init__(self, windows: Float32, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.shape = (windows.shape[1], windows.shape[2])
        self.pool = pool or Pool()
        vectors = pooled(windows, self.pool)
        self.standardise = Standardise(vectors)
        chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), MAX_REFERENCES)).round().astype(np.int64)
        references = torch.from_numpy(_standardised(self.standardise, vectors)[chosen].astype(np.float32))
        self.register_buffer("references", references)
        self.register_buffer("squares", references.square().sum(dim=1))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        vectors = self.standardise(self.pool(log_mel))
        nearest = (self.squares - 2 * product(vectors, self.references.T)).argmin(dim=1)
        shares = (vectors - self.references[nearest]).square() / vectors.shape[1]
        return shares.sum(dim=1), by_band(shares, self.shape)


def _standardised(standardise: Standardise, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    given = torch.from_numpy(vectors.astype(np.float32))
    found: NDArray[np.float64] = standardise(given).numpy().astype(np.float64)
    return found
