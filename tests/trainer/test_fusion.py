"""Several distances as one score: which count how much is told by normals that none of them has seen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.fusion import Fusion


def _chi2(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.chisquare(8, (2, count)) / 8


def test_a_distance_that_drifts_from_block_to_block_counts_less():
    """By the second distance a fifth of the normals are far away, as in a session at another level."""
    rng = np.random.default_rng(0)
    unseen = _chi2(rng, 100)
    unseen[1, 80:] *= 20
    normal, faulty = _chi2(rng, 400), _chi2(rng, 400)
    normal[1, :80] *= 20
    faulty[1, :80] *= 20
    faulty[0] *= 3
    truth = np.repeat([0, 1], 400)
    fused = Fusion(unseen).scores(np.concatenate([normal, faulty], axis=1))
    steady = np.concatenate([normal, faulty], axis=1)[0]
    assert roc_auc_score(truth, fused) > roc_auc_score(truth, steady) - 0.05


def test_distances_that_do_not_drift_count_alike():
    fusion = Fusion(_chi2(np.random.default_rng(1), 4000) * np.array([[1.0], [50.0]]))
    assert fusion.deviations[1] / fusion.medians[1] == pytest.approx(fusion.deviations[0] / fusion.medians[0], rel=0.05)


def test_scores_grow_with_each_distance_and_are_at_least_0():
    rng = np.random.default_rng(2)
    fusion = Fusion(_chi2(rng, 200))
    least = fusion.scores(np.zeros((2, 1)))[0]
    grown = [fusion.scores(np.array([[1.0 + far], [1.0]]))[0] for far in (0, 1, 10, 1000)]
    assert least >= 0
    assert np.all(np.diff(grown) > 0)
