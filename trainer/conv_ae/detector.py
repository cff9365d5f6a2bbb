"""The convolutional autoencoder as a detector."""

from __future__ import annotations

from trainer.conv_ae.lightning_model import LitAutoEncoder
from trainer.detector import Detector, Fitted, OnEpoch
from trainer.gradient import fit_by_gradient
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig


class ConvAutoEncoderDetector(Detector):
    """Five convolutions down, five up."""

    name = "conv_ae"
    by_gradient = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Train with Lightning, and keep the epoch that generalised best."""
        module = LitAutoEncoder(*data.shape, config.latent, config.learning_rate, config.seed)
        return fit_by_gradient(module, data, config, on_epoch)
