"""How the shaft turns: load, speed and angle, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.simulator.noise import Wander
from edge_agent.simulator.spec import Floats, MachineSpec


@dataclass(frozen=True, slots=True)
class Motion:
    """One block of 1 s; every array is ``[n]``.

    Attributes:
        time_s: Time of each sample.
        turns: Angle of the shaft in revolutions since the run began, without a jump between blocks.
        speed: Speed as a share of the nominal one, 0 when off.
        load: Load over its mean.
        running: Share of its speed that the machine has by being switched on (1), off (0) or between.
    """

    time_s: Floats
    turns: Floats
    speed: Floats
    load: Floats
    running: Floats


class Shaft:
    """The shaft of one machine in one run."""

    def __init__(self, spec: MachineSpec, rate_hz: int, random: np.random.Generator) -> None:
        self._spec = spec
        self._rate_hz = rate_hz
        self._load = Wander(random, spec.load_std, spec.load_tau_s)
        self._turns = float(random.random())
        self._block = 0

    def block(self) -> Motion:
        """Return the motion during the next second."""
        spec, rate_hz = self._spec, self._rate_hz
        time_s = self._block + np.arange(rate_hz) / rate_hz
        load = spec.load_mean + self._load.block(rate_hz)
        running = spec.running(time_s)
        speed_hz = spec.shaft_hz * (1 - spec.slip * load) * running
        turned = np.cumsum(speed_hz) / rate_hz
        turns = self._turns + np.concatenate(([0.0], turned[:-1]))
        self._turns += float(turned[-1])
        self._block += 1
        return Motion(time_s, turns, speed_hz / spec.nominal_hz, load / spec.load_mean, running)
