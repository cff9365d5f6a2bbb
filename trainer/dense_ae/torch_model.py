"""The dense autoencoder of the DCASE challenge's baseline as a plain torch module."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import SettingsError
from trainer.conv_ae.torch_model import MIN_STD
from trainer.stacks import STACK, by_band, stacked

WIDTH, CODE, LAYERS = 128, 8, 4


def dense_layers(*widths: int) -> nn.Sequential:
    """Return dense layers with batch normalisation and ReLU between them, none after the last.

    They take ``[window, width, stack]``: convolutions over one place, since those are computed window by window, and a
    matrix product sums in an order that depends on how many rows there are.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths[:-1]):
        layers += [nn.Conv1d(width_in, width_out, 1), nn.BatchNorm1d(width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv1d(widths[-2], widths[-1], 1))


class StackModel(nn.Module):
    """What the detectors on stacked frames share: normalisation, and a score from squared residuals.

    Args:
        channels: Channels of the signal.
        bands: Rows of a window.
        columns: Columns of a window, at least five.

    Raises:
        SettingsError: The window is too short for a stack.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, bands: int, columns: int) -> None:
        super().__init__()
        if columns < STACK:
            raise SettingsError(
                f"a window has {columns} columns; this detector takes at least {STACK}: lengthen --window-s"
            )
        self.shape = channels, bands
        self.register_buffer("mean", torch.zeros(channels, bands, 1))
        self.register_buffer("std", torch.ones(channels, bands, 1))

    def set_normalisation(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Set the mean and standard deviation of the training windows, each ``[channels, bands]``, in nat."""
        self.mean.copy_(torch.as_tensor(mean, dtype=torch.float32).unsqueeze(-1))
        self.std.copy_(torch.as_tensor(std, dtype=torch.float32).clamp_min(MIN_STD).unsqueeze(-1))

    def stacks(self, log_mel: Tensor) -> Tensor:
        """Return normalised stacks, float32 ``[window, 5 * channel * band, stack]``."""
        return stacked((log_mel - self.mean) / self.std)

    def residual(self, log_mel: Tensor) -> Tensor:
        """Return what was predicted minus what came, float32 ``[window, k * channel * band, stack]``."""
        raise NotImplementedError

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows by their mean squared residual: see :mod:`trainer.detector`."""
        squared = self.residual(log_mel).square().mean(dim=2)
        channels, bands = self.shape
        band_error = by_band(squared, self.shape) / (squared.shape[1] // (channels * bands))
        return band_error.mean(dim=(1, 2)), band_error


class DenseAutoEncoder(StackModel):
    """Five stacked frames in, the same five out, through a code of 8."""

    def __init__(self, channels: int, bands: int, columns: int) -> None:
        super().__init__(channels, bands, columns)
        size = STACK * channels * bands
        self.network = dense_layers(size, *[WIDTH] * LAYERS, CODE, *[WIDTH] * LAYERS, size)

    def residual(self, log_mel: Tensor) -> Tensor:
        """Return the rebuilt stacks minus the stacks, float32 ``[window, 5 * channel * band, stack]``."""
        stacks = self.stacks(log_mel)
        residual: Tensor = self.network(stacks) - stacks
        return residual
