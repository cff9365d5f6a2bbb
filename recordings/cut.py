"""Cutting: which frames a gateway makes of a recording, for whoever makes some: agent, training, evaluation, replay.

Frames of one length lie back to back from a recording's beginning. What is left at its end is a frame too if it is at
least half a frame and 0.1 s long. A recording shorter than a frame is one frame, if it is at least 0.1 s long.

A gateway knows no model. Whoever has one may leave out an end that is shorter than the model's window, which a worker
would refuse: see ``least_s``.
"""

from __future__ import annotations

import math
from functools import lru_cache

from schemas.frame import MIN_FRAME_S
from schemas.times import MICROSECONDS


@lru_cache(maxsize=1024)  # asked several times for each frame, of few rates and lengths
def frame_samples(frame_s: float, rate_hz: int) -> int:
    """Return how many samples of each channel a frame has; a fraction of a sample is rounded up."""
    # A frame of 0.1 s must not fall short of the least length. The product may lie a hair above a whole.
    return math.ceil(round(frame_s * rate_hz, 6))


def frame_count(samples: int, rate_hz: int, frame_s: float, least_s: float = 0.0) -> int:
    """Return how many frames a recording is cut into.

    Args:
        samples: Per channel.
        rate_hz: The recording's own sample rate.
        frame_s: Length of a frame in seconds.
        least_s: What is left at the end is no frame if it is shorter than this.
    """
    length = frame_samples(frame_s, rate_hz)
    whole, left = divmod(samples, length)
    enough = left / rate_hz >= MIN_FRAME_S and (whole == 0 or (2 * left >= length and left >= least_s * rate_hz - 1e-6))
    return whole + enough


def frame_bounds(samples: int, rate_hz: int, frame_s: float, least_s: float = 0.0) -> list[tuple[int, int]]:
    """Return first sample and end of each frame that a recording is cut into; arguments as of :func:`frame_count`."""
    length = frame_samples(frame_s, rate_hz)
    count = frame_count(samples, rate_hz, frame_s, least_s)
    return [(number * length, min(samples, (number + 1) * length)) for number in range(count)]


def offset_us(samples: int, rate_hz: int) -> int:
    """Return when a sample of a recording was taken: whole microseconds from the recording's beginning."""
    return samples * MICROSECONDS // rate_hz
