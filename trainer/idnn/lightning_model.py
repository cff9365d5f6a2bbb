"""The interpolation network as a Lightning module."""

from __future__ import annotations

from trainer.idnn.torch_model import InterpolationNetwork
from trainer.lightning_model import LitResidual, seeded


class LitInterpolation(LitResidual):
    """Trains :class:`InterpolationNetwork`; normalisation and decision threshold are in the checkpoint."""

    def __init__(self, channels: int, bands: int, columns: int, learning_rate: float = 1e-3, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.model = seeded(lambda: InterpolationNetwork(channels, bands, columns), seed)
