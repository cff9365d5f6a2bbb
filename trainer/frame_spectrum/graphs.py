"""Pooled vectors judged by several back ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np

from trainer.fusion import Fusion
from trainer.gaussian import Mahalanobis, Standardise, by_band
from trainer.graph import Float32, Float64, Tensor
from trainer.pooled.graphs import Pooling
from trainer.windows import thinned

BACK_ENDS: Final = ("mahalanobis", "nearest", "density")
MAX_REFERENCES: Final = 1_000
NEIGHBOURS: Final = 4
USUAL_SIZES: Final = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, MAX_REFERENCES)  # of references in a graph


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
        self._references: Float64 = thinned(standard, MAX_REFERENCES)
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
        references = _filled(self._references).astype(np.float32)
        # The matrix product finds the nearest; the difference is then taken exactly, so that rounding in large sums
        # does not enter a score. The matrix is the table that rows are looked up in, so that a model holds it once.
        squares = np.square(references).sum(axis=1)
        products = standard.times(references.T) * np.float32(-2) + squares
        nearest = products.argmin(1)
        scales = _filled(self._scales).astype(np.float32)
        own = standard.square().sum(1).unsqueeze(1)
        relative = ((products + own) / references.shape[1] / scales).argmin(1)
        found = [self._distance(standard)]
        for chosen, scaled in ((nearest, None), (relative, scales)):
            shares = (standard - chosen.of(references)).square() / references.shape[1]
            if scaled is not None:
                shares = shares / chosen.of(scaled[:, np.newaxis])
            found.append((shares.sum(1), shares))
        return found


class Judge(Protocol):
    """Judges vectors by several distances: see :class:`BackEnds`."""

    def distances(self, vectors: Float32) -> Float64:
        """Return the distances of vectors, float32 ``[vector, entry]``, as float64 ``[back end, vector]``."""

    def __call__(self, vectors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each distance, float32 ``[vector]``, and the entries' shares, float32 ``[vector, entry]``."""


class FusedSpectra:
    """Scores a frame by all distances of all poolings, fused; by those of recordings where it is long.

    Args:
        judges: Poolings, each with what judges the vectors that it makes; for each length of normals: windows first,
            then recordings if they are judged as wholes.
        fusions: For each length.
        from_columns: Frames of so many columns or more are judged by recordings.
        shape: Channels and bands.
    """

    def __init__(
        self,
        judges: Sequence[Sequence[tuple[Pooling, Judge]]],
        fusions: Sequence[Fusion],
        from_columns: int,
        shape: tuple[int, int],
    ) -> None:
        self._judges, self._fusions = judges, fusions
        self._from_columns, self._shape = from_columns, shape

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score frames: see :mod:`trainer.detector`; all frames of a batch have the same length."""
        of_window, *of_recording = (partial(self._scored, log_mel, at) for at in range(len(self._judges)))
        if not of_recording:
            return of_window()
        return log_mel.is_as_long_as(self._from_columns, axis=3).choose(of_recording[0], of_window)

    def _scored(self, log_mel: Tensor, length: int) -> tuple[Tensor, Tensor]:
        vectors: dict[Pooling, Tensor] = {}
        found = []
        for pool, judge in self._judges[length]:
            if pool not in vectors:
                vectors[pool] = pool(log_mel)
            found += [(one, by_band(shares, pool.per_band, self._shape)) for one, shares in judge(vectors[pool])]
        return self._fusions[length](found)


def _filled(rows: Float64) -> Float64:
    """Return rows, with the first repeated until there are as many as a usual size has.

    So models of machines with about as many normals have one architecture, and a worker scores them together. A copy
    is never nearer than the first.
    """
    size = next((size for size in USUAL_SIZES if size >= len(rows)), len(rows))
    return np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])


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
