"""Blocks in, frames' worth of samples out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agent.block import Block
from recordings.cut import frame_count, frame_samples, offset_us
from recordings.samples import SignalFormat
from schemas.condition import UNKNOWN, Condition
from schemas.errors import SettingsError
from schemas.frame import MAX_FRAME_S, MIN_FRAME_S


@dataclass(frozen=True, slots=True)
class FrameSamples:
    """The samples of one frame.

    Attributes:
        samples: ``[channels, n]``.
        format: Their format.
        offset_us: Where the first one lies, counted in recorded time from the beginning of the source.
        condition: How the machine ran at its end, as far as the source knows.
    """

    samples: npt.NDArray[Any]
    format: SignalFormat
    offset_us: int
    condition: Condition = UNKNOWN

    @property
    def end_us(self) -> int:
        """Where the frame ends, counted as ``offset_us`` is."""
        return self.offset_us + offset_us(int(self.samples.shape[1]), self.format.rate_hz)


class Framer:
    """Cuts blocks into frames of one length, back to back.

    It is :func:`recordings.cut.frame_bounds` for signal that comes bit by bit. A frame never reaches over the end of a
    recording or a change of format; what is left there and makes no frame is counted, and its time passes all the same.
    Without such an end, frames start a frame's length apart, to the microsecond.

    Args:
        frame_s: Length of a frame in seconds, 0.1 to 60; a fraction of a sample is rounded up.

    Attributes:
        left_out_s: Seconds of signal that came out in no frame.

    Raises:
        SettingsError: The length is out of range.
    """

    def __init__(self, frame_s: float) -> None:
        if not MIN_FRAME_S <= frame_s <= MAX_FRAME_S:
            raise SettingsError(f"a frame is {frame_s:g} s long; expected {MIN_FRAME_S:g} to {MAX_FRAME_S:g}")
        self._frame_s = frame_s
        self.left_out_s = 0.0
        self._pieces: list[npt.NDArray[Any]] = []
        self._held = 0  # samples in the pieces
        self._cut = 0  # samples of this recording that are cut already
        self._base_us = 0  # where this recording began
        self._format: SignalFormat | None = None
        self._condition = UNKNOWN

    def push(self, block: Block) -> Iterator[FrameSamples]:
        """Take a block and yield the frames that it completes."""
        if self._format not in (None, block.format):
            yield from self.flush()
        if self._format is None:
            self._format = block.format
        self._condition = block.condition
        length = frame_samples(self._frame_s, block.format.rate_hz)
        self._pieces.append(block.samples)
        self._held += block.samples.shape[1]
        if self._held >= length:
            together = self._take_all()
            whole = together.shape[1] // length * length
            self._pieces, self._held = [together[:, whole:]], together.shape[1] - whole
            for first in range(0, whole, length):
                yield self._next(together[:, first : first + length])
        if block.ends_recording:
            yield from self.flush()

    def flush(self) -> Iterator[FrameSamples]:
        """End the recording: yield what is left as a frame if it is long enough, else count it."""
        if self._format is None:
            return
        rate_hz, left = self._format.rate_hz, self._take_all()
        total = self._cut + left.shape[1]
        if frame_count(total, rate_hz, self._frame_s) > self._cut // frame_samples(self._frame_s, rate_hz):
            yield self._next(left)
        else:
            self.left_out_s += left.shape[1] / rate_hz
        self._base_us += offset_us(total, rate_hz)
        self._cut, self._format = 0, None

    def _take_all(self) -> npt.NDArray[Any]:
        pieces, self._pieces, self._held = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def _next(self, samples: npt.NDArray[Any]) -> FrameSamples:
        assert self._format is not None
        begin_us = self._base_us + offset_us(self._cut, self._format.rate_hz)
        self._cut += samples.shape[1]
        return FrameSamples(samples, self._format, begin_us, self._condition)
