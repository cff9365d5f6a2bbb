"""Pooled spectra as detectors."""

from __future__ import annotations

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.graph import build
from trainer.mixture import PooledMixture, enough_for
from trainer.pooled.graphs import Pool, PooledMahalanobis
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.windows import training_windows
from whirr.counts import counted


class PooledDetector(Detector):
    """Mean and deviation over time, Mahalanobis distance."""

    name = "pooled"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Estimate a shrunk covariance."""
        scorer = PooledMahalanobis(training_windows(data.train))
        return Fitted(build(scorer, data.shape), f"shrinkage {scorer.distance.shrinkage:.2f}")


class PooledMixtureDetector(Detector):
    """Mean and deviation over time, a mixture of two Gaussians: one normal state beside another."""

    name = "pooled_gmm"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Fit the mixture; of one Gaussian where there are too few windows for two."""
        windows = training_windows(data.train)
        components = 2 if enough_for(2, len(windows)) else 1
        scorer = PooledMixture(Pool(), windows, components, config.seed)
        return Fitted(build(scorer, data.shape), counted(components, "component"))
