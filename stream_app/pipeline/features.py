"""Log-mel spectrograms: the model's input, computed exactly as in training."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import FrameRejected, ModelError
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.filterbank import build_filterbank
from stream_app.pipeline.spectrum import Spectrum, Transform
from stream_app.pipeline.statistics import StatisticsPlan, statistics
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

    def __init__(self, config: FeatureConfig) -> None:
        """Prepare the window, the filterbank and the statistics' tables.

        Raises:
            ModelError: The configuration can't be computed.
        """
        _check(config)
        self.config = config
        bank = build_filterbank(config, config.scale)
        self._floor = np.float32(config.floor)
        self._transform = Transform(config, bank)
        self._plan = StatisticsPlan.of(config)
        self.band_edges_hz = bank.edges_hz

    def columns(self, samples: int) -> int:
        """Return how many columns ``samples`` samples per channel give."""
        return self._transform.columns(samples)

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
        energies = self._transform.energies(self._signals(samples))
        return self._log(energies, energies).reshape(*samples.shape[:-1], *energies.shape[1:])

    def spectrum(self, samples: Float32) -> Spectrum:
        """Return the power spectrum and band energies of samples (float32 ``[..., n]``), once for all that follows.

        Raises:
            FrameRejected: ``too_short`` for a single spectrum.
        """
        flat = self._transform.spectrum(self._signals(samples))
        shape = samples.shape[:-1]
        return Spectrum(
            samples=flat.samples.reshape(samples.shape),
            power=flat.power.reshape(*shape, *flat.power.shape[1:]),
            energies=flat.energies.reshape(*shape, *flat.energies.shape[1:]),
        )

    def log_mel_of(self, spectrum: Spectrum) -> Float32:
        """Return what :meth:`log_mel` gives for the spectrum's samples, bit for bit."""
        return self._log(spectrum.energies, np.empty_like(spectrum.energies))

    def statistics_of(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Return the 13 statistics, float64 ``[13]`` in the order of ``STATISTICS``, mean over all channels."""
        channels = statistics(spectrum, self._plan)
        mean: NDArray[np.float64] = channels.reshape(-1, channels.shape[-1]).mean(axis=0)
        return mean

    def statistics_of_each(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Return what :meth:`statistics_of` gives for each of several frames, bit for bit.

        Args:
            spectrum: Of samples ``[frames, channels, n]``.

        Returns:
            float64 ``[frames, 13]``.
        """
        mean: NDArray[np.float64] = statistics(spectrum, self._plan).mean(axis=1)
        return mean

    def _log(self, energies: Float32, out: Float32) -> Float32:
        np.maximum(energies, self._floor, out=out)
        return np.log(out, out=out)

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
