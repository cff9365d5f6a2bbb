"""What a simulated machine is: its shaft, its sound, its bearing, its faults and when it stands still.

All times are seconds of the machine's own time, which is 0 where a run begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from schemas.errors import SettingsError

FaultKind = Literal["outer_race", "inner_race", "imbalance", "misalignment", "cavitation", "loose_part"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearing:
    """A ball bearing's geometry, outer ring fixed.

    The four orders are multiples of the shaft's speed without slip: R. B. Randall and J. Antoni, "Rolling element
    bearing diagnostics: a tutorial", Mechanical Systems and Signal Processing 25 (2011) 485-520, section 1.

    Attributes:
        balls: Number of rolling elements (n).
        ball_mm: Their diameter (d).
        pitch_mm: Diameter of the circle through their centres (D).
        contact_deg: Contact angle from the radial plane.
    """

    balls: int = 9
    ball_mm: float = 7.94
    pitch_mm: float = 39.04
    contact_deg: float = 0.0

    @property
    def _ratio(self) -> float:
        return self.ball_mm / self.pitch_mm * math.cos(math.radians(self.contact_deg))

    @property
    def bpfo_order(self) -> float:
        """Balls that pass a point of the outer race, per revolution: n/2 (1 - d/D cos phi)."""
        return self.balls / 2 * (1 - self._ratio)

    @property
    def bpfi_order(self) -> float:
        """Balls that pass a point of the inner race, per revolution: n/2 (1 + d/D cos phi)."""
        return self.balls / 2 * (1 + self._ratio)

    @property
    def ftf_order(self) -> float:
        """Revolutions of the cage per revolution: 1/2 (1 - d/D cos phi)."""
        return (1 - self._ratio) / 2

    @property
    def bsf_order(self) -> float:
        """Revolutions of a ball about its own axis per revolution: D/2d (1 - (d/D cos phi)^2)."""
        return self.pitch_mm / (2 * self.ball_mm) * (1 - self._ratio**2)


@dataclass(frozen=True, slots=True)
class Mode:
    """A damped structural resonance: natural frequency in Hz, and share of critical damping."""

    frequency_hz: float
    damping: float = 0.03


@dataclass(frozen=True, slots=True)
class Line:
    """A spectral line at a multiple of the shaft's speed; ``level_db`` is relative to the broadband noise.

    ``sidebands_db`` adds a pair one shaft speed away, relative to the line (a gear mesh has them).
    """

    order: float
    level_db: float
    sidebands_db: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """A fault that begins faintly and grows.

    Attributes:
        kind: What breaks.
        onset_s: When it begins.
        growth_s: How long the severity takes from ``first`` to ``last``; wear feeds on itself, so it grows by the
            same factor in equal times. It stays at ``last`` from then on.
        first, last: Severity at the onset and when grown; 1 is a severe fault.
        strength_db: Root mean square of the fault's own signal at severity 1, relative to the healthy machine's.
    """

    kind: FaultKind
    onset_s: float
    growth_s: float = 60.0
    first: float = 0.05
    last: float = 1.0
    strength_db: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise SettingsError(f"fault kind is {self.kind!r}; expected one of {', '.join(get_args(FaultKind))}")
        if not (self.growth_s > 0 and 0 < self.first <= self.last):
            raise SettingsError(
                f"fault grows from {self.first} to {self.last} in {self.growth_s} s; "
                "expected 0 < first <= last, time > 0"
            )

    def severity(self, time_s: npt.ArrayLike) -> Floats:
        """Return the severity at each of ``time_s``: 0 before the onset."""
        since = np.asarray(time_s, dtype=np.float64) - self.onset_s
        grown = np.clip(since / self.growth_s, 0.0, 1.0)
        return np.where(since < 0, 0.0, self.first * (self.last / self.first) ** grown)


@dataclass(frozen=True, slots=True)
class OffPeriod:
    """The machine is switched off at ``from_s`` and on again at ``to_s``."""

    from_s: float
    to_s: float

    def __post_init__(self) -> None:
        if not self.from_s < self.to_s:
            raise SettingsError(f"off from {self.from_s} s to {self.to_s} s; expected the first before the second")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """One machine and its sensor.

    Attributes:
        machine_id: The key of its frames.
        kind: For readers, such as ``centrifugal pump``.
        shaft_hz: Speed without load.
        slip: Share of the speed that full load costs (an induction motor: 0.02 to 0.03).
        load_mean, load_std, load_tau_s: The load drifts about its mean (1 is full load) with this correlation time.
        lines: Spectral lines of the healthy machine.
        slope_db_per_octave: Slope of the broadband noise's spectrum.
        modes: Resonances that colour the noise; the first one rings at an impact.
        pulses: Multiple of the shaft's speed at which the noise swells (blades, vanes, strokes), and how much (0..1).
        hum_db: The 100 Hz hum relative to the healthy machine's root mean square.
        vanes: Of a pump's impeller; cavitation follows their passing.
        bearing, bearing_mode: The bearing that may fail and the resonance that its impulses excite.
        axes: 1 (microphone or one accelerometer), or 3 (x and y radial, z axial).
        level_dbfs: Root mean square while it runs healthily at mean load, mean over the axes.
        floor_dbfs: Root mean square of the sensor's own noise; all that is left when the machine is off.
        coast_down_s, run_up_s: How long it takes to stop and to start.
        faults, off: What happens to it.
    """

    machine_id: str
    kind: str
    shaft_hz: float = 25.0
    slip: float = 0.025
    load_mean: float = 0.7
    load_std: float = 0.05
    load_tau_s: float = 6.0
    lines: tuple[Line, ...] = ()
    slope_db_per_octave: float = -4.0
    modes: tuple[Mode, ...] = (Mode(900.0), Mode(2400.0))
    pulses: tuple[float, float] = (1.0, 0.1)
    hum_db: float = -30.0
    vanes: int = 6
    bearing: Bearing = Bearing()
    bearing_mode: Mode = Mode(3600.0, 0.04)
    axes: int = 1
    level_dbfs: float = -26.0
    floor_dbfs: float = -68.0
    coast_down_s: float = 2.0
    run_up_s: float = 3.0
    faults: tuple[FaultSpec, ...] = ()
    off: tuple[OffPeriod, ...] = ()

    def __post_init__(self) -> None:
        if self.axes not in (1, 3):
            raise SettingsError(f"{self.machine_id} has {self.axes} axes; expected 1 or 3")

    @property
    def nominal_hz(self) -> float:
        """Speed at mean load."""
        return self.shaft_hz * (1 - self.slip * self.load_mean)

    @property
    def frequencies_hz(self) -> dict[str, float]:
        """The frequencies that an analyst looks for, at mean load and without slip of the bearing."""
        orders = {
            "shaft": 1.0,
            "bpfo": self.bearing.bpfo_order,
            "bpfi": self.bearing.bpfi_order,
            "ftf": self.bearing.ftf_order,
            "bsf": self.bearing.bsf_order,
            "vane_pass": float(self.vanes),
        }
        return {name: round(order * self.nominal_hz, 4) for name, order in orders.items()}

    def running(self, time_s: Floats) -> Floats:
        """Return the share of its speed that the machine has at each of ``time_s``: 1 while on, 0 while off."""
        share = np.ones_like(time_s)
        for off in self.off:
            down = np.clip(1 - (time_s - off.from_s) / self.coast_down_s, 0.0, 1.0) ** 2
            up = np.clip((time_s - off.to_s) / self.run_up_s, 0.0, 1.0)
            share = np.minimum(share, np.where(time_s < off.to_s, down, up * up * (3 - 2 * up)))
        return share

    def healthy(self) -> MachineSpec:
        """Return the same machine without faults, always on: what a detector is trained with."""
        return replace(self, faults=(), off=())
