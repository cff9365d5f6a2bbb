"""Metrics of labelled scores, and their means over machines.

Sources: AUC, the area under the receiver operating characteristic, is the statistic of H. B. Mann and D. R. Whitney
(1947); pAUC, its part up to a false positive rate of 0.1 as D. K. McClish, "Analyzing a portion of the ROC curve"
(1989), standardises it (0.5 is chance, 1 is perfect), is scikit-learn's ``roc_auc_score``; precision, recall, F1 and
accuracy are those of any textbook, with scikit-learn's convention that a ratio 0 / 0 is 0. DCASE Task 2 gives
arithmetic means over machines, and harmonic ones since 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_FPR: Final = 0.1
NAMES: Final = ("auc", "pauc", "f1", "recall", "precision", "accuracy")

Booleans = NDArray[np.bool_]
Scores = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Recordings by label and decision: anomalies found and missed, normals flagged and passed."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingMetrics:
    """Metrics of some recordings.

    Attributes:
        normals, anomalies: How many recordings of each.
        values: By name (``NAMES``); None where the labels don't allow for it.
        reasons: Why a value is None.
        intervals: By name (``auc``, ``pauc``, ``f1``), where there is one.
    """

    normals: int
    anomalies: int
    confusion: Confusion
    values: Mapping[str, float | None]
    reasons: Mapping[str, str]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What metrics are computed from, one entry a recording.

    Attributes:
        anomalous: bool [recording], the labels.
        scores: float64 [recording]; larger is worse.
        flagged: bool [recording], the decisions at the stored thresholds.
        strata: int [recording]; recordings of the same number and label are resampled among themselves.
    """

    anomalous: Booleans
    scores: Scores
    flagged: Booleans
    strata: NDArray[np.int64]


def measure(sample: Sample, intervals: Mapping[str, Interval] | None = None) -> RecordingMetrics:
    """Return the metrics of a sample of at least one recording."""
    found = confusion(sample)
    normals, anomalies = int((~sample.anomalous).sum()), int(sample.anomalous.sum())
    values: dict[str, float | None] = dict.fromkeys(NAMES)
    values["accuracy"] = (found.true_positives + found.true_negatives) / (normals + anomalies)
    reasons: dict[str, str] = {}
    if anomalies:
        values["recall"] = found.true_positives / anomalies
    if anomalies and normals:
        from sklearn.metrics import roc_auc_score  # a replay needs no metric but the first, and no scikit-learn

        values["auc"] = auc(sample.anomalous, sample.scores)
        values["pauc"] = float(roc_auc_score(sample.anomalous, sample.scores, max_fpr=MAX_FPR))
        values["precision"] = _ratio(found.true_positives, found.true_positives + found.false_positives)
        misjudged = found.false_positives + found.false_negatives
        values["f1"] = _ratio(2 * found.true_positives, 2 * found.true_positives + misjudged)
    else:
        missing = "no anomalous recording" if not anomalies else "no normal recording"
        reasons = {name: missing for name, value in values.items() if value is None}
    return RecordingMetrics(
        normals=normals,
        anomalies=anomalies,
        confusion=found,
        values=values,
        reasons=reasons,
        intervals={name: bounds for name, bounds in (intervals or {}).items() if values[name] is not None},
    )


def auc(anomalous: Booleans, scores: Scores) -> float | None:
    """Return the probability that an anomalous score is above a normal one, ties counting half; None without both.

    Args:
        anomalous: bool [recording].
        scores: float64 [recording].
    """
    normal, own = np.sort(scores[~anomalous]), scores[anomalous]
    if not len(normal) or not len(own):
        return None
    below = np.searchsorted(normal, own, "left").sum() + np.searchsorted(normal, own, "right").sum()
    return float(below / 2 / len(normal) / len(own))


def confusion(sample: Sample) -> Confusion:
    """Return the confusion matrix at the stored thresholds."""
    anomalous, flagged = sample.anomalous, sample.flagged
    return Confusion(
        true_positives=int((anomalous & flagged).sum()),
        false_positives=int((~anomalous & flagged).sum()),
        false_negatives=int((anomalous & ~flagged).sum()),
        true_negatives=int((~anomalous & ~flagged).sum()),
    )


def arithmetic_mean(machines: Iterable[RecordingMetrics]) -> dict[str, float | None]:
    """Return each metric's mean over the machines that have it; None where none has."""
    return {name: float(np.mean(own)) if own else None for name, own in _columns(machines).items()}


def harmonic_mean(machines: Iterable[RecordingMetrics]) -> dict[str, float | None]:
    """Return each metric's harmonic mean over the machines that have it: one bad machine can't hide; 0 stays 0."""
    return {
        name: (len(own) / sum(1 / value for value in own) if all(own) else 0.0) if own else None
        for name, own in _columns(machines).items()
    }


def _columns(machines: Iterable[RecordingMetrics]) -> dict[str, list[float]]:
    listed = list(machines)
    return {name: [value for one in listed if (value := one.values[name]) is not None] for name in NAMES}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
