"""The short-time power spectrum: taken once a frame, shared by log-mel and statistics.

Transforms run in single precision, which is half as slow again in double. Its rounding adds noise at about 139 dB
below a column's total energy to every bin: nothing for most signals, too much where the spectrum is steep or the
signal a pure tone. Those columns, and only those, are taken again in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from schemas.model import FeatureConfig
from stream_app.pipeline.filterbank import Filterbank

Float32 = NDArray[np.float32]
FloatT = TypeVar("FloatT", np.float32, np.float64)

# Samples beyond this are cut to it: their squares, summed over bins and bands, still fit in float32.
SAMPLE_LIMIT: Final = np.float32(1e12)
# Bands that have less than this share of their column's total energy may be off by 1e-4 nepers; those further than
# 70 dB below the column's strongest band may be off by more (0.05), those at the floor by anything.
_NEAR_SHARE: Final = np.float32(1e-6)
_FAR_SHARE: Final = np.float32(3e-12)
_NEAR: Final = np.float32(1e-7)
# The statistics look into the gaps between lines too.
_BIN_SHARE: Final = np.float32(1e-11)
_NONE: Final = np.empty(0, np.intp)
_BLOCK_COLUMNS: Final = 128  # spreads the cost of calls, and keeps a block's arrays in the processor's caches


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Signals and their power spectra.

    Attributes:
        samples: float32 ``[..., n]``; the mean is removed if the model wants it so.
        power: float32 ``[..., bins, columns]``.
        energies: float32 ``[..., bands, columns]``: the power in the model's bands.
    """

    samples: Float32
    power: Float32
    energies: Float32


class Transform:
    """Power spectra and band energies. Holds no state but its tables.

    Signals are computed a few at a time, side by side; no figure depends on its neighbours. Inside, the columns of
    such a group stand in one row: ``[bins, signals * columns]``.
    """

    def __init__(self, config: FeatureConfig, bank: Filterbank) -> None:
        """Prepare a periodic Hann window and what tells when single precision is enough."""
        self._n_fft, self._hop = config.n_fft, config.hop
        self._window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.n_fft) / config.n_fft)
        self._window32 = self._window.astype(np.float32)
        self._weights = bank.weights
        self._peak_weight = bank.weights.max(axis=1).toarray().reshape(-1, 1)
        self._near_share = _NEAR_SHARE * self._peak_weight
        self._floor = np.float32(config.floor)
        self._remove_dc = config.remove_dc

    def columns(self, samples: int) -> int:
        """Return how many columns ``samples`` samples per channel give."""
        return max(0, 1 + (samples - self._n_fft) // self._hop)

    def energies(self, signals: Float32) -> Float32:
        """Return the band energies ``[signals, bands, columns]`` of signals (float32 ``[signals, n]``, C order)."""
        groups = [self._transform(group)[2] for group in self._groups(signals)]
        return self._joined(groups, signals)

    def spectrum(self, signals: Float32) -> Spectrum:
        """Return the spectra of signals (float32 ``[signals, n]``, C order), all arrays with leading ``[signals]``."""
        samples, power, energies = [], [], []
        for group in self._groups(signals):
            centred, group_power, group_energies, total = self._transform(group)
            self._refine(group, group_power, np.flatnonzero(group_power.min(axis=0) < _BIN_SHARE * total))
            samples.append(centred)
            power.append(group_power)
            energies.append(group_energies)
        joined = samples[0] if len(samples) == 1 else np.concatenate(samples)
        return Spectrum(joined, self._joined(power, signals), self._joined(energies, signals))

    def _groups(self, signals: Float32) -> Iterator[Float32]:
        """Yield signals in groups whose columns fill about one block."""
        size = max(1, _BLOCK_COLUMNS // self.columns(signals.shape[-1]))
        for start in range(0, len(signals), size):
            yield signals[start : start + size]

    def _joined(self, groups: list[Float32], signals: Float32) -> Float32:
        """Return groups of ``[rows, signals * columns]`` as one array ``[signals, rows, columns]``, C order."""
        rows, columns = len(groups[0]), self.columns(signals.shape[-1])
        if len(signals) == 1:
            return groups[0][np.newaxis]
        joined = np.empty((len(signals), rows, columns), np.float32)
        start = 0
        for group in groups:
            stop = start + group.shape[1] // columns
            joined[start:stop] = group.reshape(rows, -1, columns).transpose(1, 0, 2)
            start = stop
        return joined

    def _transform(self, signals: Float32) -> tuple[Float32, Float32, Float32, Float32]:
        """Return a group's centred samples, power, energies and each column's total power."""
        with np.errstate(over="ignore", invalid="ignore"):
            samples = self._centred(signals)
            power, total = self._power(samples)
            finite = math.isfinite(np.add.reduce(total))
        if not finite:
            return self._transform(np.clip(signals, -SAMPLE_LIMIT, SAMPLE_LIMIT))
        energies = self._weights @ power
        columns = self._doubtful(energies, total)
        if len(columns):
            self._refine(signals, power, columns)
            energies[:, columns] = self._weights @ np.ascontiguousarray(power[:, columns])
        return samples, power, energies, total

    def _centred(self, signals: Float32) -> Float32:
        """Return signals without their means, which are taken in double precision: a constant becomes exactly zero."""
        if not self._remove_dc:
            return signals
        samples = np.empty_like(signals)
        for index, signal in enumerate(signals):
            mean = _mean(signal)
            coarse = np.float32(mean)
            np.subtract(signal, coarse, out=samples[index])
            samples[index] -= np.float32(mean - float(coarse))
        return samples

    def _power(self, samples: Float32) -> tuple[Float32, Float32]:
        """Return a group's power spectrum ``[bins, signals * columns]`` in single precision, and each column's sum."""
        frames = frames_of(samples, self._n_fft, self._hop)
        power = np.empty((self._n_fft // 2 + 1, frames.shape[0] * frames.shape[1]), np.float32)
        total = np.empty(power.shape[1], np.float32)
        start = 0
        for first in range(0, frames.shape[1], _BLOCK_COLUMNS):
            # Either one signal in several blocks, or several signals in one.
            block = (frames[:, first : first + _BLOCK_COLUMNS] * self._window32).reshape(-1, self._n_fft)
            squared = _squared(scipy.fft.rfft(block).view(np.float32))
            columns = slice(start, start + len(block))
            np.add.reduce(squared, axis=-1, out=total[columns])
            power[:, columns] = squared.T
            start += len(block)
        return power, total

    def _doubtful(self, energies: Float32, total: Float32) -> NDArray[np.intp]:
        """Return the columns with a band that single precision may get wrong."""
        weak = energies < self._near_share * total
        if not np.count_nonzero(weak):
            return _NONE
        share = self._peak_weight * total
        weak &= (energies > _NEAR * energies.max(axis=0)) | ((energies < _FAR_SHARE * share) & (share > self._floor))
        return np.flatnonzero(weak.any(axis=0))

    def _refine(self, signals: Float32, power: Float32, columns: NDArray[np.intp]) -> None:
        """Put columns of a group's ``power``, taken anew in double precision."""
        frames = frames_of(signals, self._n_fft, self._hop)
        for start in range(0, len(columns), _BLOCK_COLUMNS):
            chosen = columns[start : start + _BLOCK_COLUMNS]
            which, column = np.divmod(chosen, frames.shape[1])
            block = frames[which, column].astype(np.float64)
            if self._remove_dc:
                block -= np.array([_mean(signal) for signal in signals])[which, np.newaxis]
            block *= self._window
            power[:, chosen] = _squared(scipy.fft.rfft(block).view(np.float64)).T


def frames_of(signals: Float32, length: int, hop: int) -> Float32:
    """Return a view ``[..., columns, length]`` of signals ``[..., n]`` (C order), without padding."""
    *rest, step = signals.strides
    columns = max(0, 1 + (signals.shape[-1] - length) // hop)
    # numpy's as_strided does the same and takes longer than the multiplication that follows.
    shape = (*signals.shape[:-1], columns, length)
    return np.ndarray(shape, signals.dtype, signals, 0, (*rest, hop * step, step))


def _squared(parts: NDArray[FloatT]) -> NDArray[FloatT]:
    """Return the squared magnitude of complex numbers, given as pairs of real ones in the last axis."""
    parts *= parts
    return parts[..., 0::2] + parts[..., 1::2]


def _mean(signal: Float32) -> float:
    return float(np.add.reduce(signal, dtype=np.float64)) / len(signal)
