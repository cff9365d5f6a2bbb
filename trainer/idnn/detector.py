"""The interpolation network as a detector."""

from __future__ import annotations

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.gradient import fit_by_gradient
from trainer.idnn.lightning_model import LitInterpolation
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig


class InterpolationDetector(Detector):
    """Predict the centre frame of five from the other four."""

    name = "idnn"
    by_gradient = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Train with Lightning, and keep the epoch that generalised best."""
        module = LitInterpolation(*data.shape, config.learning_rate, config.seed)
        return fit_by_gradient(module, data, config, on_epoch)
