"""Log-mel and statistics by compiled loops: several times as fast as numpy's, of which they keep every tolerance.

Single precision is enough for nearly all columns; those for which it isn't are told by the same rule as in
:mod:`stream_app.pipeline.spectrum`, and taken again in double precision.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recordings import SAMPLE_LIMIT
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline import kernels
from stream_app.pipeline.filterbank import Filterbank, build_filterbank
from stream_app.pipeline.spectrum import BIN_SHARE, FAR_SHARE, NEAR, NEAR_SHARE, NEGLIGIBLE_DC
from stream_app.pipeline.statistics import (
    AMIN,
    DB_PER_NEPER,
    MFCC_COUNT,
    ROLLOFF_SHARE,
    STATISTICS,
    TOP_DB,
    ZERO_CROSSING_DEADBAND,
    StatisticsPlan,
)

LEAST_N_FFT: Final = 64
MOST_N_FFT: Final = 1 << 15  # what stands side by side would leave the caches

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class _Tables(NamedTuple):
    """What the kernels take, in one precision."""

    transform: kernels.TransformTables
    bands: kernels.Bank
    mel: kernels.Bank


class CompiledColumns:
    """Log-mel spectrograms and statistics of signals. Holds no state but its tables.

    Args:
        config: What is wanted; :meth:`suits` must say yes.
        bank: Its filterbank.
        plan: Of its statistics.
    """

    def __init__(self, config: FeatureConfig, bank: Filterbank, plan: StatisticsPlan) -> None:
        self._n_fft, self._hop = config.n_fft, config.hop
        self._remove_dc = config.remove_dc
        self._floor = np.float32(config.floor)
        self._plan = plan
        self._bank = bank.weights
        self._mel = plan.mel.weights if plan.mel is not None else bank.weights[:0]
        self._order = _order(config.n_fft // 2)
        self._octaves = np.array([tuple(octave) for octave in plan.contrast], np.int64).reshape(-1, 3)
        self._single, self._double = (self._tables(dtype) for dtype in (np.float32, np.float64))

    @staticmethod
    def suits(config: FeatureConfig) -> bool:
        """Whether a configuration can be computed here: the transform's length is a power of two."""
        return LEAST_N_FFT <= config.n_fft <= MOST_N_FFT and config.n_fft & (config.n_fft - 1) == 0

    def log_mel(self, signals: Float32) -> Float32:
        """Return the natural log of band energies ``[signals, bands, columns]`` of float32 ``[signals, n]``."""
        return self._logs(self._computed(signals, statistics=False)[0], self._floor)

    def log_mel_and_statistics(self, signals: Float32) -> tuple[Float32, Float64]:
        """Return log-mel as :meth:`log_mel`, bit for bit, and the statistics, ``[signals, 13]``."""
        energies, mel, shape, times = self._computed(signals, statistics=True)
        amin = np.float32(AMIN)
        of_cepstrum = None
        if self._plan.mel is not None:
            of_cepstrum = self._logs(mel, amin)
        elif self._floor != amin:
            of_cepstrum = self._logs(energies.copy(), amin)
        log_mel = self._logs(energies, self._floor)
        found = np.empty((len(signals), len(STATISTICS)))
        edges = np.empty((2, len(signals), len(self._octaves), log_mel.shape[2]), np.float32)
        kernels.summarised(times, shape, self._n_fft, self._plan.bin_hz, found, edges, AMIN)
        np.log(edges, out=edges)
        self._cepstrum(log_mel if of_cepstrum is None else of_cepstrum, found)
        self._contrast(edges, found)
        return log_mel, found

    def _contrast(self, edges: Float32, found: Float64) -> None:
        means = np.empty(edges.shape[:3])
        if not len(self._octaves):  # so short a spectrum of so fast a signal has none
            found[:, 6] = 0
            return
        for kind in range(2):
            kernels.decibel_means(edges[kind], DB_PER_NEPER, TOP_DB, means[kind])
        found[:, 6] = (means[0] - means[1]).mean(axis=-1)

    def _cepstrum(self, logs: Float32, found: Float64) -> None:
        means = np.empty(logs.shape[:2])
        kernels.decibel_means(logs, DB_PER_NEPER, TOP_DB, means)
        found[:, 7:] = 0
        cosines = self._plan.cosines
        # The mean over time commutes with the DCT.
        found[:, 7 : 7 + min(len(cosines), MFCC_COUNT)] = np.einsum("kb,sb->sk", cosines, means)

    @staticmethod
    def _logs(energies: Float32, floor: np.float32) -> Float32:
        """Return the natural log of energies, at least ``floor``, in their place."""
        np.maximum(energies, floor, out=energies)
        return np.log(energies, out=energies)

    def _computed(self, signals: Float32, *, statistics: bool) -> tuple[Float32, Float32, Float64, Float64]:
        found, total = self._tried(signals, statistics=statistics)
        if not np.isfinite(np.add.reduce(total)):
            found, _ = self._tried(np.clip(signals, -SAMPLE_LIMIT, SAMPLE_LIMIT), statistics=statistics)
        return found

    def _tried(
        self, signals: Float32, *, statistics: bool
    ) -> tuple[tuple[Float32, Float32, Float64, Float64], Float32]:
        count, length = signals.shape
        columns = 1 + (length - self._n_fft) // self._hop
        if not signals.flags.writeable:  # numba would compile everything anew, for arrays that can't be written to
            signals = signals.copy()
        samples = self._centred(signals)
        energies = np.empty((count, self._bank.shape[0], columns), np.float32)
        mel = np.empty((count, self._mel.shape[0], columns), np.float32)
        shape = np.empty((count * columns, 3 + 2 * len(self._octaves)))
        every = np.arange(count * columns)
        total, least = np.empty(len(every), np.float32), np.empty(len(every), np.float32)
        doubt = np.empty(len(every), np.bool_)
        found = kernels.Found(energies, mel, total, least, doubt, shape)
        with np.errstate(over="ignore", invalid="ignore"):
            self._spectra(self._single, samples.reshape(-1), length, every, found, (True, statistics))
            poor = (least < BIN_SHARE * total) & ~doubt if statistics else np.zeros(0, np.bool_)
        if doubt.any() or poor.any():
            exact = _exact(signals, remove_dc=self._remove_dc)
            unused = np.empty(len(every)), np.empty(len(every)), np.empty_like(doubt)
            again = kernels.Found(energies, mel, *unused, shape)
            self._spectra(self._double, exact, length, np.flatnonzero(doubt), again, (True, statistics))
            self._spectra(self._double, exact, length, np.flatnonzero(poor), again, (False, statistics))
        times = np.empty((count, 2, columns if statistics else 0))
        if statistics:
            kernels.time_domain(samples, self._n_fft, self._hop, ZERO_CROSSING_DEADBAND, times)
        return (energies, mel, shape, times), total

    def _centred(self, signals: Float32) -> Float32:
        if not self._remove_dc:
            return signals
        found = np.empty_like(signals)
        kernels.without_means(signals, NEGLIGIBLE_DC, found)
        return found

    def _spectra(
        self,
        tables: _Tables,
        samples: NDArray[Any],
        length: int,
        chosen: NDArray[np.int64],
        found: kernels.Found,
        wanted: tuple[bool, bool],
    ) -> None:
        cut = kernels.Cut(length, self._hop, ROLLOFF_SHARE)
        kernels.spectra(samples, cut, chosen, *tables, self._octaves, found, wanted)

    def _tables(self, dtype: type[np.float32] | type[np.float64]) -> _Tables:
        n_fft, half = self._n_fft, self._n_fft // 2
        # Half of a periodic Hann window: the kernel's bins come out twice as large.
        window = 0.25 - 0.25 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
        angles = -2 * np.pi * np.arange(half) / n_fft
        pair = np.empty(0, np.int64 if dtype is np.float32 else np.complex128)
        floats = (table.astype(dtype) for table in (_turns(half), np.cos(angles), np.sin(angles)))
        turns, cosines, sines = floats
        transform = kernels.TransformTables(window.astype(dtype), pair, turns, self._order, cosines, sines)
        return _Tables(transform, self._bank_of(self._bank, dtype), self._bank_of(self._mel, dtype))

    def _bank_of(self, weights: scipy.sparse.csr_array, dtype: type[np.float32] | type[np.float64]) -> kernels.Bank:
        peaks = weights.max(axis=1).toarray().reshape(-1) if weights.shape[0] else np.empty(0)
        shares = np.array([NEAR_SHARE, NEAR, FAR_SHARE], dtype)
        begins, bins, values = [0], [], []
        for band in range(weights.shape[0]):
            own = slice(weights.indptr[band], weights.indptr[band + 1])
            padding = -(own.stop - own.start) % 4
            bins += [*weights.indices[own], *[0] * padding]
            values += [*weights.data[own], *[0.0] * padding]
            begins.append(len(bins))
        tables = np.array(begins, np.int32), np.array(bins, np.int32), np.array(values, dtype), peaks.astype(dtype)
        return kernels.Bank(*tables, shares, float(self._floor))


def try_out() -> bool:
    """Compute a tone, so that everything is compiled, in both precisions; return whether anything was not yet."""
    config = FeatureConfig(n_fft=LEAST_N_FFT, hop=LEAST_N_FFT, bands=2, floor=1e-30)
    plan = StatisticsPlan.of(config)
    columns = CompiledColumns(config, build_filterbank(config, config.scale), plan)
    tone = np.sin(2 * np.pi / LEAST_N_FFT * np.arange(2 * LEAST_N_FFT)).astype(np.float32)[np.newaxis]
    columns.log_mel_and_statistics(tone)
    kernels.mean_square(tone[0])
    return any(kernels.spectra.stats.cache_misses.values())  # type: ignore[attr-defined]


def _exact(signals: Float32, *, remove_dc: bool) -> Float64:
    """Return signals one after the other in double precision."""
    exact = signals.astype(np.float64)
    if remove_dc:
        exact -= exact.mean(axis=-1, keepdims=True)
    return exact.reshape(-1)


def _turns(points: int) -> Float64:
    """Return the factors of all passes of eight, one pass after the other, ``[factors, 15]``."""
    passes = []
    while points >= 8:
        step = np.exp(-2j * np.pi * np.arange(points // 8) / points)
        turns = [part for power in range(1, 8) for part in ((step**power).real, (step**power).imag)]
        passes.append(np.stack([*turns, np.full(len(step), math.sqrt(0.5))], axis=1))
        points //= 8
    return np.concatenate(passes)


def _order(points: int) -> NDArray[np.int64]:
    """Return where each coefficient is after all passes: at its number with the digits turned round."""
    rest, places = np.arange(points), np.zeros(points, np.int64)
    while points > 1:
        radix = min(points, 8)
        places = places * radix + rest % radix
        rest //= radix
        points //= radix
    return places
