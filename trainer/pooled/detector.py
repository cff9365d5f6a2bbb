"""Pooled spectra as detectors."""

from __future__ import annotations

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.graph import Float32, build
from trainer.mixture import PooledMixture, enough_for
from trainer.pooled.graphs import FlutterPool, NearestNeighbour, Pool, PooledMahalanobis, Pooling
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.windows import training_windows


class PooledDetector(Detector):
    """Mean and deviation over time, Mahalanobis distance."""

    name = "pooled"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Estimate a shrunk covariance."""
        scorer = PooledMahalanobis(training_windows(data.train))
        return Fitted(build(scorer, data.shape), f"shrinkage {scorer.distance.shrinkage:.2f}")


class NearestDetector(Detector):
    """Mean and deviation over time, distance to the nearest training window."""

    name = "pooled_nn"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Remember the training windows."""
        windows = training_windows(data.train)
        scorer = NearestNeighbour(windows, self.pool(windows))
        return Fitted(build(scorer, data.shape), f"{len(scorer.references)} references")

    def pool(self, windows: Float32) -> Pooling:  # noqa: ARG002
        """Return what makes vectors of windows, float32 ``[window, channel, band, time]``."""
        return Pool()


class FlutterDetector(NearestDetector):
    """Mean and flutter (how neighbouring columns differ), distance to the nearest training window."""

    name = "flutter_nn"

    def pool(self, windows: Float32) -> Pooling:
        """Return what makes vectors of windows, float32 ``[window, channel, band, time]``."""
        return FlutterPool(windows.shape[3])


class PooledMixtureDetector(Detector):
    """Mean and deviation over time, a mixture of two Gaussians: one normal state beside another."""

    name = "pooled_gmm"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Fit the mixture; of one Gaussian where there are too few windows for two."""
        windows = training_windows(data.train)
        components = 2 if enough_for(2, len(windows)) else 1
        scorer = PooledMixture(self.pool(windows), windows, components, config.seed)
        return Fitted(build(scorer, data.shape), f"{components} component{'s' * (components > 1)}")

    def pool(self, windows: Float32) -> Pooling:  # noqa: ARG002
        """Return what makes vectors of windows, float32 ``[window, channel, band, time]``."""
        return Pool()


class FlutterMixtureDetector(PooledMixtureDetector):
    """Mean and flutter, a mixture of two Gaussians."""

    name = "flutter_gmm"

    def pool(self, windows: Float32) -> Pooling:
        """Return what makes vectors of windows, float32 ``[window, channel, band, time]``."""
        return FlutterPool(windows.shape[3])
