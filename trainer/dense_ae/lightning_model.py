"""The dense autoencoder as a Lightning module."""

from __future__ import annotations

from trainer.dense_ae.torch_model import DenseAutoEncoder
from trainer.lightning_model import LitResidual, seeded


class LitDenseAutoEncoder(LitResidual):
    """Trains :class:`DenseAutoEncoder`; normalisation and decision threshold are in the checkpoint."""

    def __init__(self, channels: int, bands: int, columns: int, learning_rate: float = 1e-3, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.model = seeded(lambda: DenseAutoEncoder(channels, bands, columns), seed)
