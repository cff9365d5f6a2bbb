"""What a healthy machine sounds like: lines of the shaft, broadband noise, mains hum, and the sensor's own noise.

Each part answers ``block(motion)`` with ``[axes, n]``. Powers are known beforehand, so a machine's level is exact.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.simulator.noise import HIGHEST, Fir, Wander, colouring, generator
from edge_agent.simulator.shaft import Motion
from edge_agent.simulator.spec import Floats, Line, MachineSpec

MAINS_HZ = 50.0


class SignalComponent(Protocol):
    """One contribution to a machine's signal."""

    def block(self, motion: Motion) -> Floats:
        """Return the contribution to the next block, ``[axes, n]``."""
        ...


def amplitude(db: float) -> float:
    """Return the ratio of amplitudes that ``db`` decibels are."""
    return float(10 ** (db / 20))


def direction(axes: int, towards: Literal["radial", "axial"]) -> npt.NDArray[np.complex128]:
    """Return gain and phase on each axis, ``[axes]``, of unit mean square.

    A rotating force shows on the two radial axes a quarter turn apart.
    """
    if axes == 1:
        return np.ones(1, dtype=np.complex128)
    gains = np.array([1, -1j, 0.25]) if towards == "radial" else np.array([0.35, -0.35j, 1])
    return np.asarray(gains / np.sqrt(np.mean(np.abs(gains) ** 2)))


def line_wave(turns: Floats, order: float, phase: float, gains: npt.NDArray[np.complex128]) -> Floats:
    """Return a line of unit mean square at ``order`` times the speed, ``[axes, n]``."""
    angle = 2 * math.pi * order * turns + phase
    return np.stack([math.sqrt(2) * abs(gain) * np.cos(angle + np.angle(gain)) for gain in gains])


class ShaftLines:
    """The lines of a healthy shaft; each one's level wanders a little, and follows load and speed."""

    def __init__(self, spec: MachineSpec, rate_hz: int, seed: int, run: str) -> None:
        identity = generator(seed, spec.machine_id, "lines")
        self.lines = [line for line in _with_sidebands(spec.lines) if _audible(line, spec, rate_hz)]
        # No two machines of a kind are alike: each has its own phases, and levels within about a decibel.
        self._phases = 2 * math.pi * identity.random(len(self.lines))
        self._levels = [amplitude(line.level_db + identity.normal(0, 0.7)) for line in self.lines]
        random = generator(seed, spec.machine_id, run, "lines")
        self._wander = [Wander(random, 0.06, 6.0) for _ in self.lines]
        self._gains = direction(spec.axes, "radial")
        self._axes = spec.axes

    @property
    def power(self) -> float:
        """Mean square at nominal speed and load."""
        return sum(level**2 for level in self._levels)

    def block(self, motion: Motion) -> Floats:
        """Return the lines, ``[axes, n]``; their forces grow with speed squared."""
        total = np.zeros((self._axes, len(motion.turns)))
        drive = motion.speed**2 * (0.5 + 0.5 * motion.load)
        for line, level, phase, wander in zip(self.lines, self._levels, self._phases, self._wander, strict=True):
            swell = level * np.exp(wander.block(len(motion.turns))) * drive
            total += swell * line_wave(motion.turns, line.order, phase, self._gains)
        return total


def _with_sidebands(lines: tuple[Line, ...]) -> list[Line]:
    found = []
    for line in lines:
        found.append(line)
        if line.sidebands_db is not None:
            found += [Line(line.order + side, line.level_db + line.sidebands_db) for side in (-1, 1)]
    return found


def _audible(line: Line, spec: MachineSpec, rate_hz: int) -> bool:
    return line.order * spec.shaft_hz < HIGHEST * rate_hz


class Broadband:
    """Flow, friction and combustion: coloured noise of unit power that swells with every blade, vane or stroke."""

    def __init__(self, spec: MachineSpec, rate_hz: int, seed: int, run: str) -> None:
        self._random = generator(seed, spec.machine_id, run, "broadband")
        self._fir = Fir(colouring(rate_hz, spec.slope_db_per_octave, spec.modes))
        self._wander = Wander(generator(seed, spec.machine_id, run, "broadband level"), 0.04, 6.0)
        self._order, self._depth = spec.pulses
        self._axes = spec.axes

    def block(self, motion: Motion) -> Floats:
        """Return the noise, ``[axes, n]``."""
        samples = len(motion.turns)
        noise = self._fir.block(self._random.standard_normal((self._axes, samples)))
        swell = 1 + self._depth * np.cos(2 * math.pi * self._order * motion.turns)
        level = np.exp(self._wander.block(samples)) * motion.speed**2 * (0.3 + 0.7 * motion.load)
        return np.asarray(noise * swell * level / math.sqrt(1 + self._depth**2 / 2))


class Hum:
    """Mains hum: even harmonics of 50 Hz, from iron that magnetises, while the machine is fed; faint 50 Hz always."""

    _PICK_UP_DB = -12.0
    _EVEN = ((2, 0.0), (4, -8.0), (6, -14.0))

    def __init__(self, spec: MachineSpec, rate_hz: int, seed: int, run: str) -> None:
        self._phases = 2 * math.pi * generator(seed, spec.machine_id, "hum").random(7)
        # The grid is held to 50 Hz by a few hundredths.
        self._detune = Wander(generator(seed, spec.machine_id, run, "hum"), 0.015, 60.0)
        self._even = [(n, amplitude(db)) for n, db in self._EVEN if n * MAINS_HZ < HIGHEST * rate_hz]
        self._first = HIGHEST * rate_hz > MAINS_HZ
        self._cycles = 0.0
        self._rate_hz = rate_hz
        self._axes = spec.axes

    def block(self, motion: Motion) -> Floats:
        """Return the hum, ``[axes, n]``; its 100 Hz line has unit mean square."""
        hz = MAINS_HZ + self._detune.block(len(motion.turns))
        turned = np.cumsum(hz) / self._rate_hz
        cycles = self._cycles + np.concatenate(([0.0], turned[:-1]))
        self._cycles = (self._cycles + float(turned[-1])) % 1.0
        total = np.zeros_like(cycles)
        if self._first:
            total += amplitude(self._PICK_UP_DB) * np.cos(2 * math.pi * cycles + self._phases[1])
        for n, level in self._even:
            total += level * motion.running * np.cos(2 * math.pi * n * cycles + self._phases[n])
        return np.broadcast_to(math.sqrt(2) * total, (self._axes, len(cycles)))


class NoiseFloor:
    """The sensor's own noise, of unit power: white, with a rise to low frequencies."""

    def __init__(self, spec: MachineSpec, rate_hz: int, seed: int, run: str) -> None:
        self._random = generator(seed, spec.machine_id, run, "floor")
        self._fir = Fir(colouring(rate_hz, -1.0, ()))
        self._axes = spec.axes

    def block(self, motion: Motion) -> Floats:
        """Return the noise, ``[axes, n]``."""
        return self._fir.block(self._random.standard_normal((self._axes, len(motion.turns))))
