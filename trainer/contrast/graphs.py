"""The graph: a window's mean spectrum in embeddings, and its pooled spectrum, judged against each machine's normals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trainer.contrast.learning import Int
from trainer.contrast.torch_model import Layer
from trainer.fusion import squareplus, standards
from trainer.gaussian import MIN_STD, Mahalanobis
from trainer.graph import Float32, Tensor, concatenated, evaluated
from trainer.pooled.graphs import Pool

TINY: Final = 1e-6

Trained = tuple[Float32, Float32, list[Layer]]  # see trainer.contrast.learning.trained


class Embeddings:
    """Mean spectra ``[window, channel * band]`` in several embeddings, side by side.

    Args:
        trained: Each one's mean, deviation and layers.
    """

    def __init__(self, trained: Sequence[Trained]) -> None:
        self._trained = trained

    def __call__(self, spectra: Tensor) -> Tensor:
        """Return float32 ``[window, embedding * entry]``."""
        return concatenated([self._embedded(spectra, *one) for one in self._trained], axis=1)

    @staticmethod
    def _embedded(spectra: Tensor, mean: Float32, std: Float32, layers: Sequence[Layer]) -> Tensor:
        vectors = (spectra - mean.reshape(-1)) / std.reshape(-1)
        *hidden, (last, _) = layers
        for matrix, offsets in hidden:
            vectors = (vectors.times(matrix) + offsets).relu()
        vectors = vectors.times(last)
        return vectors / (vectors.square().sum(1).unsqueeze(1) + TINY**2).sqrt()


class Normals:
    """Each machine's normals as a Gaussian with a shrunk covariance.

    Args:
        vectors: float32 ``[vector, entry]``.
        machines: Whose each is, int64 ``[vector]``, from 0.
        standardised: Whether each machine's entries are taken to unit variance before the covariance is shrunk.

    Attributes:
        centres: float32 ``[machine, entry]``.
        stds: Each entry's deviation, float32 ``[machine, entry]``; 1 where they aren't standardised.
    """

    def __init__(self, vectors: Float32, machines: Int, *, standardised: bool) -> None:
        owners = range(int(machines.max()) + 1)
        exact = [vectors[machines == one].astype(np.float64) for one in owners]
        centres = np.stack([own.mean(axis=0) for own in exact])
        stds = np.ones_like(centres)
        if standardised:
            stds = np.stack([np.maximum(own.std(axis=0), MIN_STD) for own in exact])
        whitenings = [
            Mahalanobis((own - centre) / std).whitening / std[:, np.newaxis]
            for own, centre, std in zip(exact, centres, stds, strict=True)
        ]
        self._middle: Float32 = centres.mean(axis=0).astype(np.float32)
        self._whitening: Float32 = np.concatenate(whitenings, axis=1).astype(np.float32)
        apart = [(centre - self._middle) @ white for centre, white in zip(centres, whitenings, strict=True)]
        self._white_centres: Float32 = np.concatenate(apart).astype(np.float32)
        self.centres: Float32 = centres.astype(np.float32)
        self.stds: Float32 = stds.astype(np.float32)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance to each machine over the number of entries, ``[vector, machine]``."""
        white = (vectors - self._middle).times(self._whitening) - self._white_centres
        return white.reshape(-1, *self.centres.shape).square().sum(2)


class Contrast:
    """Scores a window by its distance to the nearest machine's normals, as a pooled spectrum and in the embeddings.

    Each machine's distances are standardised on held-out normals of its own, and the two are averaged.

    Args:
        windows: Training windows, float32 ``[window, channel, band, time]``.
        machines: Whose each is, int64 ``[window]``, from 0.
        trained: The embeddings.
        unseen: Held-out windows of each machine, each float32 ``[window, channel, band, time]``.
    """

    def __init__(self, windows: Float32, machines: Int, trained: Sequence[Trained], unseen: Sequence[Float32]) -> None:
        self._shape = (windows.shape[1], windows.shape[2])
        self._pool = Pool()
        self._embeddings = Embeddings(trained)
        embedded, pooled = evaluated(self._in_embeddings, windows), evaluated(self._pool, windows)
        self._embedded_normals = Normals(embedded, machines, standardised=False)
        self._pooled_normals = Normals(pooled, machines, standardised=True)
        self._scales = [
            _medians_and_deviations([evaluated(distance, own)[:, one] for one, own in enumerate(unseen)])
            for distance in (self._distance_pooled, self._distance_embedded)
        ]

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`; a band's share is how far it is off the nearest machine's."""
        pooled, embedded = self.pooled(log_mel), self.embedded(log_mel)
        # The pooled spectrum says whose a window is: in an embedding a fault may well be where another machine is.
        nearest = pooled.argmin(1)
        count, entries = self._pooled_normals.centres.shape
        mean = (pooled + embedded) / 2.0
        score = squareplus((mean * nearest.one_hot(count).transpose(1, 0)).sum(1))
        # Of the entries the first half are the means.
        centres, stds = (of[:, : entries // 2] for of in (self._pooled_normals.centres, self._pooled_normals.stds))
        apart = ((log_mel.mean(3).flatten() - nearest.of(centres)) / nearest.of(stds)).square()
        shares = apart / (apart.sum(1).unsqueeze(1) + TINY)
        return score, (shares * score.unsqueeze(1)).reshape(-1, *self._shape)

    def pooled(self, log_mel: Tensor) -> Tensor:
        """Return windows' standardised distances to each machine as pooled spectra, ``[window, machine]``."""
        medians, deviations = self._scales[0]
        return (self._distance_pooled(log_mel) - medians) / deviations

    def embedded(self, log_mel: Tensor) -> Tensor:
        """Return windows' standardised distances to each machine in the embeddings, ``[window, machine]``."""
        medians, deviations = self._scales[1]
        return (self._distance_embedded(log_mel) - medians) / deviations

    def _in_embeddings(self, log_mel: Tensor) -> Tensor:
        return self._embeddings(log_mel.mean(3).flatten())

    def _distance_embedded(self, log_mel: Tensor) -> Tensor:
        return self._embedded_normals(self._in_embeddings(log_mel))

    def _distance_pooled(self, log_mel: Tensor) -> Tensor:
        return self._pooled_normals(self._pool(log_mel))


def _medians_and_deviations(distances: Sequence[Float32]) -> tuple[Float32, Float32]:
    """Return a median and a robust standard deviation of each machine's distances, float32 ``[machine]``."""
    medians, deviations = zip(*(standards(own.astype(np.float64)) for own in distances), strict=True)
    return np.array(medians, np.float32), np.array(deviations, np.float32)
