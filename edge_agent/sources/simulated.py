"""A simulated machine as a source."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import numpy as np

from edge_agent.block import Block
from edge_agent.simulator import Machine
from recordings.samples import SignalFormat


class SimulatedSource:
    """A simulated machine's signal through a 16 bit converter.

    Args:
        machine: The machine, at the beginning of its run.
        seconds: How long it is listened to; None for without end.
    """

    live = False

    def __init__(self, machine: Machine, *, seconds: float | None) -> None:
        self._machine = machine
        self.duration_s = seconds
        self._format = SignalFormat(machine.rate_hz, machine.spec.axes, "pcm16")
        self.formats = (self._format,)

    def counts(self) -> dict[str, int]:
        """Return nothing: there is nothing to go wrong."""
        return {}

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Yield the signal second by second."""
        rate_hz = self._format.rate_hz
        left = math.inf if self.duration_s is None else round(self.duration_s * rate_hz)
        while left > 0:
            samples = self._machine.read(int(min(left, rate_hz)))
            left -= samples.shape[1]
            pcm = np.rint(samples * 32767).astype(np.int16)
            yield Block(pcm, self._format, ends_recording=left <= 0, condition=self._machine.condition)
