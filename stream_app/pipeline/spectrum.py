"""The short-time power spectrum: taken once a frame, shared by log-mel and statistics.

Transforms run in single precision, which is half as slow again in double. Its rounding adds noise at about 139 dB
below a column's total energy to every bin: nothing for most signals, too much where the spectrum is steep or the
signal a pure tone. Those columns, and only those, are taken again in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from recordings import SAMPLE_LIMIT
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.filterbank import Filterbank

Float32 = NDArray[np.float32]
FloatT = TypeVar("FloatT", np.float32, np.float64)

# Bands that have less than this share of their column's total energy may be off by 1e-4 nepers; those further than
# 70 dB below the column's strongest band may be off by more (0.05), those at the floor by anything.
NEAR_SHARE: Final = np.float32(1e-6)
FAR_SHARE: Final = np.float32(3e-12)
NEAR: Final = np.float32(1e-7)
# The statistics look into the gaps between lines too.
BIN_SHARE: Final = np.float32(1e-11)
NEGLIGIBLE_DC: Final = 1e-13  # -260 dB re full scale
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


class _Group(NamedTuple):
    """A few signals side by side.

    Attributes:
        signals: float32 ``[signals, n]``, as given or within limits.
        power: float32 ``[bins, signals * columns]``.
        energies: float32 ``[bands, signals * columns]``.
        total: float32 ``[signals * columns]``, the sum of each column's power in single precision.
    """

    signals: Float32
    power: Float32
    energies: Float32
    total: Float32


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
        self._near_share = NEAR_SHARE * self._peak_weight
        self._floor = np.float32(config.floor)
        self._remove_dc = config.remove_dc

    def columns(self, samples: int) -> int:
        """Return how many columns ``samples`` samples per channel give."""
        return max(0, 1 + (samples - self._n_fft) // self._hop)

    def energies(self, signals: Float32) -> Float32:
        """Return the band energies ``[signals, bands, columns]`` of signals (float32 ``[signals, n]``, C order)."""
        return self._joined([self._transform(group).energies for group in self._groups(signals)], signals)

    def spectrum(self, signals: Float32) -> Spectrum:
        """Return the spectra of signals (float32 ``[signals, n]``, C order), all arrays with leading ``[signals]``."""
        groups = [self._transform(group) for group in self._groups(signals)]
        for group in groups:
            self._refine(group, np.flatnonzero(group.power.min(axis=0) < BIN_SHARE * group.total))
        return Spectrum(
            samples=self._centred(groups),
            power=self._joined([group.power for group in groups], signals),
            energies=self._joined([group.energies for group in groups], signals),
        )

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

    def _transform(self, signals: Float32) -> _Group:
        with np.errstate(over="ignore", invalid="ignore"):
            power, total = self._power(signals)
            finite = math.isfinite(np.add.reduce(total))
        if not finite:
            signals = np.clip(signals, -SAMPLE_LIMIT, SAMPLE_LIMIT)
            power, total = self._power(signals)
        group = _Group(signals, power, self._weights @ power, total)
        columns = self._doubtful(group.energies, total)
        if len(columns):
            self._refine(group, columns)
            group.energies[:, columns] = self._weights @ np.ascontiguousarray(power[:, columns])
        return group

    def _centred(self, groups: list[_Group]) -> Float32:
        signals = np.concatenate([group.signals for group in groups]) if len(groups) > 1 else groups[0].signals
        return centred(signals) if self._remove_dc else signals

    def _power(self, signals: Float32) -> tuple[Float32, Float32]:
        """Return a group's power spectrum ``[bins, signals * columns]`` in single precision, and each column's sum.

        A constant under a periodic Hann window is nothing but bins 0 and 1, so the mean is taken out there. The sums
        still count it, since the transform's rounding grows with it.
        """
        frames = frames_of(signals, self._n_fft, self._hop)
        power = np.empty((self._n_fft // 2 + 1, frames.shape[0] * frames.shape[1]), np.float32)
        total = np.empty(power.shape[1], np.float32)
        dc = np.add.reduce(signals, axis=-1) * np.float32(self._n_fft / 2 / signals.shape[-1])
        start = 0
        for first in range(0, frames.shape[1], _BLOCK_COLUMNS):
            # Either one signal in several blocks, or several signals in one.
            block = (frames[:, first : first + _BLOCK_COLUMNS] * self._window32).reshape(-1, self._n_fft)
            parts = scipy.fft.rfft(block).view(np.float32)
            columns = slice(start, start + len(block))
            if self._remove_dc:
                at_zero = np.repeat(dc, len(block) // len(dc))
                parts[:, 0] -= at_zero
                parts[:, 2] += at_zero / 2
            squared = _squared(parts)
            np.add.reduce(squared, axis=-1, out=total[columns])
            if self._remove_dc:
                total[columns] += at_zero * at_zero
            power[:, columns] = squared.T
            start += len(block)
        return power, total

    def _doubtful(self, energies: Float32, total: Float32) -> NDArray[np.intp]:
        """Return the columns with a band that single precision may get wrong."""
        weak = energies < self._near_share * total
        if not np.count_nonzero(weak):
            return _NONE
        share = self._peak_weight * total
        weak &= (energies > NEAR * energies.max(axis=0)) | ((energies < FAR_SHARE * share) & (share > self._floor))
        return np.flatnonzero(weak.any(axis=0))

    def _refine(self, group: _Group, columns: NDArray[np.intp]) -> None:
        """Take columns of a group's power anew, in double precision."""
        frames = frames_of(group.signals, self._n_fft, self._hop)
        for start in range(0, len(columns), _BLOCK_COLUMNS):
            chosen = columns[start : start + _BLOCK_COLUMNS]
            which, column = np.divmod(chosen, frames.shape[1])
            block = frames[which, column].astype(np.float64)
            if self._remove_dc:
                block -= np.array([_mean(signal) for signal in group.signals])[which, np.newaxis]
            block *= self._window
            group.power[:, chosen] = _squared(scipy.fft.rfft(block).view(np.float64)).T


def centred(signals: Float32) -> Float32:
    """Return signals, float32 ``[signals, n]``, each without its mean.

    Means are taken in double precision: a constant becomes exactly zero.
    """
    samples = np.empty_like(signals)
    for index, signal in enumerate(signals):
        mean = _mean(signal)
        coarse = np.float32(mean)
        np.subtract(signal, coarse, out=samples[index])
        rest = mean - float(coarse)
        if abs(rest) > NEGLIGIBLE_DC:
            samples[index] -= np.float32(rest)
    return samples


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
