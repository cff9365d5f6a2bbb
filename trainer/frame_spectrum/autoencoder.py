"""A small autoencoder's residual and code, judged by the same back ends as the spectra that it learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trainer.frame_spectrum.graphs import BackEnds
from trainer.gaussian import Standardise
from trainer.graph import Float32, Float64, Tensor, concatenated, evaluated

Layer = tuple[Float32, Float32]  # weights [in, out] and bias [out]
Training = Callable[[Float64], Sequence[Layer]]  # see :class:`CodeAndResidual`


class CodeAndResidual:
    """Makes vectors of pooled frames: the residual, then the code that an autoencoder makes of them.

    Args:
        vectors: Pooled normal frames, float32 ``[vector, entry]``.
        train: Gives an encoder's two layers and a decoder's of standardised vectors, float64 ``[vector, entry]``.
    """

    def __init__(self, vectors: Float32, train: Training) -> None:
        self._standardise = Standardise(vectors)
        self._layers = train(self._standardise.vectors)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return float32 ``[vector, entry + code]``."""
        hidden, code, unfolded, rebuilt = self._layers
        spectra = self._standardise(vectors)
        inner = _through(code, _through(hidden, spectra).relu())
        residual = spectra - _through(rebuilt, _through(unfolded, inner).relu())
        return concatenated([residual, inner], axis=1)

    def of(self, vectors: Float32) -> Float32:
        """Return vectors, float32 ``[vector, entry]``, as float32 ``[vector, entry + code]``, outside of a graph."""
        return evaluated(lambda windows: self(windows.flatten()), vectors[:, np.newaxis, :, np.newaxis])


class AutoencoderBackEnds:
    """The distances of :class:`~trainer.frame_spectrum.graphs.BackEnds`, of an autoencoder's residual and code.

    Args:
        vectors: Normal ones, float32 ``[vector, entry]``.
        train: See :class:`CodeAndResidual`.
    """

    def __init__(self, vectors: Float32, train: Training) -> None:
        self._entries = int(vectors.shape[1])
        self._embed = CodeAndResidual(vectors, train)
        embedded = self._embed.of(vectors)
        self._all_entries = int(embedded.shape[1])
        self._back_ends = BackEnds(embedded)

    def distances(self, vectors: Float32) -> Float64:
        """Return the distances of vectors, float32 ``[vector, entry]``, as float64 ``[back end, vector]``."""
        return self._back_ends.distances(self._embed.of(vectors))

    def __call__(self, vectors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each distance, float32 ``[vector]``, and the entries' shares, float32 ``[vector, entry]``.

        The code belongs to no entry: its share goes to all of them alike.
        """
        return [(distance, self._shared(shares)) for distance, shares in self._back_ends(self._embed(vectors))]

    def _shared(self, shares: Tensor) -> Tensor:
        code = shares.between(self._entries, self._all_entries, 1).sum(1) / self._entries
        return shares.between(0, self._entries, 1) + code.unsqueeze(1)


def _through(layer: Layer, vectors: Tensor) -> Tensor:
    weights, bias = layer
    return vectors.times(weights) + bias
