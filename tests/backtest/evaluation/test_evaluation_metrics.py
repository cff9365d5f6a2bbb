"""Metrics against scikit-learn, their means, and the bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from backtest import bootstrap
from backtest.recording_metrics import NAMES, RecordingMetrics, Sample, arithmetic_mean, harmonic_mean, measure


def _sample(normals: int = 40, anomalies: int = 25, seed: int = 0, digits: int = 6, threshold: float = 0.8) -> Sample:
    rng = np.random.default_rng(seed)
    anomalous = np.repeat([False, True], [normals, anomalies])
    scores: Any = np.round(np.abs(rng.normal(anomalous * 0.8, 0.6)), digits)
    return Sample(anomalous, scores, scores > threshold, np.arange(normals + anomalies) % 2)


@pytest.mark.parametrize("digits", [6, 1], ids=["distinct scores", "equal scores"])
def test_every_metric_is_scikit_learns(digits: int) -> None:
    sample = _sample(digits=digits)
    found = measure(sample)
    truth, scores, flagged = sample.anomalous, sample.scores, sample.flagged
    expected = {
        "auc": sklearn_metrics.roc_auc_score(truth, scores),
        "pauc": sklearn_metrics.roc_auc_score(truth, scores, max_fpr=0.1),
        "f1": sklearn_metrics.f1_score(truth, flagged),
        "recall": sklearn_metrics.recall_score(truth, flagged),
        "precision": sklearn_metrics.precision_score(truth, flagged),
        "accuracy": sklearn_metrics.accuracy_score(truth, flagged),
    }
    assert found.values == pytest.approx(expected)
    c = found.confusion
    matrix = [[c.true_negatives, c.false_positives], [c.false_negatives, c.true_positives]]
    assert matrix == sklearn_metrics.confusion_matrix(truth, flagged).tolist()
    assert found.reasons == {}


@pytest.mark.parametrize(
    ("normals", "anomalies", "known", "reason"),
    [(10, 0, {"accuracy"}, "no anomalous recording"), (0, 10, {"accuracy", "recall"}, "no normal recording")],
)
def test_without_both_classes_values_are_none_for_a_reason(
    normals: int, anomalies: int, known: set[str], reason: str
) -> None:
    sample = _sample(normals, anomalies)
    found = measure(sample, bootstrap.intervals(sample, 100, 0))
    assert {name for name, value in found.values.items() if value is not None} == known
    assert found.reasons == {name: reason for name in NAMES if name not in known}
    assert found.intervals == {}


def test_nothing_flagged_is_a_precision_of_zero() -> None:
    found = measure(_sample(threshold=99.0))
    assert (found.values["precision"], found.values["recall"], found.values["f1"]) == (0.0, 0.0, 0.0)


def _of(**values: float | None) -> RecordingMetrics:
    everything = {**dict.fromkeys(NAMES), **values}
    confusion = measure(_sample()).confusion
    return RecordingMetrics(normals=1, anomalies=1, confusion=confusion, values=everything, reasons={})


def test_means_are_over_the_machines_that_have_a_value() -> None:
    machines = [_of(auc=1.0, f1=0.0), _of(auc=0.5, f1=1.0), _of(auc=None)]
    assert arithmetic_mean(machines)["auc"] == 0.75
    assert harmonic_mean(machines)["auc"] == pytest.approx(2 / 3)
    assert harmonic_mean(machines)["f1"] == 0.0
    assert arithmetic_mean(machines)["recall"] is None
    assert harmonic_mean(machines)["recall"] is None


# The bootstrap


@pytest.mark.parametrize("digits", [6, 1], ids=["distinct scores", "equal scores"])
def test_areas_of_counted_recordings_are_scikit_learns_of_repeated_ones(digits: int) -> None:
    sample = _sample(digits=digits)
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, size=(20, len(sample.scores)))
    fpr, tpr = bootstrap.curves(sample, counts)
    auc, part = bootstrap.area(fpr, tpr, 1.0), bootstrap.area(fpr, tpr, 0.1)
    for row, own_auc, own_part in zip(counts, auc, bootstrap.standardised(part, 0.1), strict=True):
        truth, scores = np.repeat(sample.anomalous, row), np.repeat(sample.scores, row)
        assert own_auc == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores))
        assert own_part == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores, max_fpr=0.1))


def test_intervals_hold_the_value_and_depend_on_the_seed_alone() -> None:
    sample = _sample()
    found = bootstrap.intervals(sample, 500, 0)
    values = measure(sample).values
    for name in ("auc", "pauc", "f1"):
        low, high = found[name]
        assert low < values[name] < high
    assert found == bootstrap.intervals(sample, 500, 0)
    assert found != bootstrap.intervals(sample, 500, 1)


def test_an_interval_is_as_wide_as_theory_says() -> None:
    # J. A. Hanley and B. J. McNeil (1982): the standard error of an area.
    sample = _sample(normals=200, anomalies=200)
    a = measure(sample).values["auc"]
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + 199 * (q1 - a * a) + 199 * (q2 - a * a)) / 200**2)
    low, high = bootstrap.intervals(sample, 2000, 0)["auc"]
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.12)


def test_each_machine_and_label_is_drawn_as_often_as_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = _sample(normals=7, anomalies=5)
    monkeypatch.setattr(bootstrap, "_CELLS", 30)  # several blocks
    blocks = list(bootstrap._resamples(sample, 11, np.random.default_rng(0)))
    counts = np.concatenate(blocks)
    assert len(blocks) > 1
    assert counts.shape == (11, 12)
    for stratum in (0, 1):
        for label in (False, True):
            members = (sample.strata == stratum) & (sample.anomalous == label)
            assert (counts[:, members].sum(axis=1) == members.sum()).all()
