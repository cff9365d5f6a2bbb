"""Log-mel spectrograms: the model's input, computed exactly as in training."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import FrameRejected, ModelError
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.feature_columns import Columns, columns_of
from stream_app.pipeline.filterbank import build_filterbank
from stream_app.pipeline.windowing import windows

__all__ = ["Features", "windows"]

# Measured: fewer leave more of the cost of calls to each frame, and from 1024 on everything gets slower.
_COLUMNS_AT_ONCE: Final = 256

Float32 = NDArray[np.float32]


class Features:
    """Turns samples into log-mel spectrograms and statistics as one model's configuration says.

    A frame's features are bit for bit the same alone and in any batch.
    Holds no state besides what the configuration gives: one object serves any number of threads.
    """

    def __init__(self, config: FeatureConfig, *, compiled: bool | None = None) -> None:
        """Prepare the window, the filterbank and the statistics' tables.

        Args:
            config: What to compute.
            compiled: Whether by compiled loops; None: where that can be (:mod:`stream_app.pipeline.feature_columns`).

        Raises:
            ModelError: The configuration can't be computed.
        """
        _check(config)
        self.config = config
        self._bank = build_filterbank(config, config.scale)
        self._compiled = compiled
        self.band_edges_hz = self._bank.edges_hz

    @cached_property
    def _columns(self) -> Columns:
        """Who computes; not known before something is to be computed: many a process only asks what a model is."""
        return columns_of(self.config, self._bank, compiled=self._compiled)

    def columns(self, samples: int) -> int:
        """Return how many columns ``samples`` samples per channel give."""
        return max(0, 1 + (samples - self.config.n_fft) // self.config.hop)

    def at_once(self, channels: int, samples: int) -> int:
        """Return how many frames of so many channels and samples per channel are best computed side by side."""
        return max(1, _COLUMNS_AT_ONCE // (channels * max(1, self.columns(samples))))

    def log_mel(self, samples: Float32) -> Float32:
        """Return the natural log of each band's energy, at least ``config.floor``.

        Args:
            samples: float32 ``[..., n]``, full scale ±1, at the model's rate.

        Returns:
            float32 ``[..., bands, columns]``.

        Raises:
            FrameRejected: ``too_short`` for a single spectrum.
        """
        found = self._columns.log_mel(self._signals(samples))
        return found.reshape(*samples.shape[:-1], *found.shape[1:])

    def log_mel_and_statistics(self, samples: Float32) -> tuple[Float32, NDArray[np.float64]]:
        """Return log-mel as :meth:`log_mel`, bit for bit, and the statistics, from one spectrum.

        Args:
            samples: float32 ``[frames, channels, n]``, full scale ±1, at the model's rate.

        Returns:
            float32 ``[frames, channels, bands, columns]``, and float64 ``[frames, 13]`` in the order of
            ``STATISTICS``, means over a frame's channels.

        Raises:
            FrameRejected: ``too_short`` for a single spectrum.
        """
        log_mel, of_channels = self._columns.log_mel_and_statistics(self._signals(samples))
        shape = samples.shape[:-1]
        mean: NDArray[np.float64] = of_channels.reshape(*shape, -1).mean(axis=1)
        return log_mel.reshape(*shape, *log_mel.shape[1:]), mean

    def _signals(self, samples: Float32) -> Float32:
        """Return samples as float32 ``[signals, n]``, C order."""
        n = samples.shape[-1]
        if n < self.config.n_fft:
            raise FrameRejected("too_short", f"{n} samples; one spectrum takes {self.config.n_fft}")
        return np.ascontiguousarray(samples, np.float32).reshape(-1, n)


@lru_cache(maxsize=256)
def shared_features(config: FeatureConfig) -> Features:
    """Return the features of a configuration; models that are alike share them.

    Raises:
        ModelError: The configuration can't be computed.
    """
    return Features(config)


def _check(config: FeatureConfig) -> None:
    """Refuse a configuration that can't be computed."""
    nyquist_hz = config.sample_rate_hz / 2
    if not config.fmin_hz < config.fmax_hz <= nyquist_hz:
        raise ModelError(
            f"fmin_hz {config.fmin_hz:g} and fmax_hz {config.fmax_hz:g}; expected fmin_hz < fmax_hz <= {nyquist_hz:g}"
        )
    if config.n_fft < 4 or config.hop > config.n_fft:
        raise ModelError(f"n_fft {config.n_fft} and hop {config.hop}; expected n_fft of at least 4 and hop <= n_fft")
    if not np.float32(config.floor) > 0:
        raise ModelError(f"floor {config.floor:g}; expected a positive float32")
    if config.time_axis == "dynamic" and (config.max_columns is None or config.max_columns < config.window_columns):
        raise ModelError(f"max_columns {config.max_columns}; expected at least window_columns {config.window_columns}")
