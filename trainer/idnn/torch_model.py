"""The interpolation network as a plain torch module: predict the centre frame of five from the other four."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.dense_ae.torch_model import StackModel, dense_layers
from trainer.stacks import STACK

WIDTHS = (64, 32, 16, 32, 64)
CENTRE = STACK // 2


class InterpolationNetwork(StackModel):
    """Four frames in, the one between them out."""

    def __init__(self, channels: int, bands: int, columns: int) -> None:
        super().__init__(channels, bands, columns)
        size = channels * bands
        self.network = dense_layers((STACK - 1) * size, *WIDTHS, size)

    def residual(self, log_mel: Tensor) -> Tensor:
        """Return the predicted centre minus the centre, float32 ``[window, channel * band, stack]``."""
        columns = self.stacks(log_mel).chunk(STACK, dim=1)
        around = torch.cat([*columns[:CENTRE], *columns[CENTRE + 1 :]], dim=1)
        residual: Tensor = self.network(around) - columns[CENTRE]
        return residual
