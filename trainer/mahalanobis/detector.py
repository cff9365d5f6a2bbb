"""The residuals' Mahalanobis distance as a detector."""

from __future__ import annotations

from trainer.dense_ae.detector import dense_module
from trainer.detector import Detector, Fitted, OnEpoch
from trainer.gradient import train_by_gradient
from trainer.mahalanobis.torch_model import ResidualMahalanobis
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.windows import training_windows


class MahalanobisDetector(Detector):
    """A dense autoencoder whose residuals are judged by how they vary together in training."""

    name = "mahalanobis"
    by_gradient = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Train the autoencoder, then estimate the covariance of its residuals."""
        trained = train_by_gradient(dense_module(data, config), data, config, on_epoch)
        module = ResidualMahalanobis(trained.module.model, training_windows(data.train))
        return trained.fitted(module, data, f"shrinkage {module.shrinkage:.2f}")
