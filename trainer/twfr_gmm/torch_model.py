"""The time-weighted frequency-domain representation, as a torch module."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

MAX_NETWORK = 64  # columns; the graph grows faster than they do


class TimeWeighted(nn.Module):
    """Sorts each band over time, largest first, and averages with weights ``r**i``: r = 0 is the maximum, 1 the mean.

    Args:
        r: From 0 to 1.
        columns: Columns of a window.
    """

    weights: Tensor

    def __init__(self, r: float, columns: int) -> None:
        super().__init__()
        weights = np.power(r, np.arange(columns, dtype=np.float64))
        self.columns = columns
        self.equal = r == 1
        self.swaps = sorting_network(columns) if columns <= MAX_NETWORK and not self.equal else ()
        self.register_buffer("weights", torch.from_numpy((weights / weights.sum()).astype(np.float32)))

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return float32 ``[window, channel * band]`` of ``[window, channel, band, time]``."""
        if self.equal:
            return log_mel.mean(dim=3).flatten(1)
        if not self.swaps:
            # A sum over the last axis, not a product with a vector: that one's order depends on the batch.
            return (log_mel.topk(self.columns, dim=3).values * self.weights).sum(dim=3).flatten(1)
        # A network of minima and maxima of whole columns takes a seventh of the time of a sort of each band's row.
        ordered = list(log_mel.permute(3, 0, 1, 2).contiguous().unbind(0))
        for larger, smaller in self.swaps:
            one, other = ordered[larger], ordered[smaller]
            ordered[larger], ordered[smaller] = torch.maximum(one, other), torch.minimum(one, other)
        total = ordered[0] * self.weights[0]
        for column, weight in zip(ordered[1:], self.weights[1:], strict=True):
            total = total + column * weight
        return total.flatten(1)


def sorting_network(count: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs of places to compare, one after the other, so that ``count`` values end up in order.

    K. E. Batcher, "Sorting networks and their applications" (1968): odd-even merge sort, in the form for any count that
    D. E. Knuth gives in "The Art of Computer Programming", volume 3, algorithm 5.2.2M.
    """
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    step = top
    while step:
        part, offset, distance = top, 0, step
        while True:
            pairs += [(i, i + distance) for i in range(count - distance) if i & step == offset]
            if part == step:
                break
            distance, part, offset = part - step, part // 2, step
        step //= 2
    return tuple(pairs)
