"""Reading recordings: their samples, the signals in them, and work on many of them at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import recordings
from recordings.find import Problem
from schemas import FeatureConfig
from schemas.errors import FrameRejected, RecordingError
from trainer.recording_set import Segment

Float32 = NDArray[np.float32]
Computed = TypeVar("Computed")


def samples_of(segment: Segment) -> Float32:
    """Return a segment's samples, float32 [channel, n], full scale ±1.

    Raises:
        RecordingError: The file can't be decoded, or all its samples are equal.
    """
    with recordings.RecordingFile(segment.recording.path, segment.recording.columns) as recording:
        samples = recording.floats(segment.start, segment.stop - segment.start)
    if not np.ptp(samples, axis=1).any():
        raise RecordingError(f"{segment.recording.path}: flat, all samples are equal")
    return samples


def signals_of(samples: Float32, config: FeatureConfig) -> list[Float32]:
    """Return the signals that the model judges: all channels as one, or each by itself for a one-channel model.

    Args:
        samples: float32 [channel, n].
        config: The model's features.

    Returns:
        Each float32 [config.channels, n].
    """
    return [samples] if len(samples) == config.channels else [channel[np.newaxis] for channel in samples]


def computed(
    segments: Sequence[Segment], compute: Callable[[Segment], list[Computed]], problems: list[Problem]
) -> Iterator[tuple[Segment, list[Computed]]]:
    """Yield what ``compute`` makes of each segment, in order, computed on all cores; failures go to ``problems``."""

    def attempt(segment: Segment) -> list[Computed] | Problem:
        try:
            return compute(segment)
        except FrameRejected as error:
            return Problem(segment.recording.name, error.detail)
        except RecordingError as error:
            return Problem(segment.recording.name, str(error).removeprefix(f"{segment.recording.path}: "))

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        for start in range(0, len(segments), 4 * cores):  # bounds what waits to be written
            some = segments[start : start + 4 * cores]
            for segment, result in zip(some, pool.map(attempt, some), strict=True):
                if isinstance(result, Problem):
                    problems.append(result)
                else:
                    yield segment, result
