"""The stories of the season's machines: what each goes through, which of it is a fault, and what a person would say.

Times are days since the season began. Nothing here is known to the detector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from edge_agent.simulator.plant import make_plant
from edge_agent.simulator.spec import FaultKind, FaultSpec, Line, MachineSpec, Mode

RATE_HZ: Final = 8_000
NIGHT, WEEKEND = 0.75, 0.9  # of the load by day

Kind = Literal["sudden", "wear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of a machine.

    Attributes:
        kind: ``sudden`` within a day, or ``wear`` over weeks.
        what: Which, as the simulator has it.
        from_day: When it begins, faintly.
        grown_days: How long it takes to be severe.
        repaired_day: When it is mended; None: never.
        strength_db: Of the fault at its most severe, relative to the healthy machine.
        first: How severe it is when it begins; it grows by the same factor in equal times, to 1.
    """

    what: FaultKind
    from_day: float
    grown_days: float
    repaired_day: float | None
    strength_db: float
    kind: Kind = "sudden"
    first: float = 0.02

    def severity(self, day: float) -> float:
        """Return 0 before it begins and after its repair, 1 when grown."""
        if day < self.from_day or (self.repaired_day is not None and day >= self.repaired_day):
            return 0.0
        grown = min((day - self.from_day) / self.grown_days, 1.0)
        return float(self.first ** (1 - grown))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that changes a machine and is no fault: from then on it is normal so.

    Attributes:
        what: In words.
        day: When.
        change: What it does to the machine.
    """

    what: str
    day: float
    change: Callable[[MachineSpec], MachineSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One machine's two months.

    Attributes:
        spec: The machine.
        faults, events: What happens to it.
        shifts: Whether its load is less by night.
        weekends_off: Whether it stands still at weekends.
        products: Load by product, changed every few days; empty: one product.
        gain_db_per_day: A sensor that drifts, from ``drifts_from`` on.
        season_db, season_detune: What the season does, at its extremes, to level and resonances.
        wander_db: By how much the level differs from day to day, standard deviation; and so does the noise's slope.
        installed_day: Its first day.
    """

    spec: MachineSpec
    faults: tuple[Fault, ...] = ()
    events: tuple[Event, ...] = ()
    shifts: bool = True
    weekends_off: bool = False
    products: tuple[float, ...] = ()
    gain_db_per_day: float = 0.0
    drifts_from: float = math.inf
    season_db: float = 1.0
    season_detune: float = 0.008
    wander_db: float = 0.4
    installed_day: float = 0.0

    @property
    def machine_id(self) -> str:
        """Its id."""
        return self.spec.machine_id

    def runs(self, day: float) -> bool:
        """Whether it runs."""
        return not (self.weekends_off and day % 7 >= 5)

    def at(self, day: float) -> MachineSpec:
        """Return the machine as it is on a day (a fraction tells the time of day)."""
        spec = self.spec
        for event in self.events:
            if day >= event.day:
                spec = event.change(spec)
        warmth = -math.cos(2 * math.pi * day / 120) + 0.3 * math.sin(2 * math.pi * day)
        level = spec.level_dbfs + self.season_db * warmth
        if day > self.drifts_from:
            level += self.gain_db_per_day * (day - self.drifts_from)
        today = np.random.default_rng([int(day), *spec.machine_id.encode()]).normal(0, self.wander_db, 2)
        level += today[0]
        slope = spec.slope_db_per_octave + 0.3 * today[1]
        load = spec.load_mean
        if self.products:
            load = self.products[int(day / 3.5) % len(self.products)]
        if self.shifts and not 0.25 <= day % 1 < 0.9:
            load *= NIGHT
        if day % 7 >= 5:
            load *= WEEKEND
        detune = 1 - self.season_detune * warmth
        modes = tuple(Mode(mode.frequency_hz * detune, mode.damping) for mode in spec.modes)
        faults = tuple(
            FaultSpec(
                kind=fault.what, onset_s=0.0, growth_s=1e9, first=severity, last=severity, strength_db=fault.strength_db
            )
            for fault in self.faults
            if (severity := fault.severity(day)) > 0
        )
        return replace(spec, level_dbfs=level, load_mean=load, modes=modes, faults=faults, slope_db_per_octave=slope)


def _tool(spec: MachineSpec) -> MachineSpec:
    lines = tuple(Line(one.order, one.level_db - 3.0, one.sidebands_db) for one in spec.lines)
    return replace(spec, lines=lines, modes=tuple(Mode(one.frequency_hz * 1.04, one.damping) for one in spec.modes))


def _moved(spec: MachineSpec) -> MachineSpec:
    return replace(spec, level_dbfs=spec.level_dbfs - 4.0, slope_db_per_octave=spec.slope_db_per_octave - 1.0)


def _faster(spec: MachineSpec) -> MachineSpec:
    return replace(spec, shaft_hz=1.12 * spec.shaft_hz)


def _overhauled(spec: MachineSpec) -> MachineSpec:
    return replace(spec, modes=tuple(Mode(one.frequency_hz * 0.985, one.damping) for one in spec.modes))


def overhauled(day: float) -> Event:
    """Return a repair after which the machine is normal, and another one."""
    return Event(what="overhauled", day=day, change=_overhauled)


def stories() -> tuple[Story, ...]:
    """Return twelve machines' stories of 60 days."""
    plant = {spec.machine_id: spec.healthy() for spec in make_plant(seconds=60).machines}

    def named(machine_id: str, like: str) -> MachineSpec:
        return replace(plant[like], machine_id=machine_id)

    return (
        Story(
            spec=plant["motor-1"],
            faults=(Fault(what="outer_race", from_day=22.3, grown_days=0.5, repaired_day=25.4, strength_db=2),),
            events=(overhauled(25.4),),
        ),
        Story(
            spec=plant["pump-2"],
            faults=(Fault(what="cavitation", from_day=30.6, grown_days=2, repaired_day=38.3, strength_db=-2),),
        ),
        Story(
            spec=plant["gearbox-1"],
            events=(Event(what="tool change", day=18.4, change=_tool),),
            weekends_off=True,
        ),
        Story(spec=plant["fan-1"], events=(Event(what="sensor moved", day=28.5, change=_moved),), shifts=False),
        Story(
            spec=plant["compressor-1"],
            faults=(
                Fault(
                    kind="wear",
                    what="outer_race",
                    from_day=12,
                    grown_days=43,
                    repaired_day=None,
                    strength_db=2,
                    first=5e-4,
                ),
            ),
        ),
        Story(spec=plant["pump-1"], gain_db_per_day=-0.1, drifts_from=20.0),
        Story(
            spec=named("motor-2", "motor-1"),
            faults=(Fault(what="imbalance", from_day=40.2, grown_days=0.25, repaired_day=50.5, strength_db=4),),
        ),
        Story(spec=named("fan-2", "fan-1"), shifts=False),
        Story(spec=named("pump-3", "pump-1"), installed_day=10.0),
        Story(
            spec=named("gearbox-2", "gearbox-1"),
            weekends_off=True,
            faults=(Fault(what="inner_race", from_day=47.3, grown_days=0.5, repaired_day=None, strength_db=2),),
        ),
        Story(
            spec=plant["conveyor-1"],
            products=(0.6, 0.75),
            events=(Event(what="new product", day=35.4, change=_faster),),
        ),
        Story(
            spec=named("conveyor-2", "conveyor-1"),
            products=(0.5, 0.7, 0.6),
            faults=(Fault(what="loose_part", from_day=33.4, grown_days=0.3, repaired_day=34.6, strength_db=2),),
        ),
    )


def short(all_of: Sequence[Story]) -> tuple[Story, ...]:
    """Return a few stories for a quick look, with every kind of thing in them."""
    wanted = {"motor-1", "gearbox-1", "compressor-1", "fan-2"}
    return tuple(story for story in all_of if story.machine_id in wanted)
