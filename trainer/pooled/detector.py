"""Pooled spectra as detectors."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.job import TrainConfig
from trainer.mixture import PooledMixture, enough_for
from trainer.pooled.torch_model import FlutterPool, NearestNeighbour, Pool, PooledMahalanobis
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


class FlutterDetector(Detector):
    """Mean and flutter (how neighbouring columns differ), distance to the nearest training window."""

    name = "flutter_nn"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Remember the training windows."""
        module = NearestNeighbour(training_windows(data.train), FlutterPool())
        return Fitted(module.eval(), f"{len(module.references)} references")


class PooledMixtureDetector(Detector):
    """Mean and deviation over time, a mixture of two Gaussians: one normal state beside another."""

    name = "pooled_gmm"
    pool: ClassVar[type[nn.Module]] = Pool

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Fit the mixture; of one Gaussian where there are too few windows for two."""
        windows = training_windows(data.train)
        components = 2 if enough_for(2, len(windows)) else 1
        module = PooledMixture(self.pool(), windows, components, config.seed)
        return Fitted(module.eval(), f"{components} component{'s' * (components > 1)}")


class FlutterMixtureDetector(PooledMixtureDetector):
    """Mean and flutter, a mixture of two Gaussians."""

    name = "flutter_gmm"
    pool = FlutterPool
