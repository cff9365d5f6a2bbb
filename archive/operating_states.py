"""Operating states: what a frame is like, in a few whole numbers that can be compared, and in a few words.

The numbers cost the same of every frame, however long: at most 32 short spectra, spread over it, of each channel. They
are whole so that two programs that compare the same frames come to the same answer, on any machine.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archive.entries import ArchiveEntry
from recordings import Audio
from schemas.condition import Condition

BANDS: Final = 16
_N_FFT: Final = 1024
_MOST_SPECTRA: Final = 32
_LOWEST_SHARE: Final = 1 / 256  # of half the sample rate: the lowest band's lower edge
_EDGES: Final = np.geomspace(_LOWEST_SHARE, 1.0, BANDS + 1)
_FLOOR: Final = 1e-12  # -120 dB re full scale
# A doubling of speed, or the whole load, counts as much as 12 dB in every band.
_CONDITION_DB: Final = 12
_LEVEL_STEP_DB: Final = 6

Int64 = NDArray[np.int64]


def spectrum_of(audio: Audio) -> tuple[int, ...]:
    """Return the power in 16 bands, dB re full scale, mean over channels and spectra; the bands grow with frequency.

    Args:
        audio: Of any length; of a long one, 32 segments spread over it are taken.
    """
    n = audio.samples.shape[-1]
    length = min(_N_FFT, n)
    starts = np.unique(np.linspace(0, n - length, min(_MOST_SPECTRA, max(1, n // length))).astype(np.intp))
    cut = np.lib.stride_tricks.sliding_window_view(audio.samples, length, axis=-1)[:, starts]
    window = np.hanning(length).astype(np.float32)
    spectra = np.fft.rfft((cut - cut.mean(axis=-1, keepdims=True)) * window, axis=-1)
    power = (np.abs(spectra) ** 2).mean(axis=(0, 1)) / max(1.0, float(window.sum())) ** 2
    edges = _edges(len(power))
    sums = [float(power[start:stop].sum()) for start, stop in edges]
    return tuple(round(10 * math.log10(max(one, _FLOOR))) for one in sums)


def _edges(bins: int) -> list[tuple[int, int]]:
    """Return first bin and end of each band, at least a bin each."""
    at = [int(share * (bins - 1)) for share in _EDGES]
    return [(min(start, bins - 1), max(min(start, bins - 1) + 1, stop)) for start, stop in pairwise(at)]


def band_edges_hz(rate_hz: int) -> NDArray[np.float64]:
    """Return from where to where each band of :func:`spectrum_of` reaches, float64 [band, 2]."""
    return np.array(list(pairwise(_EDGES * rate_hz / 2)))


def state_of(level_dbfs: float, condition: Condition, spectrum: tuple[int, ...]) -> str:
    """Return an operating state's name, for lists, such as ``-36dB q2 1414rpm 50load``.

    Level in steps of 6 dB, the strongest quarter of the bands, speed in quarters of a doubling, load in steps of 10. It
    depends on the frame alone, so a state keeps its name.
    """
    quarter = max(range(BANDS), key=lambda band: spectrum[band]) * 4 // BANDS + 1
    words = [f"{_LEVEL_STEP_DB * round(level_dbfs / _LEVEL_STEP_DB)}dB", f"q{quarter}"]
    if condition.rpm is not None:
        words.append(f"{2 ** (round(4 * math.log2(condition.rpm)) / 4):.0f}rpm")
    if condition.load is not None:
        words.append(f"{10 * round(condition.load / 10)}load")
    return " ".join(words)


def vectors(entries: list[ArchiveEntry]) -> Int64:
    """Return what frames of one stream are compared by, ``[frame, BANDS + 3]``, in dB.

    The squared distance of two is the sum over the columns: bands as they are; speed, load and sample rate weighted
    so that each counts as if all bands changed. What isn't known is where the known ones' median is.
    """
    bands = np.array([entry.spectrum for entry in entries], np.int64).reshape(len(entries), BANDS)
    weight = _CONDITION_DB * math.isqrt(BANDS)
    speed = [None if entry.condition.rpm is None else weight * math.log2(entry.condition.rpm) for entry in entries]
    most = max((abs(entry.condition.load) for entry in entries if entry.condition.load is not None), default=0.0)
    load = [
        None if entry.condition.load is None else weight * entry.condition.load / (most or 1.0) for entry in entries
    ]
    rate = [weight * math.log2(entry.rate_hz) for entry in entries]
    return np.column_stack([bands, *(_whole(column) for column in (speed, load, rate))])


def _whole(column: list[float | None] | list[float]) -> Int64:
    known = sorted(round(one) for one in column if one is not None)
    middle = known[len(known) // 2] if known else 0
    return np.array([middle if one is None else round(one) for one in column], np.int64)
