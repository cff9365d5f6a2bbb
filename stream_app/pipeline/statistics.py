"""The 13 statistics of a frame: small, named numbers for rolling features, reports and the feature store."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from schemas.model import FeatureConfig
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
_ZERO_CROSSING_DEADBAND: Final = 1e-10
_AMIN: Final = 1e-10
_TOP_DB: Final = 80.0
_DB_PER_NEPER: Final = 10 / np.log(10)
_BLOCK_BINS: Final = 16

Float32 = NDArray[np.float32]


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
        mel: The filterbank of the MFCC, or None where the model's own bands are it.
        cosines: float64 ``[MFCC_COUNT, bands]``, the orthonormal DCT-II.
    """

    n_fft: int
    hop: int
    bin_hz: float
    contrast: tuple[Octave, ...]
    mel: Filterbank | None
    cosines: NDArray[np.float64]

    @classmethod
    def of(cls, config: FeatureConfig) -> StatisticsPlan:
        """Return the plan for a model's features.

        The MFCC of a model with linear bands are taken from a mel filterbank of as many bands between the same
        limits, so that a statistic means the same for every model.
        """
        mel = None if config.scale == "mel" else build_filterbank(config, "mel")
        cosines = scipy.fft.dct(np.eye(config.bands), type=2, norm="ortho", axis=0)[:MFCC_COUNT]
        contrast = _octaves(config.n_fft, config.sample_rate_hz)
        return cls(config.n_fft, config.hop, config.sample_rate_hz / config.n_fft, contrast, mel, cosines)


def statistics(spectrum: Spectrum, plan: StatisticsPlan) -> NDArray[np.float64]:
    """Return the statistics of a frame, float64 ``[13]`` in the order of :data:`STATISTICS`, mean over channels.

    Each equals librosa's feature of the same name, called with the model's n_fft and hop and without padding;
    mean over time where no other is named. All are finite for every finite signal.
    """
    samples = spectrum.samples.reshape(-1, spectrum.samples.shape[-1])
    power = spectrum.power.reshape(-1, *spectrum.power.shape[-2:])
    energies = spectrum.energies.reshape(-1, *spectrum.energies.shape[-2:])
    channels = [_of_channel(*channel, plan) for channel in zip(samples, power, energies, strict=True)]
    mean: NDArray[np.float64] = np.mean(channels, axis=0)
    return mean


def _of_channel(samples: Float32, power: Float32, energies: Float32, plan: StatisticsPlan) -> NDArray[np.float64]:
    """Return the 13 statistics of one channel."""
    magnitude = np.sqrt(power)
    if plan.mel is not None:
        energies = plan.mel.weights @ power
    centroid, bandwidth = _shape(magnitude)
    in_bins = np.array([centroid, bandwidth, _rolloff(magnitude)])
    time = _time_domain(samples, plan.n_fft, plan.hop)
    return np.concatenate([time, in_bins * plan.bin_hz, [_contrast(magnitude, plan)], _mfcc(energies, plan)])


def _time_domain(samples: Float32, n_fft: int, hop: int) -> tuple[float, float, float]:
    """Return mean and standard deviation of the columns' root mean square, and the mean zero-crossing rate."""
    frames = frames_of(samples, n_fft, hop)
    rms = np.sqrt(np.einsum("cn,cn->c", frames, frames) / n_fft)
    negative = samples < -_ZERO_CROSSING_DEADBAND
    crossings = (negative[1:] != negative[:-1]).astype(np.float32)
    # A column's first sample has no sample before it in the column, hence n_fft - 1.
    zcr = np.einsum("cn->c", frames_of(crossings, n_fft - 1, hop)[: len(frames)]).mean() / n_fft
    return float(rms.mean()), float(rms.std()), float(zcr)


def _shape(magnitude: Float32) -> tuple[float, float]:
    """Return the mean spectral centroid and the mean bandwidth around each column's centroid, in bins.

    Moments about zero would cancel in single precision; in double they don't.
    """
    bins = np.arange(len(magnitude), dtype=np.float64)
    total, first, second = np.stack([np.ones_like(bins), bins, bins * bins]) @ magnitude.astype(np.float64)
    total[total < np.finfo(np.float32).tiny] = 1
    centroid = first / total
    bandwidth = np.sqrt(np.maximum(second / total - centroid * centroid, 0))
    return float(centroid.mean()), float(bandwidth.mean())


def _rolloff(magnitude: Float32) -> float:
    """Return the mean bin below which 85 % of a column's magnitude lies.

    A running sum over blocks of bins finds the block, one within it the bin: fewer and better rounded steps than
    one running sum over all bins.
    """
    bins, columns = magnitude.shape
    starts = np.arange(0, bins, _BLOCK_BINS)
    before = np.zeros((len(starts) + 1, columns))
    np.cumsum(np.add.reduceat(magnitude, starts, axis=0), axis=0, dtype=np.float64, out=before[1:])
    threshold = ROLLOFF_SHARE * before[-1]
    block = (before[1:-1] < threshold).sum(axis=0)
    column = np.arange(columns)
    inside = np.minimum(starts[block] + np.arange(_BLOCK_BINS)[:, np.newaxis], bins - 1)
    running = before[block, column] + np.cumsum(magnitude[inside, column], axis=0, dtype=np.float64)
    return float(np.minimum(starts[block] + (running < threshold).sum(axis=0), bins - 1).mean())


def _contrast(magnitude: Float32, plan: StatisticsPlan) -> float:
    """Return the mean over octaves of peak above valley, in dB of magnitude (10 log10).

    Peak and valley are the means of the largest and the smallest 2 % of an octave's bins. In short octaves that is
    one bin, so that no sorting is needed.
    """
    short = [bound for octave in plan.contrast if octave.extremes == 1 for bound in (octave.start, octave.stop)]
    if short:
        # The last bound may be the end, which reduceat does not take; then it must go.
        bounds = short[:-1] if short[-1] == len(magnitude) else short
        peaks = list(np.maximum.reduceat(magnitude, bounds, axis=0)[::2])
        valleys = list(np.minimum.reduceat(magnitude, bounds, axis=0)[::2])
    else:
        peaks, valleys = [], []
    for octave in plan.contrast:
        if octave.extremes > 1:
            ordered = np.ascontiguousarray(magnitude[octave.start : octave.stop].T)
            ordered.sort(axis=1)
            peaks.append(np.add.reduce(ordered[:, -octave.extremes :], axis=1) / octave.extremes)
            valleys.append(np.add.reduce(ordered[:, : octave.extremes], axis=1) / octave.extremes)
    return float((_to_db(np.array(peaks)) - _to_db(np.array(valleys))).mean())


def _mfcc(energies: Float32, plan: StatisticsPlan) -> NDArray[np.float64]:
    """Return the mean of the first mel-frequency cepstral coefficients; the mean over time commutes with the DCT."""
    coefficients = np.zeros(MFCC_COUNT)
    coefficients[: len(plan.cosines)] = plan.cosines @ _to_db(energies).mean(axis=-1, dtype=np.float64)
    return coefficients


def _to_db(values: Float32) -> Float32:
    """Return 10 log10 of values, at least 1e-10 and at most 80 dB below the largest, as librosa's power_to_db."""
    db: Float32 = np.log(np.maximum(values, np.float32(_AMIN))) * np.float32(_DB_PER_NEPER)
    np.maximum(db, db.max() - np.float32(_TOP_DB), out=db)
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
