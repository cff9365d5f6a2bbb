"""What faults sound like. Each has unit mean square at severity 1 and nominal speed, and grows with its severity."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edge_agent.simulator.noise import HIGHEST, Fir, Wander, generator, high_band, ringing
from edge_agent.simulator.shaft import Motion
from edge_agent.simulator.sound import SignalComponent, amplitude, direction, line_wave
from edge_agent.simulator.spec import FaultSpec, Floats, MachineSpec

SLIP = 0.012  # of a period, standard deviation from one impulse to the next; real bearings slip by 1 to 2 %


class Impacts:
    """Impulses at a multiple of the shaft's speed that ring through a resonance.

    The angle between two impulses varies at random, each time anew, so the train loses its phase over the seconds
    (Randall and Antoni 2011, section 2: pseudo-cyclostationary).

    Args:
        order: Impulses a revolution.
        jitter: Standard deviation of the distance between two, as a share of it.
        strength: Force of the impulses at given shaft angles (revolutions), ``[k]`` to ``[k]``, of unit mean square.
    """

    def __init__(
        self,
        spec: MachineSpec,
        rate_hz: int,
        random: np.random.Generator,
        *,
        order: float,
        jitter: float,
        response: Floats,
        strength: Callable[[Floats, np.random.Generator], Floats],
    ) -> None:
        self._random = random
        self._order, self._jitter = order, jitter
        self._strength = strength
        self._fir = Fir(response)
        self._next: float | None = None  # where the next impulse falls, in impulses since the run began
        self._scale = math.sqrt(rate_hz / (order * spec.nominal_hz))

    def block(self, motion: Motion) -> Floats:
        """Return the impacts, ``[1, n]``."""
        passed = self._order * motion.turns
        if self._next is None:
            self._next = float(passed[0] + self._random.random())
        places = self._places(self._next, float(passed[-1]))
        at = np.interp(places, passed, np.arange(len(passed)))
        force = self._strength(places / self._order, self._random) * np.interp(at, np.arange(len(passed)), motion.speed)
        struck = np.zeros((1, len(passed)))
        # To the whole sample: what is lost is small beside the jitter.
        np.add.at(struck[0], at.astype(np.int64), force)
        return self._scale * self._fir.block(struck)

    def _places(self, following: float, until: float) -> Floats:
        """Return where impulses fall from ``following`` up to ``until``, and remember the next one after."""
        places = []
        while following <= until:
            places.append(following)
            following += max(0.2, 1 + self._jitter * self._random.standard_normal())
        self._next = following
        return np.array(places, dtype=np.float64)


def _even(turns: Floats, random: np.random.Generator) -> Floats:
    """Return the force of balls that roll over a fixed spot in the load zone: nearly the same each time."""
    return np.asarray(np.exp(0.1 * random.standard_normal(len(turns))))


def _load_zone(turns: Floats, random: np.random.Generator) -> Floats:
    """Return the force of balls that roll over a spot which turns with the shaft, through the load zone and out of it.

    Stribeck's distribution, q = (1 - (1 - cos psi) / 2e)^(3/2) with e = 0.5 for no clearance: P. D. McFadden and
    J. D. Smith, "Model for the vibration produced by a single point defect in a rolling element bearing", Journal of
    Sound and Vibration 96 (1984) 69-82.
    """
    pressed = np.maximum(0.0, 1 - (1 - np.cos(2 * math.pi * turns))) ** 1.5
    return np.asarray(_even(turns, random) * pressed / math.sqrt(_LOAD_ZONE_POWER))


_LOAD_ZONE_POWER = float(np.mean(np.maximum(0.0, np.cos(2 * math.pi * np.arange(4096) / 4096)) ** 3))


def _irregular(turns: Floats, random: np.random.Generator) -> Floats:
    """Return the force of a part that is thrown about: often missing, seldom twice the same."""
    force = random.exponential(1.0, len(turns)) * (random.random(len(turns)) < 0.7)
    return np.asarray(force / math.sqrt(1.4))  # 0.7 times the mean square of an exponential


class Harmonics:
    """Lines at multiples of the speed; ``towards`` says on which axis, ``power_of_speed`` how the force grows."""

    def __init__(
        self, spec: MachineSpec, random: np.random.Generator, levels: dict[float, float], *, towards: str
    ) -> None:
        self._gains = direction(spec.axes, "axial" if towards == "axial" else "radial")
        total = sum(level**2 for level in levels.values())
        self._levels = {order: level / math.sqrt(total) for order, level in levels.items()}
        self._phases = 2 * math.pi * random.random(len(levels))
        self._wander = [Wander(random, 0.05, 10.0) for _ in levels]

    def block(self, motion: Motion) -> Floats:
        """Return the lines, ``[axes, n]``; a mass out of centre pulls with the speed squared."""
        total = np.zeros((len(self._gains), len(motion.turns)))
        for (order, level), phase, wander in zip(self._levels.items(), self._phases, self._wander, strict=True):
            swell = level * np.exp(wander.block(len(motion.turns))) * motion.speed**2
            total += swell * line_wave(motion.turns, order, phase, self._gains)
        return total


class Cavitation:
    """Bubbles that collapse: short blows at random, more when a vane passes, in bursts; high frequencies only."""

    _BLOWS_HZ = 2500.0
    _DEPTH = 0.7
    _SLOTS = 20  # bursts are this many parts of a second long

    def __init__(self, spec: MachineSpec, rate_hz: int, random: np.random.Generator) -> None:
        self._random = random
        self._rate_hz = rate_hz
        self._vanes = spec.vanes
        self._fir = Fir(high_band(rate_hz, 0.25 * rate_hz))
        self._chance = min(0.5, self._BLOWS_HZ / rate_hz)
        # Exponential force: mean square 2; lognormal bursts of deviation 0.3: mean square exp(2 * 0.09).
        self._scale = 1 / math.sqrt(2 * self._chance * math.exp(0.18))
        self._burst = 1.0

    def block(self, motion: Motion) -> Floats:
        """Return the noise, ``[1, n]``."""
        samples = len(motion.turns)
        chance = self._chance * (1 + self._DEPTH * np.cos(2 * math.pi * self._vanes * motion.turns))
        blows = np.where(self._random.random(samples) < chance, self._random.exponential(1.0, samples), 0.0)
        signs = np.where(self._random.random(samples) < 0.5, -1.0, 1.0)
        bursts = np.exp(0.3 * self._random.standard_normal(self._SLOTS))
        knots = np.concatenate(([self._burst], bursts))
        self._burst = float(bursts[-1])
        burst = np.interp(np.arange(samples), np.linspace(0, samples, self._SLOTS + 1), knots)
        struck = blows * signs * burst * motion.speed**2
        return self._scale * self._fir.block(struck[np.newaxis])


class LoosePart:
    """A part that rattles: half orders and many harmonics of the speed, and strikes once a turn or not at all."""

    def __init__(self, spec: MachineSpec, rate_hz: int, random: np.random.Generator) -> None:
        levels = {half / 2: amplitude(-1.2 * half) for half in range(1, 17)}
        levels = {order: level for order, level in levels.items() if order * spec.shaft_hz < HIGHEST * rate_hz}
        self._lines = Harmonics(spec, random, levels, towards="radial")
        self._impacts = Impacts(
            spec,
            rate_hz,
            random,
            order=1.0,
            jitter=0.05,
            response=ringing(rate_hz, spec.modes[0]),
            strength=_irregular,
        )

    def block(self, motion: Motion) -> Floats:
        """Return lines and impacts, ``[axes, n]``, of equal power."""
        return math.sqrt(0.5) * (self._lines.block(motion) + self._impacts.block(motion))


def make_fault(fault: FaultSpec, spec: MachineSpec, rate_hz: int, seed: int, run: str) -> SignalComponent:
    """Return the part that adds ``fault`` to the machine's signal, at severity 1."""
    random = generator(seed, spec.machine_id, run, "fault", fault.kind)
    if fault.kind in ("outer_race", "inner_race"):
        outer = fault.kind == "outer_race"
        return Impacts(
            spec,
            rate_hz,
            random,
            order=spec.bearing.bpfo_order if outer else spec.bearing.bpfi_order,
            jitter=SLIP,
            response=ringing(rate_hz, spec.bearing_mode),
            strength=_even if outer else _load_zone,
        )
    if fault.kind == "imbalance":
        return Harmonics(spec, random, {1.0: 1.0}, towards="radial")
    if fault.kind == "misalignment":
        return Harmonics(spec, random, {1.0: 0.25, 2.0: 1.0, 3.0: 0.5}, towards="axial")
    if fault.kind == "cavitation":
        return Cavitation(spec, rate_hz, random)
    return LoosePart(spec, rate_hz, random)
