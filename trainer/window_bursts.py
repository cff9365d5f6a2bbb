"""Whether windows of normal frames hold bursts, such as a slammed door: then their median is the steadier score."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.model_metadata import FrameScore
from trainer.dataset import HeldOutSet

FEWEST: Final = 3  # windows of a frame, of which two may outvote the third
LIGHTER: Final = 0.9  # the median has to take a tenth off the upper tail: it is the noisier score where nothing bursts
UPPER: Final = 0.95  # quantile whose place tells how heavy an upper tail is


def steadier(held_out: HeldOutSet, scores: NDArray[np.float32]) -> FrameScore:
    """Return which frame score has the lighter upper tail on held-out normals, in units of its own deviation.

    A burst in one window of a normal frame lifts the mean, and so the threshold; it hardly moves the median. Where
    there are no bursts the mean is taken, which rests on all windows.

    Args:
        held_out: The frames.
        scores: Their windows', float32 ``[window]``, by a graph that wasn't fitted on them.
    """
    if min(frame.windows for frame in held_out.frames) < FEWEST:
        return "mean"
    mean, median = (_tail(replace(held_out, frame_score=how), scores) for how in ("mean", "median"))
    return "median" if median < LIGHTER * mean else "mean"


def _tail(held_out: HeldOutSet, scores: NDArray[np.float32]) -> float:
    """Return how far the upper quantile of frames' scores is from their median, in median absolute deviations."""
    frames = np.concatenate([run for own in held_out.frame_scores(scores).values() for run in own])
    middle = float(np.median(frames))
    deviation = float(np.median(np.abs(frames - middle)))
    return (float(np.quantile(frames, UPPER)) - middle) / max(deviation, 1e-9 * abs(middle) + 1e-12)
