"""The Mahalanobis distance of the dense autoencoder's residuals as a plain torch module."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainer.dense_ae.torch_model import DenseAutoEncoder
from trainer.gaussian import Mahalanobis
from trainer.stacks import STACK, by_band

MAX_RESIDUALS = 20_000


class ResidualMahalanobis(nn.Module):
    """Scores a window by the mean distance of its stacks' residuals, over the residuals' covariance in training.

    Args:
        autoencoder: Trained.
        windows: Training windows, float32 ``[window, channel, band, time]``.
    """

    centre: Tensor
    whitening: Tensor

    def __init__(self, autoencoder: DenseAutoEncoder, windows: NDArray[np.float32]) -> None:
        super().__init__()
        self.autoencoder = autoencoder.eval()
        residuals = _residuals(autoencoder, windows)
        centre = residuals.mean(axis=0)
        self.register_buffer("centre", torch.from_numpy(centre.astype(np.float32)))
        distance = Mahalanobis(residuals - centre)
        self.shrinkage = distance.shrinkage
        self.register_buffer("whitening", torch.from_numpy(distance.whitening))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        residual = self.autoencoder.residual(log_mel) - self.centre.unsqueeze(1)
        white = functional.conv1d(residual, self.whitening.T.unsqueeze(2))
        shares = residual * functional.conv1d(white, self.whitening.unsqueeze(2))
        return white.square().mean(dim=2).sum(dim=1), by_band(shares.mean(dim=2), self.autoencoder.shape)


@torch.no_grad()
def _residuals(autoencoder: DenseAutoEncoder, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the training residuals, float64 ``[residual, 5 * channel * band]``, evenly thinned."""
    every = max(1, -(-len(windows) * (windows.shape[3] - STACK + 1) // MAX_RESIDUALS))
    parts = []
    for at in range(0, len(windows), 64):
        residual = autoencoder.residual(torch.from_numpy(windows[at : at + 64]))
        parts.append(residual.transpose(1, 2).flatten(0, 1)[::every].numpy().astype(np.float64))
    return np.concatenate(parts)
