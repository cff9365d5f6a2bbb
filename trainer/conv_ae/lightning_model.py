"""The convolutional autoencoder as a Lightning module: what trains it, and what a checkpoint holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.conv_ae.torch_model import ConvAutoEncoder
from trainer.lightning_model import LitResidual, seeded


class LitAutoEncoder(LitResidual):
    """Trains :class:`ConvAutoEncoder`; normalisation and the decision threshold are in the checkpoint.

    Args:
        channels: Channels of the signal.
        bands: Rows of a window.
        columns: Columns of a window.
        latent: Maps of the innermost layer (z).
        learning_rate: Of Adam.
        seed: Of the first weights.
    """

    def __init__(
        self,
        channels: int = 1,
        bands: int = 128,
        columns: int = 30,
        latent: int = 40,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.model = seeded(lambda: ConvAutoEncoder(channels, bands, columns, latent), seed)

    def on_fit_start(self) -> None:
        """Lay the weights out channels last, which the CPU's convolutions like better."""
        self.model.to(memory_format=torch.channels_last)

    def on_fit_end(self) -> None:
        """Lay the weights out as everybody expects them."""
        self.model.to(memory_format=torch.contiguous_format)

    @torch.no_grad()
    def predict_anomaly(self, spectrogram: np.ndarray | Tensor | Any) -> tuple[bool, float]:
        """Judge one spectrogram by the decision threshold (percentile of held-out normals).

        Args:
            spectrogram: Natural-log mel spectrogram, [band, time] for a one-channel model or [channel, band, time];
                of the model's columns or longer, then cut into windows whose mean counts.

        Returns:
            is_anomaly: Whether the error is above the threshold.
            error: The mean squared error, in units of the training windows' variance.

        Raises:
            ValueError: The spectrogram's shape doesn't fit the model.
        """
        windows = self._windows(torch.as_tensor(spectrogram, dtype=torch.float32, device=self.device))
        training = self.training
        self.eval()
        error = float(self.model(windows)[0].mean())
        self.train(training)
        return error > float(self.threshold), error

    def _windows(self, spectrogram: Tensor) -> Tensor:
        channels, bands, columns = self.model.shape
        whole = spectrogram.unsqueeze(0) if spectrogram.ndim == 2 else spectrogram
        if whole.ndim != 3 or whole.shape[:2] != (channels, bands) or whole.shape[2] < columns:
            raise ValueError(
                f"spectrogram has shape {tuple(spectrogram.shape)}; expected {(channels, bands)} and at least "
                f"{columns} columns"
            )
        last = whole.shape[2] - columns
        starts = list(range(0, last + 1, columns))
        if last - starts[-1] >= columns / 2:  # as the worker cuts a frame: the last window is aligned to the end
            starts.append(last)
        return torch.stack([whole[:, :, start : start + columns] for start in starts])
