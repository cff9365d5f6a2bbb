"""The time-weighted frequency-domain representation, as a part of a graph."""

from __future__ import annotations

import numpy as np

from trainer.graph import Float32, Tensor, maximum, minimum

MAX_NETWORK = 64  # columns; the graph grows faster than they do


class TimeWeighted:
    """Sorts each band over time, largest first, and averages with weights ``r**i``: r = 0 is the maximum, 1 the mean.

    Args:
        r: From 0 to 1.
        columns: Columns of a window.
    """

    per_band = 1

    def __init__(self, r: float, columns: int) -> None:
        weights = np.power(r, np.arange(columns, dtype=np.float64))
        self._columns = columns
        self._equal = r == 1
        self._swaps = sorting_network(columns) if columns <= MAX_NETWORK and not self._equal else ()
        self._weights: Float32 = (weights / weights.sum()).astype(np.float32)

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return float32 ``[window, channel * band]`` of ``[window, channel, band, time]``."""
        if self._equal:
            return log_mel.mean(3).flatten()
        if not self._swaps:
            # A sum over the last axis, not a product with a vector: that one's order depends on the batch.
            return (log_mel.largest(self._columns, axis=3) * self._weights).sum(3).flatten()
        # A network of minima and maxima of whole columns takes a seventh of the time of a sort of each band's row.
        ordered = log_mel.transpose(3, 0, 1, 2).chunk(self._columns, axis=0)
        for larger, smaller in self._swaps:
            one, other = ordered[larger], ordered[smaller]
            ordered[larger], ordered[smaller] = maximum(one, other), minimum(one, other)
        total: Tensor = ordered[0] * self._weights[0]
        for column, weight in zip(ordered[1:], self._weights[1:], strict=True):
            total = total + column * weight
        return total.squeeze(0).flatten()


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
