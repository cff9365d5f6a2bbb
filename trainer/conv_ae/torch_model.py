"""The convolutional autoencoder as a plain torch module: log-mel windows in, scores out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (32, 64, 128, 256)
STRIDE_OF_ALL = 2 ** (len(WIDTHS) + 1)  # five halvings: both axes are padded to a multiple of this
MIN_STD = 0.3  # nat, 1.3 dB: a band that varies less in training is not believed to be that steady


class ConvAutoEncoder(nn.Module):
    """Five stride-2 convolutions down to ``latent`` maps, five transposed ones back, mean squared error as score.

    Normalisation, padding to multiples of 32 in both axes and cropping are part of the module, so that the exported
    graph takes plain log-mel windows.

    Args:
        channels: Channels of the signal.
        bands: Rows of a window.
        columns: Columns of a window.
        latent: Maps of the innermost layer (z).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, bands: int, columns: int, latent: int = 40) -> None:
        super().__init__()
        self.shape = (channels, bands, columns)
        widths = (channels, *WIDTHS, latent)
        self.encoder = _encoder(widths)
        self.decoder = _decoder(widths)
        self.register_buffer("mean", torch.zeros(channels, bands, 1))
        self.register_buffer("std", torch.ones(channels, bands, 1))

    def set_normalisation(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Set the mean and standard deviation of the training windows, each [channels, bands], in nat."""
        self.mean.copy_(torch.as_tensor(mean, dtype=torch.float32).unsqueeze(-1))
        self.std.copy_(torch.as_tensor(std, dtype=torch.float32).clamp_min(MIN_STD).unsqueeze(-1))

    def residual(self, log_mel: Tensor) -> Tensor:
        """Return reconstruction minus input, normalised, [window, channel, band, time] like ``log_mel``."""
        _, bands, columns = self.shape
        normalised = (log_mel - self.mean) / self.std
        padded = functional.pad(normalised, (0, -columns % STRIDE_OF_ALL, 0, -bands % STRIDE_OF_ALL))
        rebuilt: Tensor = self.decoder(self.encoder(padded))
        return rebuilt[:, :, :bands, :columns] - normalised

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows.

        Args:
            log_mel: float32 [window, channel, band, time].

        Returns:
            score: float32 [window], the mean squared error, in units of the training windows' variance.
            band_error: float32 [window, channel, band], the mean squared error over time; its mean is the score.
        """
        # Reduced one window at a time, time first: no sum crosses windows, so batching changes no bit.
        band_error = self.residual(log_mel).square().mean(dim=3)
        return band_error.mean(dim=(1, 2)), band_error


def _encoder(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Conv2d(width_in, width_out, kernel_size=3, stride=2, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])  # the latent maps may be negative


def _decoder(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths[::-1]):
        up = nn.ConvTranspose2d(width_in, width_out, kernel_size=3, stride=2, padding=1, output_padding=1)
        layers += [up, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])  # normalised levels are negative as often as not
