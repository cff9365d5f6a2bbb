"""Pooled vectors judged by several back ends, whose standardised answers are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trainer.gaussian import Mahalanobis, Standardise, by_band
from trainer.graph import Float32, Float64, Tensor
from trainer.pooled.graphs import Pooling

BACK_ENDS: Final = ("mahalanobis", "nearest", "density")
MAX_REFERENCES: Final = 1_000
NEIGHBOURS: Final = 4
SOFTNESS: Final = 4.0  # see trainer.auto.graphs
NORMAL_MAD: Final = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
LEAST: Final = 1e-12  # of a distance that is divided by


class BackEnds:
    """Three distances of a vector to the normal ones, each per entry and squared.

    - ``mahalanobis``: under a covariance shrunk as Ledoit and Wolf say;
    - ``nearest``: to the nearest normal vector;
    - ``density``: the least ratio of the distance to a normal vector over that one's own mean distance to its
      neighbours, so that a vector in a sparse region of the normals is as normal as one in a dense region.

    Args:
        vectors: Normal ones, float32 ``[vector, entry]``; at least 2.
    """

    def __init__(self, vectors: Float32) -> None:
        self._standardise = Standardise(vectors)
        standard = self._standardise.vectors
        self._distance = Mahalanobis(standard)
        chosen = np.linspace(0, len(standard) - 1, min(len(standard), MAX_REFERENCES)).round().astype(np.int64)
        self._references: Float64 = standard[chosen]
        self._scales = _scales(self._references)

    def distances(self, vectors: Float32) -> Float64:
        """Return the distances of vectors, float32 ``[vector, entry]``, as float64 ``[back end, vector]``."""
        standard = self._standardise.of(vectors)
        white = standard @ self._distance.whitening.astype(np.float64)
        apart = _apart(standard, self._references)
        return np.stack([np.square(white).sum(axis=1), apart.min(axis=1), (apart / self._scales).min(axis=1)])

    def __call__(self, vectors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each distance, float32 ``[vector]``, and the entries' shares, float32 ``[vector, entry]``."""
        standard = self._standardise(vectors)
        references = self._references.astype(np.float32)
        # The matrix product finds the nearest; the difference is then taken exactly, so that rounding in large sums
        # does not enter a score.
        squares = np.square(references).sum(axis=1)
        products = standard.times(-2 * references.T) + squares
        nearest = products.argmin(1)
        scales = self._scales.astype(np.float32)
        own = standard.square().sum(1).unsqueeze(1)
        relative = ((products + own) / references.shape[1] / scales).argmin(1)
        found = [self._distance(standard)]
        for chosen, scaled in ((nearest, None), (relative, scales)):
            shares = (standard - chosen.of(references)).square() / references.shape[1]
            if scaled is not None:
                shares = shares / chosen.of(scaled[:, np.newaxis])
            found.append((shares.sum(1), shares))
        return found


class FusedSpectra:
    """Scores a frame by the mean of its standardised distances, over poolings and back ends.

    A distance's eighth root is standardised: as a logarithm would, it lets no single one drown the others, but roots
    are exact, where a logarithm's last bit depends on the place of a frame in its batch.

    Args:
        poolings: What makes vectors of a frame.
        judges: For each length of normals (windows first, then recordings if they are judged as wholes) and pooling.
        raw: Distances of normals that were not learnt from, for each length float64 ``[pooling, back end, vector]``.
        from_columns: Frames of so many columns or more are judged by recordings.
        shape: Channels and bands.
    """

    def __init__(
        self,
        poolings: Sequence[Pooling],
        judges: Sequence[Sequence[BackEnds]],
        raw: Sequence[Float64],
        from_columns: int,
        shape: tuple[int, int],
    ) -> None:
        self._poolings, self._judges = poolings, judges
        self._from_columns, self._shape = from_columns, shape
        self._places = [standards(eighth_root(one)) for one in raw]
        self._overall = [standards(self._fused(level, one)[np.newaxis, np.newaxis]) for level, one in enumerate(raw)]

    def scores(self, level: int, raw: Float64) -> Float64:
        """Return scores, float64 ``[vector]``, of distances, float64 ``[pooling, back end, vector]``."""
        median, deviation = self._overall[level]
        standard = (self._fused(level, raw) - median[0, 0]) / deviation[0, 0]
        return np.asarray((standard + np.sqrt(standard**2 + SOFTNESS)) / 2)

    def _fused(self, level: int, raw: Float64) -> Float64:
        median, deviation = self._places[level]
        return np.asarray(((eighth_root(raw) - median) / deviation).mean(axis=(0, 1)))

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score frames: see :mod:`trainer.detector`; all frames of a batch have the same length."""
        vectors = [pool(log_mel) for pool in self._poolings]
        found = [self._level(level, vectors) for level in range(len(self._judges))]
        if len(found) == 1:
            return found[0]
        long = log_mel.is_as_long_as(self._from_columns, axis=3)
        (of_window, its_bands), (of_recording, other_bands) = found
        return (
            of_window + (of_recording - of_window) * long,
            its_bands + (other_bands - its_bands) * long,
        )

    def _level(self, level: int, vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        medians, deviations = self._places[level]
        total: Tensor | None = None
        bands: Tensor | None = None
        count = medians.size
        for at, (pool, vector) in enumerate(zip(self._poolings, vectors, strict=True)):
            for back_end, (distance, shares) in enumerate(self._judges[level][at](vector)):
                root = distance.sqrt().sqrt().sqrt()
                standard = (root - medians[at, back_end, 0]) / deviations[at, back_end, 0]
                weight = squareplus(standard) / count
                share = by_band(shares / (distance + LEAST).unsqueeze(1), pool.per_band, self._shape)
                band = share * weight.unsqueeze(1, 2)
                total = standard if total is None else total + standard
                bands = band if bands is None else bands + band
        assert total is not None
        assert bands is not None
        median, deviation = self._overall[level]
        return squareplus((total / count - median[0, 0, 0]) / deviation[0, 0, 0]), bands


def squareplus(standard: Tensor) -> Tensor:
    """Return what is at least 0 and in the same order (J. T. Barron, 2021)."""
    return (standard + (standard.square() + SOFTNESS).sqrt()) / 2.0


def eighth_root(distances: Float64) -> Float64:
    """Return the roots of squared distances."""
    return np.asarray(np.sqrt(np.sqrt(np.sqrt(np.maximum(distances, 0)))))


def standards(values: Float64) -> tuple[Float64, Float64]:
    """Return the median and a robust standard deviation over the last axis, which stays with length 1."""
    median = np.median(values, axis=-1, keepdims=True)
    deviation = NORMAL_MAD * np.median(np.abs(values - median), axis=-1, keepdims=True)
    return median, np.maximum(deviation, np.maximum(0.01 * np.abs(median), 1e-6))


def _apart(vectors: Float64, others: Float64) -> Float64:
    """Return squared distances per entry, float64 ``[vector, other]``."""
    squares = np.square(vectors).sum(axis=1)[:, np.newaxis] + np.square(others).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * vectors @ others.T, 0) / vectors.shape[1])


def _scales(references: Float64) -> Float64:
    """Return the squared mean distance of each reference to its nearest neighbours, float64 ``[reference]``."""
    apart = np.sqrt(_apart(references, references))
    np.fill_diagonal(apart, np.inf)
    near = np.sort(apart, axis=1)[:, : min(NEIGHBOURS, len(references) - 1)].mean(axis=1)
    return np.asarray(np.square(np.maximum(near, 0.1 * np.median(near) + 1e-6)))
