"""The 13 statistics of a frame: small, named numbers for rolling features, reports and the feature store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.filterbank import Filterbank, build_filterbank
from stream_app.pipeline.spectrum import Spectrum, frames_of

MFCC_COUNT: Final = 6
STATISTICS: Final[tuple[str, ...]] = (
    "rms_mean",
    "rms_std",
    "zcr_mean",
    "spectral_centroid",
    "spectral_bandwidth",
    "spectral_rolloff",
    "spectral_contrast",
    *(f"mfcc_{index}" for index in range(MFCC_COUNT)),
)
ROLLOFF_SHARE: Final = 0.85
CONTRAST_BANDS: Final = 6  # octaves above the lowest band
CONTRAST_QUANTILE: Final = 0.02
ZERO_CROSSING_DEADBAND: Final = 1e-10
AMIN: Final = 1e-10
TOP_DB: Final = 80.0
DB_PER_NEPER: Final = 10 / math.log(10)
_BLOCK_BINS: Final = 16

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class Octave(NamedTuple):
    """From bin, to bin (exclusive), and how many bins make the peak and the valley."""

    start: int
    stop: int
    extremes: int


@dataclass(frozen=True, slots=True, eq=False)
class StatisticsPlan:
    """What the statistics need besides the spectrum, computed once for a model.

    Attributes:
        n_fft, hop: Samples in a spectrum and between two.
        bin_hz: Distance of two bins.
        contrast: The octaves of the spectral contrast.
        moments: float64 ``[3, bins]``, the powers 0, 1 and 2 of each bin's number.
        mel: The filterbank of the MFCC, or None where the model's own bands are it.
        cosines: float64 ``[MFCC_COUNT, bands]``, the orthonormal DCT-II.
    """

    n_fft: int
    hop: int
    bin_hz: float
    contrast: tuple[Octave, ...]
    moments: Float64
    mel: Filterbank | None
    cosines: Float64

    @classmethod
    def of(cls, config: FeatureConfig) -> StatisticsPlan:
        """Return the plan for a model's features.

        The MFCC of a model with linear bands are taken from a mel filterbank of as many bands between the same
        limits, so that a statistic means the same for every model.
        """
        mel = None if config.scale == "mel" else build_filterbank(config, "mel")
        cosines = scipy.fft.dct(np.eye(config.bands), type=2, norm="ortho", axis=0)[:MFCC_COUNT]
        contrast = _octaves(config.n_fft, config.sample_rate_hz)
        moments = np.arange(config.n_fft // 2 + 1, dtype=np.float64) ** np.arange(3)[:, np.newaxis]
        return cls(config.n_fft, config.hop, config.sample_rate_hz / config.n_fft, contrast, moments, mel, cosines)


def statistics(spectrum: Spectrum, plan: StatisticsPlan) -> NDArray[np.float64]:
    """Return the statistics of each signal, float64 ``[..., 13]`` in the order of :data:`STATISTICS`.

    Each equals librosa's feature of the same name, called with the model's n_fft and hop and without padding;
    mean over time where no other is named. All are finite for every finite signal. Signals that stand beside each
    other share the cost of calls; what a signal gets is bit for bit the same alone.
    """
    samples = spectrum.samples.reshape(-1, spectrum.samples.shape[-1])
    power = spectrum.power.reshape(-1, *spectrum.power.shape[-2:])
    energies = spectrum.energies.reshape(-1, *spectrum.energies.shape[-2:])
    if plan.mel is not None:
        energies = np.stack([plan.mel.weights @ one for one in power])
    magnitude = np.sqrt(power)
    moments = plan.moments @ magnitude.astype(np.float64)
    in_bins = (*_shape(moments), _rolloff(magnitude, moments[:, 0]))
    found = [
        *_time_domain(samples, plan.n_fft, plan.hop),
        *(bins * plan.bin_hz for bins in in_bins),
        _contrast(magnitude, plan),
        *_mfcc(energies, plan),
    ]
    return np.stack(found, axis=-1, dtype=np.float64).reshape(*spectrum.samples.shape[:-1], len(found))


def _time_domain(samples: Float32, n_fft: int, hop: int) -> tuple[Float32, Float32, Float32]:
    """Return mean and standard deviation of the columns' root mean square, and the mean zero-crossing rate.

    Of samples ``[signals, n]``; each of the three is ``[signals]``.
    """
    frames = frames_of(samples, n_fft, hop)
    rms = np.sqrt(np.einsum("scn,scn->sc", frames, frames) / n_fft)
    negative = samples < -ZERO_CROSSING_DEADBAND
    crossings = (negative[:, 1:] != negative[:, :-1]).astype(np.float32)
    # A column's first sample has no sample before it in the column, hence n_fft - 1.
    counts = np.einsum("scn->sc", frames_of(crossings, n_fft - 1, hop))
    return rms.mean(axis=-1), rms.std(axis=-1), counts.mean(axis=-1) / n_fft


def _shape(moments: Float64) -> tuple[Float64, Float64]:
    """Return the mean spectral centroid and the mean bandwidth around each column's centroid, in bins, ``[signals]``.

    Of the columns' moments about bin 0, ``[signals, 3, columns]``. They would cancel in single precision; in double
    they don't.
    """
    total = np.where(moments[:, 0] < np.finfo(np.float32).tiny, 1, moments[:, 0])
    centroid = moments[:, 1] / total
    bandwidth = np.sqrt(np.maximum(moments[:, 2] / total - centroid * centroid, 0))
    return centroid.mean(axis=-1), bandwidth.mean(axis=-1)


def _rolloff(magnitude: Float32, total: Float64) -> Float64:
    """Return the mean bin below which 85 % of a column's magnitude (in all ``total``) lies, ``[signals]``.

    A running sum over blocks of bins finds the block, one within it the bin: fewer and better rounded steps than
    one running sum over all bins. What is left of a block at the end needs no sum of its own.
    """
    signals, bins, columns = magnitude.shape
    blocks = magnitude[:, : bins - bins % _BLOCK_BINS].reshape(signals, -1, _BLOCK_BINS, columns)
    before = np.zeros((signals, blocks.shape[1] + 1, columns))
    np.cumsum(np.einsum("sbnc->sbc", blocks), axis=1, dtype=np.float64, out=before[:, 1:])
    threshold = ROLLOFF_SHARE * total[:, np.newaxis]
    block = (before[:, 1:] < threshold).sum(axis=1, keepdims=True)
    inside = np.minimum(block * _BLOCK_BINS + np.arange(_BLOCK_BINS)[:, np.newaxis], bins - 1)
    running = np.cumsum(np.take_along_axis(magnitude, inside, axis=1), axis=1, dtype=np.float64)
    running += np.take_along_axis(before, block, axis=1)
    found = np.minimum(block[:, 0] * _BLOCK_BINS + (running < threshold).sum(axis=1), bins - 1)
    mean: Float64 = found.mean(axis=-1)
    return mean


def _contrast(magnitude: Float32, plan: StatisticsPlan) -> Float32:
    """Return the mean over octaves of peak above valley, in dB of magnitude (10 log10), ``[signals]``.

    Peak and valley are the means of the largest and the smallest 2 % of an octave's bins. In short octaves that is
    one bin, so that no sorting is needed.
    """
    if not plan.contrast:  # so short a spectrum of so fast a signal has no octave with a bin
        return np.zeros(len(magnitude), np.float32)
    peaks, valleys = [], []
    for start, stop, extremes in plan.contrast:
        octave = magnitude[:, start:stop]
        if extremes == 1:
            peaks.append(np.maximum.reduce(octave, axis=1))
            valleys.append(np.minimum.reduce(octave, axis=1))
        else:
            ordered = np.ascontiguousarray(octave.swapaxes(1, 2))
            ordered.sort(axis=-1)
            peaks.append(np.add.reduce(ordered[..., -extremes:], axis=-1) / extremes)
            valleys.append(np.add.reduce(ordered[..., :extremes], axis=-1) / extremes)
    contrast = _to_db(np.stack(peaks, axis=1)) - _to_db(np.stack(valleys, axis=1))
    mean: Float32 = contrast.reshape(len(contrast), -1).mean(axis=-1)
    return mean


def _mfcc(energies: Float32, plan: StatisticsPlan) -> Float64:
    """Return the mean of the first mel-frequency cepstral coefficients, ``[MFCC_COUNT, signals]``.

    The mean over time commutes with the DCT.
    """
    coefficients = np.zeros((MFCC_COUNT, len(energies)))
    mean_db = _to_db(energies).astype(np.float64).mean(axis=-1)
    coefficients[: len(plan.cosines)] = np.einsum("kb,sb->ks", plan.cosines, mean_db)
    return coefficients


def _to_db(values: Float32) -> Float32:
    """Return 10 log10 of values, at least 1e-10 and at most 80 dB below the largest, as librosa's power_to_db.

    Of values ``[signals, rows, columns]``; the largest is each signal's own.
    """
    db: Float32 = np.log(np.maximum(values, np.float32(AMIN))) * np.float32(DB_PER_NEPER)
    np.maximum(db, db.max(axis=(1, 2), keepdims=True) - np.float32(TOP_DB), out=db)
    return db


def _octaves(n_fft: int, rate_hz: int) -> tuple[Octave, ...]:
    """Return the octaves of the spectral contrast, as librosa's spectral_contrast cuts them.

    Each octave but the lowest takes the bin below it too, each but the highest gives up its last bin, and the
    highest reaches to the end. Octaves without a bin (short spectra), of which librosa's result is NaN, are left out.
    """
    bins_hz = np.fft.rfftfreq(n_fft, 1 / rate_hz)
    fmin_hz = 200.0 if rate_hz > 12_800 else rate_hz / 128
    corners_hz = np.concatenate([[0.0], fmin_hz * 2.0 ** np.arange(CONTRAST_BANDS + 1)])
    octaves = []
    for index, (from_hz, to_hz) in enumerate(pairwise(corners_hz)):
        inside = np.flatnonzero((bins_hz >= from_hz) & (bins_hz <= to_hz))
        if len(inside) == 0:
            continue
        highest = index == CONTRAST_BANDS
        start = max(0, int(inside[0]) - (index > 0))
        stop = len(bins_hz) if highest else int(inside[-1]) + 1
        count = max(1, round(CONTRAST_QUANTILE * (stop - start)))
        stop -= not highest
        if stop > start:
            octaves.append(Octave(start, stop, count))
    return tuple(octaves)
