"""Windows: how a frame's spectrogram becomes the model's input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.errors import FrameRejected
from schemas.model_metadata import FeatureConfig


def windows(log_mel: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float32]:
    """Cut a frame's spectrogram into windows of T = ``config.window_columns`` columns.

    The windows don't overlap; what is left at the end, if it is at least half a window, becomes one more window
    that is aligned to the frame's end (and so overlaps the one before). With a dynamic time axis the whole frame
    is one window.

    Args:
        log_mel: float32 ``[..., channels, bands, columns]``; what stands before belongs to other frames or signals.
        config: The model's features.

    Returns:
        float32 ``[..., window, channels, bands, T]``, C order (dynamic: ``[..., 1, channels, bands, columns]``).

    Raises:
        FrameRejected: ``too_short`` (less than one window), or ``too_long`` for a dynamic time axis.
    """
    columns, width = log_mel.shape[-1], config.window_columns
    if columns < width:
        raise FrameRejected("too_short", f"{columns} columns of spectrogram; one window has {width}")
    if config.time_axis == "dynamic":
        if config.max_columns is not None and columns > config.max_columns:
            raise FrameRejected("too_long", f"{columns} columns of spectrogram; the model takes {config.max_columns}")
        return np.ascontiguousarray(log_mel[..., np.newaxis, :, :, :])
    starts = window_starts(columns, width)
    return np.stack([log_mel[..., start : start + width] for start in starts], axis=-4)


def window_starts(columns: int, width: int) -> list[int]:
    """Return the first column of each window of ``width`` columns in a frame of ``columns`` (at least ``width``)."""
    starts = list(range(0, columns - width + 1, width))
    if 2 * (columns % width) >= width:
        starts.append(columns - width)
    return starts
