"""The dense autoencoder as a detector."""

from __future__ import annotations

from trainer.dense_ae.lightning_model import LitDenseAutoEncoder
from trainer.detector import Detector, Fitted, OnEpoch
from trainer.gradient import fit_by_gradient
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig


class DenseAutoEncoderDetector(Detector):
    """Five stacked frames through a narrow code."""

    name = "dense_ae"
    by_gradient = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Train with Lightning, and keep the epoch that generalised best."""
        return fit_by_gradient(dense_module(data, config), data, config, on_epoch)


def dense_module(data: Prepared, config: TrainConfig) -> LitDenseAutoEncoder:
    """Return the module that learns from such data, with its first weights."""
    return LitDenseAutoEncoder(*data.shape, config.learning_rate, config.seed)
