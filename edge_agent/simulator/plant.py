"""Plants: machines that stand together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

from edge_agent.simulator.machine import Machine
from edge_agent.simulator.spec import Bearing, FaultSpec, Line, MachineSpec, Mode, OffPeriod
from schemas.errors import SettingsError
from whirr.options import option

PlantName = Literal["default", "accelerometers"]
PLANTS: tuple[PlantName, ...] = get_args(PlantName)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantOptions:
    """Which plant is simulated, and for how long."""

    plant: Annotated[
        PlantName,
        option("default: seven machines with microphones, 16 kHz; accelerometers: two with three axes, 200 Hz"),
    ] = "default"
    seed: Annotated[int, option("of the simulator: the same seed and options give the same signal", ge=0)] = 0
    seconds: Annotated[float, option("length of the simulated test run, over which its faults are laid out", ge=10)] = (
        180.0
    )

    def make(self) -> Plant:
        """Return the plant."""
        return make_plant(self.plant, seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Machines, and for how long their story lasts.

    Attributes:
        name: One of :data:`PLANTS`, or the caller's own.
        seconds: Length of the test run that onsets and off periods were laid out for.
        rate_hz: Rate that its sensors sample at.
    """

    name: str
    seconds: float
    rate_hz: int
    machines: tuple[MachineSpec, ...]

    def spec(self, machine_id: str) -> MachineSpec:
        """Return the machine's description.

        Raises:
            SettingsError: The plant has no such machine.
        """
        for spec in self.machines:
            if spec.machine_id == machine_id:
                return spec
        known = ", ".join(spec.machine_id for spec in self.machines)
        raise SettingsError(f"plant {self.name!r} has no machine {machine_id!r}; it has {known}")

    def machine(self, machine_id: str, *, seed: int = 0, rate_hz: int | None = None, healthy: bool = False) -> Machine:
        """Return a machine that begins its test run, or with ``healthy`` the run that a detector is trained on."""
        spec = self.spec(machine_id)
        rate_hz = rate_hz or self.rate_hz
        if healthy:
            return Machine(spec.healthy(), seed=seed, rate_hz=rate_hz, run="train")
        return Machine(spec, seed=seed, rate_hz=rate_hz, run="test")


def make_plant(name: str = "default", *, seconds: float = 180.0) -> Plant:
    """Return a plant whose story is laid out over ``seconds``.

    ``default``: seven machines with microphones, 16 kHz. motor-1 gets an outer-race bearing defect at 40 % of the time,
    pump-2 cavitates from 50 %; both grow over 35 % of it. fan-1, healthy, is off from 45 % to 60 %.

    ``accelerometers``: two machines with three-axis accelerometers, 200 Hz. fan-1 gets an imbalance at 50 %,
    pump-1 stays healthy.

    Raises:
        SettingsError: No such plant, or less than 10 seconds.
    """
    if name not in PLANTS:
        raise SettingsError(f"plant is {name!r}; expected one of {', '.join(PLANTS)}")
    if seconds < 10:
        raise SettingsError(f"the plant's story is {seconds} s long; expected at least 10")
    if name == "accelerometers":
        return Plant(name=name, seconds=seconds, rate_hz=200, machines=_accelerometers(seconds))
    return Plant(name=name, seconds=seconds, rate_hz=16_000, machines=_default(seconds))


def _default(seconds: float) -> tuple[MachineSpec, ...]:
    outer_race = FaultSpec(kind="outer_race", onset_s=0.40 * seconds, growth_s=0.35 * seconds, strength_db=2.0)
    cavitation = FaultSpec(kind="cavitation", onset_s=0.50 * seconds, growth_s=0.35 * seconds, strength_db=-4.0)
    fan = replace(_fan("fan-1"), off=(OffPeriod(0.45 * seconds, 0.60 * seconds),))
    return (
        _pump("pump-1", vanes=6, level_dbfs=-27.0),
        replace(_pump("pump-2", vanes=5, level_dbfs=-25.0), faults=(cavitation,)),
        fan,
        replace(_motor("motor-1"), faults=(outer_race,)),
        _gearbox("gearbox-1"),
        _compressor("compressor-1"),
        _conveyor("conveyor-1"),
    )


def _accelerometers(seconds: float) -> tuple[MachineSpec, ...]:
    imbalance = FaultSpec(kind="imbalance", onset_s=0.5 * seconds, growth_s=0.35 * seconds, strength_db=8.0)
    modes = (Mode(34.0, 0.05), Mode(71.0, 0.05))
    return (
        replace(_fan("fan-1"), axes=3, modes=modes, slope_db_per_octave=-2.0, faults=(imbalance,)),
        replace(_pump("pump-1", vanes=6, level_dbfs=-30.0), axes=3, modes=modes, slope_db_per_octave=-2.0),
    )


def _pump(machine_id: str, *, vanes: int, level_dbfs: float) -> MachineSpec:
    """Return a centrifugal pump on a two-pole motor: the vane pass and its harmonics stand out."""
    return MachineSpec(
        machine_id=machine_id,
        kind="centrifugal pump",
        shaft_hz=50.0,
        slip=0.03,
        vanes=vanes,
        lines=(
            Line(1, -6),
            Line(2, -12),
            Line(3, -18),
            Line(vanes, -3),
            Line(2 * vanes, -9),
            Line(3 * vanes, -16),
        ),
        modes=(Mode(780.0, 0.03), Mode(2100.0, 0.03)),
        slope_db_per_octave=-4.5,
        pulses=(float(vanes), 0.2),
        level_dbfs=level_dbfs,
    )


def _fan(machine_id: str) -> MachineSpec:
    """Return a belt-driven fan: blade pass, and much broadband flow noise."""
    return MachineSpec(
        machine_id=machine_id,
        kind="axial fan",
        shaft_hz=18.0,
        slip=0.03,
        lines=(Line(1, -6), Line(2, -14), Line(8, -2), Line(16, -8), Line(24, -14)),
        vanes=8,
        modes=(Mode(310.0, 0.06), Mode(1250.0, 0.05)),
        slope_db_per_octave=-5.0,
        pulses=(8.0, 0.25),
        level_dbfs=-24.0,
    )


def _motor(machine_id: str) -> MachineSpec:
    """Return a four-pole induction motor with a 6205 bearing: magnetic hum, rotor slot lines, little else."""
    return MachineSpec(
        machine_id=machine_id,
        kind="induction motor",
        shaft_hz=25.0,
        slip=0.03,
        lines=(Line(1, -4), Line(2, -8), Line(3, -16), Line(28, -6, -10), Line(56, -14)),
        modes=(Mode(950.0, 0.03), Mode(2700.0, 0.03)),
        slope_db_per_octave=-4.0,
        hum_db=-18.0,
        bearing=Bearing(balls=9, ball_mm=7.94, pitch_mm=39.04),
        bearing_mode=Mode(3600.0, 0.035),
        level_dbfs=-28.0,
    )


def _gearbox(machine_id: str) -> MachineSpec:
    """Return a spur gear with 31 teeth on the driven shaft: the mesh, two harmonics, sidebands at the shaft's speed."""
    return MachineSpec(
        machine_id=machine_id,
        kind="gearbox",
        shaft_hz=25.0,
        slip=0.025,
        lines=(Line(1, -8), Line(2, -14), Line(31, 0, -12), Line(62, -6, -14), Line(93, -12, -16)),
        modes=(Mode(1100.0, 0.03), Mode(3100.0, 0.03)),
        slope_db_per_octave=-3.5,
        pulses=(1.0, 0.15),
        level_dbfs=-22.0,
    )


def _compressor(machine_id: str) -> MachineSpec:
    """Return a two-cylinder piston compressor: strong low orders, and noise that swells with each stroke."""
    return MachineSpec(
        machine_id=machine_id,
        kind="piston compressor",
        shaft_hz=16.6,
        slip=0.03,
        lines=tuple(Line(order, -1.5 * order) for order in range(1, 11)),
        modes=(Mode(420.0, 0.04), Mode(1700.0, 0.04)),
        slope_db_per_octave=-4.0,
        pulses=(2.0, 0.6),
        level_dbfs=-23.0,
    )


def _conveyor(machine_id: str) -> MachineSpec:
    """Return a belt conveyor's drive: a slow drum, a worm gear's mesh, rumble that follows the load on the belt."""
    return MachineSpec(
        machine_id=machine_id,
        kind="belt conveyor",
        shaft_hz=12.5,
        slip=0.03,
        load_mean=0.6,
        load_std=0.06,
        lines=(Line(1, -9), Line(2, -12), Line(23, -5, -10), Line(46, -12)),
        modes=(Mode(240.0, 0.06), Mode(860.0, 0.05)),
        slope_db_per_octave=-3.5,
        pulses=(1.0, 0.2),
        level_dbfs=-30.0,
    )
