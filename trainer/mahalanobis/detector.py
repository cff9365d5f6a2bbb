"""The residuals' Mahalanobis distance as a detector."""

from __future__ import annotations

from dataclasses import replace

from trainer.dense_ae.detector import DenseAutoEncoderDetector
from trainer.detector import Detector, Fitted, OnEpoch
from trainer.job import TrainConfig
from trainer.mahalanobis.torch_model import ResidualMahalanobis
from trainer.spectrograms import Prepared
from trainer.windows import training_windows


class MahalanobisDetector(Detector):
    """A dense autoencoder whose residuals are judged by how they vary together in training."""

    name = "mahalanobis"
    by_gradient = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Train the autoencoder, then estimate the covariance of its residuals."""
        trained = DenseAutoEncoderDetector().fit(data, config, on_epoch)
        module = ResidualMahalanobis(trained.module, training_windows(data.train)).eval()  # type: ignore[arg-type]
        why = f"shrinkage {module.distance.shrinkage:.2f}"
        return replace(trained, module=module, why=why)
