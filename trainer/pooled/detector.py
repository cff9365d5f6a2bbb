"""Pooled spectra as detectors."""

from __future__ import annotations

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.job import TrainConfig
from trainer.pooled.torch_model import NearestNeighbour, PooledMahalanobis
from trainer.spectrograms import Prepared
from trainer.windows import training_windows


class PooledDetector(Detector):
    """Mean and deviation over time, Mahalanobis distance."""

    name = "pooled"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Estimate a shrunk covariance."""
        module = PooledMahalanobis(training_windows(data.train))
        return Fitted(module.eval(), f"shrinkage {module.distance.shrinkage:.2f}")


class NearestDetector(Detector):
    """Mean and deviation over time, distance to the nearest training window."""

    name = "pooled_nn"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Remember the training windows."""
        module = NearestNeighbour(training_windows(data.train))
        return Fitted(module.eval(), f"{len(module.references)} references")
