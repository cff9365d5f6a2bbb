"""Stacked frames: five neighbouring columns of a window as one vector, as the dense detectors want them.

Everything stays in the order that convolutions take, ``[window, entry, stack]``, and sums go over the last axis or are
spelled out: over another axis their order, and so the last bit, depends on how many windows there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

STACK = 5


def stacked(normalised: Tensor) -> Tensor:
    """Return every stack of five columns of windows.

    Args:
        normalised: float32 ``[window, channel, band, time]``, at least five columns.

    Returns:
        float32 ``[window, 5 * channel * band, time - 4]``, the earliest column's bands first.
    """
    columns = normalised.flatten(1, 2)
    count = normalised.shape[3] - STACK + 1
    return torch.cat([columns[:, :, at : at + count] for at in range(STACK)], dim=1)


def by_band(entries: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return entries of one or more columns, added up by band.

    Args:
        entries: float32 ``[window, k * channel * band]``.
        shape: Channels and bands.

    Returns:
        float32 ``[window, channel, band]``.
    """
    first, *others = entries.chunk(entries.shape[1] // (shape[0] * shape[1]), dim=1)
    total: Tensor = sum(others, first)
    return total.reshape(-1, *shape)
