"""Vectors with a shrunk covariance: the Mahalanobis distance as a part of a graph, with each entry's share in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.graph import Float32, Float64, Tensor

MIN_STD = 0.02  # nat; an entry that varies less in training is not believed to be that steady


class Standardise:
    """Takes vectors to zero mean and unit variance over the training vectors.

    Args:
        vectors: Training vectors, float ``[vector, entry]``.

    Attributes:
        vectors: The training vectors, standardised, float64 ``[vector, entry]``.
    """

    def __init__(self, vectors: Float32) -> None:
        exact = vectors.astype(np.float64)
        self._mean: Float32 = exact.mean(axis=0).astype(np.float32)
        self._std: Float32 = np.maximum(exact.std(axis=0), MIN_STD).astype(np.float32)
        self.vectors: Float64 = ((vectors - self._mean) / self._std).astype(np.float64)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the standardised vectors, float32 ``[vector, entry]`` like ``vectors``."""
        return (vectors - self._mean) / self._std

    def of(self, vectors: Float32) -> Float64:
        """Return vectors, float32 ``[vector, entry]``, standardised, outside of a graph."""
        return ((vectors - self._mean) / self._std).astype(np.float64)


class Mahalanobis:
    """The squared Mahalanobis distance over the number of entries: about 1 for a normal vector.

    The covariance is shrunk, so that it can be inverted with fewer vectors than entries.

    Args:
        vectors: Centred training vectors, float64 ``[vector, entry]``.

    Attributes:
        whitening: float32 ``[entry, entry]``: a vector times it has the distance as its sum of squares.
        shrinkage: From 0 to 1.
    """

    def __init__(self, vectors: Float64) -> None:
        covariance, self.shrinkage = shrunk_covariance(vectors)
        values, directions = np.linalg.eigh(covariance)
        whitening = directions / np.sqrt(np.maximum(values, 1e-9 * values[-1] + 1e-12)) / np.sqrt(len(covariance))
        self.whitening: Float32 = whitening.astype(np.float32)

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Judge centred vectors.

        Args:
            vectors: float32 ``[vector, entry]``.

        Returns:
            The distance, float32 ``[vector]``; and each entry's share, float32 ``[vector, entry]``, that add up to it.
            An entry that is as its fellows lead to expect has a negative one.
        """
        white = vectors.times(self.whitening)
        return white.square().sum(1), vectors * white.times(self.whitening.T)


def shrunk_covariance(vectors: Float64) -> tuple[Float64, float]:
    """Return the covariance of centred vectors, shrunk towards a multiple of the identity, and how far (0 to 1).

    As far as O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004)
    find best.

    Args:
        vectors: float64 ``[vector, entry]``.
    """
    count, entries = vectors.shape
    covariance: NDArray[np.float64] = vectors.T @ vectors / count
    target = float(np.trace(covariance)) / entries
    squares = float(np.square(covariance).sum())
    apart = squares - entries * target**2  # of the covariance from the target
    # How far one vector's outer product lies from the covariance, over the number of vectors: what chance explains.
    chance = (float(np.square(np.square(vectors).sum(axis=1)).sum()) / count - squares) / count
    shrinkage = min(1.0, max(0.0, chance) / apart) if apart > 0 else 0.0
    return (1 - shrinkage) * covariance + shrinkage * target * np.eye(entries), shrinkage


def by_band(entries: Tensor, count: int, shape: tuple[int, int]) -> Tensor:
    """Return entries of one or more columns, added up by band.

    Args:
        entries: float32 ``[window, count * channel * band]``.
        count: Entries of a band.
        shape: Channels and bands.

    Returns:
        float32 ``[window, channel, band]``.
    """
    # Spelled out: over another axis than the last, a sum's order depends on how many windows there are.
    first, *others = entries.chunk(count, axis=1)
    for other in others:
        first = first + other
    return first.reshape(-1, *shape)
