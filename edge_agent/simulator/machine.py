"""One machine in one run: a signal that is read block by block."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edge_agent.simulator.faults import make_fault
from edge_agent.simulator.noise import generator
from edge_agent.simulator.shaft import Motion, Shaft
from edge_agent.simulator.sound import Broadband, Hum, NoiseFloor, ShaftLines, amplitude
from edge_agent.simulator.spec import Floats, MachineSpec
from schemas.condition import UNKNOWN, Condition
from schemas.errors import SettingsError


class Machine:
    """A running machine.

    The signal is made in chunks of 1 s, whatever blocks are asked for, so the same seed gives the same samples.
    Each part draws from random numbers of its own: a fault changes nothing of the healthy signal beneath it.

    Args:
        spec: Which machine.
        seed: Equal seeds give equal signals.
        rate_hz: Samples a second.
        run: Name of the run; another name gives another run of the same machine (``train`` and ``test``).

    Attributes:
        condition: Speed, and load in per cent of full load, in the mean over the last second that was made.
    """

    def __init__(self, spec: MachineSpec, *, seed: int = 0, rate_hz: int = 16_000, run: str = "test") -> None:
        if rate_hz < 100 or seed < 0:
            raise SettingsError(f"rate is {rate_hz} Hz, seed {seed}; expected at least 100 Hz and a seed from 0")
        self.spec = spec
        self.rate_hz = rate_hz
        self._shaft = Shaft(spec, rate_hz, generator(seed, spec.machine_id, run, "shaft"))
        self._lines = ShaftLines(spec, rate_hz, seed, run)
        self._broadband = Broadband(spec, rate_hz, seed, run)
        self._hum = Hum(spec, rate_hz, seed, run)
        self._floor = NoiseFloor(spec, rate_hz, seed, run)
        self._faults = [(fault, make_fault(fault, spec, rate_hz, seed, run)) for fault in spec.faults]
        self._level = amplitude(spec.level_dbfs)
        self._scale = self._level / math.sqrt(1 + self._lines.power)
        self._left: Floats = np.zeros((spec.axes, 0))
        self.condition = UNKNOWN

    def read(self, samples: int) -> npt.NDArray[np.float32]:
        """Return the next ``samples`` of the signal, ``[axes, samples]``, full scale ±1."""
        pieces, have = [self._left], self._left.shape[1]
        while have < samples:
            pieces.append(self._block())
            have += pieces[-1].shape[1]
        together = np.concatenate(pieces, axis=1) if len(pieces) > 1 else self._left
        self._left = together[:, samples:]
        return together[:, :samples].astype(np.float32)

    def _block(self) -> Floats:
        """Return the next second, ``[axes, rate_hz]``."""
        motion = self._shaft.block()
        self.condition = self._condition(motion)
        total = self._scale * (self._lines.block(motion) + self._broadband.block(motion))
        total = total + self._level * amplitude(self.spec.hum_db) * self._hum.block(motion)
        total += amplitude(self.spec.floor_dbfs) * self._floor.block(motion)
        for fault, part in self._faults:
            total += self._level * amplitude(fault.strength_db) * fault.severity(motion.time_s) * part.block(motion)
        return np.clip(total, -1.0, 1.0)  # a converter clips

    def _condition(self, motion: Motion) -> Condition:
        rpm = float(motion.speed.mean()) * self.spec.nominal_hz * 60
        load = float(motion.load.mean()) * self.spec.load_mean * 100
        return Condition(round(rpm, 3), round(load, 3)) if motion.running.all() else UNKNOWN
