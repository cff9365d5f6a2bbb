"""Pooled spectra as graphs: each band's mean and variation over time, judged against the training windows."""

from __future__ import annotations

from typing import Protocol

from trainer.gaussian import Mahalanobis, Standardise, by_band
from trainer.graph import Float32, Tensor, concatenated, evaluated

END = 2**31 - 1  # of an axis, however long


class Pooling(Protocol):
    """Makes vectors ``[window, per_band * channel * band]`` of windows ``[window, channel, band, time]``."""

    per_band: int

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return the vectors."""


class Pool:
    """Mean and standard deviation over time."""

    per_band = 2

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return means, then deviations, each channel by channel."""
        mean = log_mel.mean(3)
        deviation = (log_mel - mean.unsqueeze(3)).square().mean(3).sqrt()
        return concatenated([mean.flatten(), deviation.flatten()], axis=1)


class MeanPool:
    """Mean over time."""

    per_band = 1

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return means, channel by channel."""
        return log_mel.mean(3).flatten()


class MaxPool:
    """Maximum over time: what a band reaches now and then."""

    per_band = 1

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return maxima, channel by channel."""
        return log_mel.greatest(3).flatten()


class ShapePool:
    """Mean over time, less the mean over a channel's bands: what doesn't depend on the level."""

    per_band = 1

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return the means' differences from their channel's, channel by channel."""
        mean = log_mel.mean(3)
        return (mean - mean.mean(2).unsqueeze(2)).flatten()


class FlutterPool:
    """Flutter alone: a filter that stays the same (gain, where a microphone stands) doesn't move it.

    A frame of a single column has none; 0 is taken.
    """

    per_band = 1

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return flutters, channel by channel."""
        # A column of the first one's likeness before it all lets a single column differ from something.
        padded = concatenated([log_mel.between(0, 1, 3), log_mel], axis=3)
        return _flutter(padded).flatten()


def _flutter(log_mel: Tensor) -> Tensor:
    """Return the root of the mean square difference of neighbouring columns, float32 ``[window, channel, band]``."""
    return (log_mel.between(1, END, 3) - log_mel.between(0, -1, 3)).square().mean(3).sqrt()


class PooledMahalanobis:
    """Scores a window by its pooled vector's Mahalanobis distance.

    Args:
        windows: Training windows, float32 ``[window, channel, band, time]``.
    """

    def __init__(self, windows: Float32) -> None:
        self._shape = (windows.shape[1], windows.shape[2])
        self._pool = Pool()
        self._standardise = Standardise(evaluated(self._pool, windows))
        self.distance = Mahalanobis(self._standardise.vectors)

    def __call__(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        score, shares = self.distance(self._standardise(self._pool(log_mel)))
        return score, by_band(shares, self._pool.per_band, self._shape)
