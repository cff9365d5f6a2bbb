"""What the modules that are trained by gradient share: Adam on the mean squared residual, held-out loss beside it."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from trainer.checkpoints import KEY


class LitResidual(lightning.LightningModule):  # type: ignore[misc]
    """Trains a module with a method ``residual(log_mel)``; the decision threshold is in the checkpoint.

    Subclasses set :attr:`model` and :attr:`learning_rate`; :attr:`about` says in a checkpoint what it was made from.
    """

    model: Any
    learning_rate: float
    threshold: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.about: dict[str, Any] = {}
        self.register_buffer("threshold", torch.tensor(float("inf")))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows: see :mod:`trainer.detector`."""
        scores: tuple[Tensor, Tensor] = self.model(log_mel)
        return scores

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:  # noqa: ARG002
        """Return the mean squared error of a batch ``[window, channel, band, time]``."""
        loss: Tensor = self.model.residual(batch).square().mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Tensor, batch_index: int) -> None:  # noqa: ARG002
        """Log the mean squared error of a batch of held-out windows."""
        self.log("held_out_loss", self.model.residual(batch).square().mean(), batch_size=len(batch))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what it was made from."""
        checkpoint[KEY] = self.about

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam, fused where the device has it."""
        fused = next(self.parameters()).device.type in {"cpu", "cuda"}
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, fused=fused)


def seeded(make: Any, seed: int) -> nn.Module:
    """Return ``make()``, its first weights drawn from a seed, whatever else draws random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: nn.Module = make()
    return module
