"""Whether what was heard of a machine has shown all that it does: no new states came at the end."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LAST: Final = 4  # the last quarter is held against what came before
ODD: Final = 0.25  # of a frame's quantities
LIMITS: Final = (0.5, 99.5)  # percentiles
MOST_NEW: Final = 0.1


def share_of_new(values: NDArray[np.floating]) -> float:
    """Return the share of the last quarter's frames that are unlike all before.

    A frame is unlike them if more than a quarter of its quantities lie outside of what 99 % of the frames before had.

    Args:
        values: What is known of each frame, in the order of time: the 13 statistics, speed and load; float [frame,
            quantity]; NaN is not counted.
    """
    border = len(values) - len(values) // LAST
    before, last = values[:border], values[border:]
    if not len(before) or not len(last):
        return 1.0
    known = ~np.isnan(before).all(axis=0)
    if not known.any():
        return 1.0
    before, last = before[:, known], last[:, known]
    low, high = np.nanpercentile(before, LIMITS, axis=0)
    room = 0.25 * (high - low)  # a percentile of few is no limit
    odd = (last < low - room) | (last > high + room)
    return float((odd.mean(axis=1) > ODD).mean())
