"""Filterbanks: from the bins of a power spectrum to the bands of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from schemas.model_metadata import FeatureConfig

# Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, 27 steps per factor of 6.4 above.
_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


@dataclass(frozen=True, slots=True, eq=False)
class Filterbank:
    """Triangular filters over the bins of a power spectrum.

    Attributes:
        weights: Sparse float32 ``[bands, bins]``: most bins belong to two filters, so a dense product would spend
            its time on zeros.
        corners_hz: float64 ``[bands + 2]``; filter i rises from corner i, peaks at corner i + 1, ends at i + 2.
    """

    weights: scipy.sparse.csr_array
    corners_hz: NDArray[np.float64]

    @property
    def edges_hz(self) -> NDArray[np.float64]:
        """From and to of each band, ``[bands, 2]``, for reports: they tile fmin to fmax without overlap.

        Neighbours meet where their triangles cross, halfway between their peaks.
        """
        inner = (self.corners_hz[1:-2] + self.corners_hz[2:-1]) / 2
        bounds = np.concatenate([self.corners_hz[:1], inner, self.corners_hz[-1:]])
        return np.stack([bounds[:-1], bounds[1:]], axis=1)


def build_filterbank(config: FeatureConfig, scale: Literal["mel", "linear"]) -> Filterbank:
    """Return ``config.bands`` triangular filters, their corners equally spaced on a scale from fmin to fmax.

    The lowest filter starts at fmin, the highest ends at fmax. On the scale ``mel`` (Slaney's) this is librosa's
    ``filters.mel``; on ``linear`` corners are equally spaced in Hz, and below 1 kHz both are the same. With the norm
    ``slaney`` each triangle has unit area over Hz, with ``none`` unit height.
    """
    if scale == "mel":
        lowest, highest = _hz_to_mel(np.array([config.fmin_hz, config.fmax_hz]))
        corners_hz = _mel_to_hz(np.linspace(lowest, highest, config.bands + 2))
    else:
        corners_hz = np.linspace(config.fmin_hz, config.fmax_hz, config.bands + 2)
    bins_hz = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate_hz)
    widths = np.diff(corners_hz)[:, np.newaxis]
    ramps = bins_hz - corners_hz[:, np.newaxis]
    triangles = np.maximum(0, np.minimum(ramps[:-2] / widths[:-1], -ramps[2:] / widths[1:]))
    if config.norm == "slaney":
        triangles *= 2 / (corners_hz[2:] - corners_hz[:-2])[:, np.newaxis]
    return Filterbank(scipy.sparse.csr_array(triangles.astype(np.float32)), corners_hz)


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _HZ_PER_MEL, above)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, above)
