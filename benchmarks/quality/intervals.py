"""Intervals of 95 % by the bootstrap over rows and seeds.

Rows are drawn with replacement, and for each drawn row its seeds: the first says how far a mean rests on which
machines there happen to be, the second how far on chance in training. Source: A. C. Davison and D. V. Hinkley,
"Bootstrap Methods and their Application" (1997), section 3.8, of data in groups. Which design was chosen is taken as
given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.95
RESAMPLES: Final = 4_000
SEED: Final = 13

AUCs = Mapping[str, Sequence[float]]  # by row, one a seed
Floats = NDArray[np.float64]


def interval(aucs: AUCs) -> tuple[float, float]:
    """Return the interval of the harmonic mean of AUC over rows."""
    random = np.random.default_rng(SEED)
    return _bounds(_harmonic(_drawn(aucs, _rows(len(aucs), random), random)))


def difference_interval(aucs: AUCs, others: AUCs) -> tuple[float, float]:
    """Return the interval of the difference of two harmonic means over the same rows, drawn alike for both.

    Raises:
        ValueError: The rows differ.
    """
    if list(aucs) != list(others):
        raise ValueError(f"rows are {', '.join(aucs)} and {', '.join(others)}; expected the same")
    random = np.random.default_rng(SEED)
    rows = _rows(len(aucs), random)
    return _bounds(_harmonic(_drawn(aucs, rows, random)) - _harmonic(_drawn(others, rows, random)))


def _rows(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return which rows are drawn, int64 ``[resample, row]``."""
    return random.integers(count, size=(RESAMPLES, count))


def _drawn(aucs: AUCs, rows: NDArray[np.int64], random: np.random.Generator) -> Floats:
    """Return the AUC of each drawn row, the mean over seeds drawn of its own, float64 ``[resample, row]``."""
    drawn = np.empty(rows.shape)
    for number, of_seeds in enumerate(aucs.values()):
        here = rows == number
        seeds = random.integers(len(of_seeds), size=(int(here.sum()), len(of_seeds)))
        drawn[here] = np.asarray(of_seeds, dtype=np.float64)[seeds].mean(axis=1)
    return drawn


def _harmonic(aucs: Floats) -> Floats:
    return np.asarray(aucs.shape[1] / (1 / np.maximum(aucs, 1e-9)).sum(axis=1), dtype=np.float64)


def _bounds(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
