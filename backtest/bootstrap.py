"""Confidence intervals by the stratified bootstrap.

Recordings are drawn with replacement among those of the same machine and label, so that each resample has as many of
either as the set; the interval is between percentiles of the resamples' metrics. Source: B. Efron and R. Tibshirani,
"An Introduction to the Bootstrap" (1993), chapter 13.

A resample is held as how often each recording was drawn, so that all areas come from one sorting of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest.recording_metrics import MAX_FPR, Interval, Sample

LEVEL = 0.95
_CELLS = 4_000_000  # counts held at once: 32 MB

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def intervals(sample: Sample, resamples: int, seed: int) -> dict[str, Interval]:
    """Return the confidence intervals of ``auc``, ``pauc`` and ``f1``, at the level of 95 %.

    Args:
        sample: What the metrics are computed from.
        resamples: How many; 0 for no intervals.
        seed: The same seed gives the same intervals.

    Returns:
        Lower and upper bound by name; empty without resamples, or where a class is missing.
    """
    if not resamples or sample.anomalous.all() or not sample.anomalous.any():
        return {}
    drawn: dict[str, list[Floats]] = {"auc": [], "pauc": [], "f1": []}
    for counts in _resamples(sample, resamples, np.random.default_rng(seed)):
        fpr, tpr = curves(sample, counts)
        drawn["auc"].append(area(fpr, tpr, 1.0))
        drawn["pauc"].append(standardised(area(fpr, tpr, MAX_FPR), MAX_FPR))
        drawn["f1"].append(_f1(sample, counts))
    ends = (100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2)
    bounds = {name: np.percentile(np.concatenate(values), ends) for name, values in drawn.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def curves(sample: Sample, counts: Counts) -> tuple[Floats, Floats]:
    """Return false and true positive rates at each distinct score, from (0, 0) to (1, 1).

    Args:
        sample: Labels and scores.
        counts: int64 [resample, recording], how often each recording was drawn; both labels in each resample.

    Returns:
        Both float64 [resample, point], rising.
    """
    order = np.argsort(-sample.scores, kind="stable")
    # Recordings of equal scores pass a threshold together.
    last = np.append(np.flatnonzero(np.diff(sample.scores[order])), len(order) - 1)
    anomalous, counted = sample.anomalous[order], counts[:, order]
    return tuple(_rates(counted * chosen, last) for chosen in (~anomalous, anomalous))  # type: ignore[return-value]


def area(fpr: Floats, tpr: Floats, max_fpr: float) -> Floats:
    """Return the area under each curve up to a false positive rate, float64 [resample].

    Args:
        fpr: False positive rates, float64 [resample, point], rising.
        tpr: True positive rates, float64 [resample, point], rising.
        max_fpr: Where to end, above 0 and at most 1; within a segment the curve is a straight line.
    """
    x0, x1, y0, y1 = fpr[:, :-1], fpr[:, 1:], tpr[:, :-1], tpr[:, 1:]
    width = np.minimum(x1, max_fpr) - np.minimum(x0, max_fpr)
    slope = (y1 - y0) / np.where(x1 > x0, x1 - x0, 1.0)
    total: Floats = (width * (y0 + slope * width / 2)).sum(axis=1)
    return total


def standardised(partial: Floats, max_fpr: float) -> Floats:
    """Return a partial area as McClish standardises it: 0.5 is chance, 1 is perfect."""
    least, most = max_fpr**2 / 2, max_fpr
    result: Floats = 0.5 * (1 + (partial - least) / (most - least))
    return result


def _rates(counted: Counts, last: NDArray[Any]) -> Floats:
    cumulated = counted.cumsum(axis=1)[:, last].astype(np.float64)
    return np.concatenate([np.zeros((len(counted), 1)), cumulated / cumulated[:, -1:]], axis=1)


def _f1(sample: Sample, counts: Counts) -> Floats:
    found = (counts * (sample.anomalous & sample.flagged)).sum(axis=1)
    misjudged = (counts * (sample.anomalous ^ sample.flagged)).sum(axis=1)
    values: Floats = 2 * found / np.maximum(2 * found + misjudged, 1)
    return values


def _resamples(sample: Sample, resamples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """Yield blocks of counts, int64 [resample, recording]."""
    strata = [
        np.flatnonzero((sample.strata == stratum) & (sample.anomalous == label))
        for stratum in np.unique(sample.strata)
        for label in (False, True)
    ]
    block = max(1, _CELLS // len(sample.scores))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        counts = np.zeros((size, len(sample.scores)), np.int64)
        for members in strata:
            if len(members):
                shares = np.full(len(members), 1 / len(members))
                counts[:, members] = rng.multinomial(len(members), shares, size=size)
        yield counts
