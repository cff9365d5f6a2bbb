"""Vectors with a shrunk covariance: the Mahalanobis distance as a torch module, with each entry's share in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn
from torch.nn import functional

Float64 = NDArray[np.float64]

MIN_STD = 0.02  # nat; an entry that varies less in training is not believed to be that steady


def product(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Return ``vectors @ matrix`` such that no vector's result depends on how many there are.

    A matrix product takes another path for one row than for many, and sums in another order. A convolution over one
    place is computed vector by vector.

    Args:
        vectors: float32 ``[vector, entry]``.
        matrix: float32 ``[entry, result]``.
    """
    return functional.conv1d(vectors.unsqueeze(2), matrix.T.unsqueeze(2)).squeeze(2)


class Standardise(nn.Module):
    """Takes vectors to zero mean and unit variance over the training vectors."""

    mean: Tensor
    std: Tensor

    def __init__(self, vectors: Float64) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(vectors.mean(axis=0).astype(np.float32)))
        std = np.maximum(vectors.std(axis=0), MIN_STD)
        self.register_buffer("std", torch.from_numpy(std.astype(np.float32)))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the standardised vectors, float32 ``[vector, entry]`` like ``vectors``."""
        standardised: Tensor = (vectors - self.mean) / self.std
        return standardised


class Mahalanobis(nn.Module):
    """The squared Mahalanobis distance over the number of entries: about 1 for a normal vector.

    The covariance is shrunk towards a multiple of the identity as far as O. Ledoit and M. Wolf, "A well-conditioned
    estimator for large-dimensional covariance matrices" (2004) find best; so it can be inverted with fewer vectors
    than entries.

    Args:
        vectors: Centred training vectors, float64 ``[vector, entry]``.
    """

    whitening: Tensor

    def __init__(self, vectors: Float64) -> None:
        super().__init__()
        covariance, self.shrinkage = ledoit_wolf(vectors, assume_centered=True)
        values, directions = np.linalg.eigh(covariance)
        whitening = directions / np.sqrt(np.maximum(values, 1e-9 * values[-1] + 1e-12)) / np.sqrt(len(covariance))
        self.register_buffer("whitening", torch.from_numpy(whitening.astype(np.float32)))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Judge centred vectors.

        Args:
            vectors: float32 ``[vector, entry]``.

        Returns:
            The distance, float32 ``[vector]``; and each entry's share, float32 ``[vector, entry]``, that add up to it.
            An entry that is as its fellows lead to expect has a negative one.
        """
        white = product(vectors, self.whitening)
        return white.square().sum(dim=1), vectors * product(white, self.whitening.T)
