"""Cross-set validation: a design is chosen on one half of the rows and reported on the other, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.protocol import Measured
from benchmarks.quality.rows import HALVES, half_of

BySeed = Sequence[Measured]
ByRow = Mapping[str, BySeed]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A design, where it was chosen, and where it is reported.

    Attributes:
        design: Its name.
        chosen_on, reported_on: Rows.
        chosen_mean: Harmonic mean of AUC on the rows that it was chosen on.
        harmonic_mean: The same on those that it is reported on.
    """

    design: str
    chosen_on: tuple[str, ...]
    reported_on: tuple[str, ...]
    chosen_mean: float
    harmonic_mean: float


def mean_auc(measured: BySeed) -> float:
    """Return the mean AUC over seeds."""
    return float(np.mean([one.auc for one in measured]))


def mean_pauc(measured: BySeed) -> float:
    """Return the mean partial AUC over seeds."""
    return float(np.mean([one.pauc for one in measured]))


def harmonic_mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the harmonic mean, in which a row that fails counts most; 0 where a value is 0."""
    values = np.asarray(values, dtype=np.float64)
    return float(len(values) / (1 / values).sum()) if values.all() else 0.0


def choose(designs: Mapping[str, ByRow]) -> tuple[Chosen, ...]:
    """Choose a detector's design on each half, by the harmonic mean of AUC there; of equal ones the first.

    Args:
        designs: What was measured, by design and row; all designs have the same rows.

    Returns:
        One entry for each half that something can be chosen on and reported on the other half.
    """
    rows = list(next(iter(designs.values())))
    found = []
    for half in HALVES:
        chosen_on = tuple(row for row in rows if half_of(row) == half)
        reported_on = tuple(row for row in rows if half_of(row) != half)
        if not (chosen_on and reported_on):
            continue
        means = {name: _mean(of_rows, chosen_on) for name, of_rows in designs.items()}
        best = max(means, key=means.__getitem__)
        found.append(Chosen(best, chosen_on, reported_on, means[best], _mean(designs[best], reported_on)))
    return tuple(found)


def design_of(designs: Mapping[str, ByRow], chosen: Sequence[Chosen]) -> dict[str, str]:
    """Return each row's design: that which was chosen on the other half; where none was, the detector's default."""
    default = next(iter(designs))
    by_row = {row: one.design for one in chosen for row in one.reported_on}
    return {row: by_row.get(row, default) for row in designs[default]}


def _mean(of_rows: ByRow, rows: Sequence[str]) -> float:
    return harmonic_mean([mean_auc(of_rows[row]) for row in rows])
