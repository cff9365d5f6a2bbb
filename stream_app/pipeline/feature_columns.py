"""Who computes log-mel and statistics: compiled loops where numba is there and suits, else numpy.

Both keep the same tolerances, under the same tests; between each other they differ by rounding.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.filterbank import Filterbank
from stream_app.pipeline.optional_kernels import find_kernels
from stream_app.pipeline.spectrum import Transform
from stream_app.pipeline.statistics import StatisticsPlan, statistics

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class Columns(Protocol):
    """Computes signals that stand side by side; none depends on its neighbours. Serves any number of threads."""

    def log_mel(self, signals: Float32) -> Float32:
        """Return the natural log of energies, ``[signals, bands, columns]``, of float32 ``[signals, n]`` in C order."""

    def log_mel_and_statistics(self, signals: Float32) -> tuple[Float32, Float64]:
        """Return what :meth:`log_mel` does, bit for bit, and each signal's statistics, float64 ``[signals, 13]``."""


class NumpyColumns:
    """The reference, by numpy and scipy."""

    def __init__(self, config: FeatureConfig, bank: Filterbank, plan: StatisticsPlan) -> None:
        self._transform = Transform(config, bank)
        self._plan = plan
        self._floor = np.float32(config.floor)

    def log_mel(self, signals: Float32) -> Float32:
        """See :class:`Columns`."""
        return self._log(self._transform.energies(signals))

    def log_mel_and_statistics(self, signals: Float32) -> tuple[Float32, Float64]:
        """See :class:`Columns`."""
        spectrum = self._transform.spectrum(signals)
        found = statistics(spectrum, self._plan)
        return self._log(spectrum.energies), found

    def _log(self, energies: Float32) -> Float32:
        """Return the logs in the energies' place."""
        np.maximum(energies, self._floor, out=energies)
        return np.log(energies, out=energies)


def columns_of(config: FeatureConfig, bank: Filterbank, *, compiled: bool | None = None) -> Columns:
    """Return who computes a configuration.

    Args:
        config: What is wanted.
        bank: Its filterbank.
        compiled: Whether by compiled loops; None: where they can.

    Raises:
        ValueError: They can't, and must.
    """
    plan = StatisticsPlan.of(config)
    if compiled is not False and find_kernels() is not None:
        from stream_app.pipeline.compiled import CompiledColumns

        if CompiledColumns.suits(config):
            return CompiledColumns(config, bank, plan)
    if compiled:
        raise ValueError(f"n_fft {config.n_fft} can't be compiled; expected a power of two from 64 on, and numba")
    return NumpyColumns(config, bank, plan)
