"""Rows made with the simulator: one fault a kind of machine, machines whose load changes, and machines on drives.

On a drive of variable speed each recording has a speed and a load of its own, and is tested at speeds between and
beyond those that trained. Detectors are told both in the rows ``…:told``, which have the same recordings.

Each row's severity was set so that the better of the two plain detectors of :mod:`benchmarks.quality.baseline` reaches
an AUC between 0.8 and 0.97: room above it, and something to find. No detector of Whirr's had a say in it, and a
severity isn't to be moved because of what one reaches.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.quality.sources import source_hash
from edge_agent.simulator import FaultKind, FaultSpec, Line, Machine, MachineSpec, make_plant

RECORDING_S: Final = 2
TRAIN, NORMAL, ANOMALOUS = 60, 40, 40  # recordings
SEED: Final = 0
TRAIN_LOADS, TEST_LOADS = (0.4, 0.6, 0.8), (0.5, 0.7, 0.9)  # 1 is full load
TRAIN_SPEEDS, TEST_SPEEDS = ((0.7, 0.8), (0.9, 1.0)), ((0.8, 0.9), (1.0, 1.05))  # ranges; 1 is the machine's own
DRIVE_LOADS: Final = (0.4, 0.9)
NAMED: Final = "*_{rpm}rpm_{load}pct"  # the names of recordings on a drive, as a pattern
LEVEL_DB_PER_DECADE: Final = 30.0  # of speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A machine, what breaks, and under which loads it was heard.

    Attributes:
        spec: The healthy machine.
        fault: What breaks.
        severity: Of the fault, constant; 1 has the level of the healthy machine.
        rate_hz: Sample rate.
        loads: Whether it trains at :data:`TRAIN_LOADS` in turn and is tested at others; else the load drifts about its
            mean.
        drive: Whether each recording has a speed and a load of its own.
    """

    spec: MachineSpec
    fault: FaultKind
    severity: float
    rate_hz: int = 16_000
    loads: bool = False
    drive: bool = False


def _machine(machine_id: str, plant: str = "default") -> MachineSpec:
    return make_plant(plant).spec(machine_id).healthy()


def _driven(machine_id: str) -> MachineSpec:
    """Return a machine on a drive whose speed gives way under load, more than a mains motor's does."""
    return replace(_machine(machine_id), slip=0.08, load_std=0.02)


def _steady(machine_id: str) -> MachineSpec:
    """Return a machine whose load hardly changes within a recording."""
    return replace(_machine(machine_id), load_std=0.02)


_BELT: Final = Simulated(spec=_steady("conveyor-1"), fault="misalignment", severity=1.0, drive=True)
_DRIVE: Final = Simulated(spec=_steady("motor-1"), fault="outer_race", severity=0.13, drive=True)

MADE: Final = MappingProxyType(
    {
        "sim_pump/cavitation": Simulated(spec=_machine("pump-1"), fault="cavitation", severity=0.032),
        "sim_fan/loose_part": Simulated(spec=_machine("fan-1"), fault="loose_part", severity=0.4),
        "sim_motor/outer_race": Simulated(spec=_machine("motor-1"), fault="outer_race", severity=0.043),
        "sim_gearbox/inner_race": Simulated(spec=_machine("gearbox-1"), fault="inner_race", severity=0.057),
        "sim_compressor/loose_part": Simulated(spec=_machine("compressor-1"), fault="loose_part", severity=0.27),
        "sim_conveyor/misalignment": Simulated(spec=_machine("conveyor-1"), fault="misalignment", severity=0.25),
        "sim_accelerometer/imbalance": Simulated(
            spec=_machine("fan-1", "accelerometers"), fault="imbalance", severity=0.12, rate_hz=200
        ),
        "sim_gearbox/loads": Simulated(spec=_driven("gearbox-1"), fault="inner_race", severity=0.12, loads=True),
        "sim_conveyor/loads": Simulated(spec=_driven("conveyor-1"), fault="misalignment", severity=0.43, loads=True),
        "sim_conveyor/drive": _BELT,
        "sim_conveyor/drive:told": _BELT,
        "sim_motor/drive": _DRIVE,
        "sim_motor/drive:told": _DRIVE,
    }
)


def make(row: Simulated, folder: Path) -> Path:
    """Return the folder with a row's recordings, in ``train``, ``normal`` and ``anomalous``; made if it isn't there."""
    simulator = source_hash(["edge_agent.simulator.machine"])
    numbers = (TRAIN_LOADS, TEST_LOADS, *((TRAIN_SPEEDS, TEST_SPEEDS, DRIVE_LOADS) if row.drive else ()))
    told = repr((row, RECORDING_S, TRAIN, NORMAL, ANOMALOUS, *numbers, SEED, simulator))
    out = folder / f"{row.spec.kind.replace(' ', '-')}-{row.fault}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    if out.is_dir():
        return out
    folder.mkdir(parents=True, exist_ok=True)
    fault = FaultSpec(kind=row.fault, onset_s=0.0, growth_s=1.0, first=row.severity, last=row.severity)
    faulty = replace(row.spec, faults=(fault,))
    runs = (
        ("train", row.spec, TRAIN_LOADS, TRAIN),
        ("normal", row.spec, TEST_LOADS, NORMAL),
        ("anomalous", faulty, TEST_LOADS, ANOMALOUS),
    )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for run, spec, loads, count in runs:
            if row.drive:
                heard = _driven_apart(spec, TRAIN_SPEEDS if run == "train" else TEST_SPEEDS, run, row.rate_hz)
            else:
                heard = (("", one) for one in _heard(spec, loads if row.loads else (), run, row.rate_hz))
            _write(Path(scratch, "row", run), heard, count, row.rate_hz)
        try:
            Path(scratch, "row").rename(out)
        except OSError:
            if not out.is_dir():  # another process was quicker, with the same samples
                raise
    return out


def _heard(spec: MachineSpec, loads: Sequence[float], run: str, rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Yield recordings of a run, float32 ``[axis, sample]``, under the loads in turn."""
    machines = [Machine(at_load(spec, one), seed=SEED, rate_hz=rate_hz, run=f"{run} at {one:g}") for one in loads]
    machines = machines or [Machine(spec, seed=SEED, rate_hz=rate_hz, run=run)]
    while True:
        for machine in machines:
            yield machine.read(RECORDING_S * rate_hz)


def _driven_apart(
    spec: MachineSpec, speeds: Sequence[tuple[float, float]], run: str, rate_hz: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield what names recordings of a run end in, and the recordings, each at a speed and a load of its own."""
    random = np.random.default_rng([SEED, len(run)])
    for number in itertools.count():
        speed, load = random.uniform(*speeds[number % len(speeds)]), random.uniform(*DRIVE_LOADS)
        machine = Machine(at_load(at_speed(spec, speed), load), seed=SEED, rate_hz=rate_hz, run=f"{run} {number}")
        samples = machine.read(RECORDING_S * rate_hz)
        yield f"_{machine.condition.rpm:.1f}rpm_{machine.condition.load:.1f}pct", samples


def _write(folder: Path, heard: Iterator[tuple[str, NDArray[np.float32]]], count: int, rate_hz: int) -> None:
    folder.mkdir(parents=True)
    for number, (about, samples) in zip(range(count), heard, strict=False):
        pcm = np.rint(samples * 32767).astype(np.int16).T
        soundfile.write(folder / f"{number:05d}{about}.flac", pcm, rate_hz, subtype="PCM_16")


def at_speed(spec: MachineSpec, ratio: float) -> MachineSpec:
    """Return a machine that a drive turns at another speed: what its shaft makes moves, its resonances stay."""
    level_dbfs = spec.level_dbfs + LEVEL_DB_PER_DECADE * math.log10(ratio)
    return replace(spec, shaft_hz=spec.shaft_hz * ratio, level_dbfs=level_dbfs)


def at_load(spec: MachineSpec, load: float) -> MachineSpec:
    """Return a machine that runs at another mean load.

    The simulator takes a machine's levels as those at its mean load, and lets them follow the load's departures from
    it. Here the mean itself departs, and levels by the same law: noise by 0.3 + 0.7 r, forces by 0.5 + 0.5 r.
    """
    ratio = load / spec.load_mean
    noise_db, force_db = (20 * math.log10(a + (1 - a) * ratio) for a in (0.3, 0.5))
    lines = tuple(replace(line, level_db=line.level_db + force_db - noise_db) for line in spec.lines)
    level_dbfs = spec.level_dbfs + noise_db + 10 * math.log10((1 + _power(lines)) / (1 + _power(spec.lines)))
    return replace(spec, load_mean=load, lines=lines, level_dbfs=level_dbfs)


def _power(lines: Sequence[Line]) -> float:
    """Return the mean square of lines, that of the noise being 1."""
    sides = (0 if line.sidebands_db is None else 2 * 10 ** (line.sidebands_db / 10) for line in lines)
    return sum(10 ** (line.level_db / 10) * (1 + side) for line, side in zip(lines, sides, strict=True))
