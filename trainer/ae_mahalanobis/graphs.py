"""A small autoencoder's code and residual as a graph, and their Mahalanobis distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.gaussian import Mahalanobis, Standardise, by_band
from trainer.graph import Float32, Float64, Tensor, concatenated, evaluated
from trainer.pooled.graphs import Pool

Layer = tuple[Float32, Float32]  # weights [in, out] and bias [out]


class CodeAndResidual:
    """Makes vectors of windows: a pooled window's residual, then the code that an autoencoder makes of it.

    Args:
        windows: Training windows, float32 ``[window, channel, band, time]``.
        train: Gives an encoder's two layers and a decoder's of standardised vectors, float64 ``[vector, entry]``;
            without it there is no network, and the pooled windows are the residual.
    """

    def __init__(self, windows: Float32, train: Callable[[Float64], Sequence[Layer]] | None = None) -> None:
        self.pool = Pool()
        self._standardise = Standardise(evaluated(self.pool, windows))
        self._layers = train(self._standardise.vectors) if train is not None else ()

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return float32 ``[window, per_band * channel * band + code]``."""
        spectra = self._standardise(self.pool(log_mel))
        if not self._layers:
            return spectra
        hidden, code, unfolded, rebuilt = self._layers
        inner = _through(code, _through(hidden, spectra).relu())
        residual = spectra - _through(rebuilt, _through(unfolded, inner).relu())
        return concatenated([residual, inner], axis=1)


class CodeAndResidualMahalanobis:
    """Scores a window by the Mahalanobis distance of its residual and code, over the normal windows' covariance.

    Args:
        embed: Makes vectors of windows.
        windows: Normal windows, float32 ``[window, channel, band, time]``.
    """

    def __init__(self, embed: CodeAndResidual, windows: Float32) -> None:
        self._embed = embed
        self._shape = (windows.shape[1], windows.shape[2])
        self._standardise = Standardise(evaluated(embed, windows))
        self._distance = Mahalanobis(self._standardise.vectors)

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        score, shares = self._distance(self._standardise(self._embed(log_mel)))
        per_band, all_entries = self._embed.pool.per_band, self._standardise.vectors.shape[1]
        entries = per_band * self._shape[0] * self._shape[1]
        bands = by_band(shares.between(0, entries, 1), per_band, self._shape)
        if all_entries == entries:
            return score, bands
        # The code belongs to no band: its share goes to all of them alike.
        code = shares.between(entries, all_entries, 1).sum(1) * (per_band / entries)
        return score, bands + code.unsqueeze(1, 2)


def _through(layer: Layer, vectors: Tensor) -> Tensor:
    weights, bias = layer
    return vectors.times(weights) + bias
