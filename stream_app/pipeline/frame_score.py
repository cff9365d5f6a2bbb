"""A frame's score of its windows': the mean, or the median, which foreign noise in some of them doesn't move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.model_metadata import FrameScore


def frame_scores(scores: NDArray[np.floating], how: FrameScore) -> NDArray[np.float64]:
    """Return frames' scores, float64 ``[…]``, of their windows', float ``[…, window]``."""
    exact = scores.astype(np.float64)
    return np.asarray(exact.mean(axis=-1) if how == "mean" else np.median(exact, axis=-1))


def middle_bands(scores: NDArray[np.float64], band_errors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the band errors behind medians: of the window in the middle, or the mean of both that are.

    Args:
        scores: Of frames' windows, float64 ``[frame, window]``.
        band_errors: Likewise, float32 ``[frame, window, channel, band]``.

    Returns:
        float32 ``[frame, channel, band]``.
    """
    count = scores.shape[1]
    middle = np.argsort(scores, axis=1, kind="stable")[:, (count - 1) // 2 : count // 2 + 1]
    return np.asarray(np.take_along_axis(band_errors, middle[:, :, np.newaxis, np.newaxis], axis=1).mean(axis=1))
