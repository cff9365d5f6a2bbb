"""What was measured, as tables and as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.table import Table

from benchmarks.quality.baseline import BASELINES
from benchmarks.quality.choosing import (
    ByRow,
    BySeed,
    Chosen,
    choose,
    design_of,
    harmonic_mean,
    mean_auc,
    mean_pauc,
)
from benchmarks.quality.intervals import difference_interval, interval
from benchmarks.quality.rows import half_of

BELOW: Final = 0.01  # of AUC; a detector so far below the better baseline is worse than plain
LEAST: Final = 0.8
REFERENCE: Final = "conv_ae"


@dataclass(frozen=True, slots=True)
class Judged:
    """A detector: what was measured by design and row, what was chosen on which half, and each row's design."""

    designs: Mapping[str, ByRow]
    chosen: tuple[Chosen, ...]
    design_of: Mapping[str, str]

    @classmethod
    def of(cls, designs: Mapping[str, ByRow]) -> Judged:
        """Choose between the designs of a detector."""
        chosen = choose(designs)
        return cls(designs, chosen, design_of(designs, chosen))

    @property
    def rows(self) -> dict[str, BySeed]:
        """What was measured on each row, by the design that was chosen on the other half."""
        return {row: self.designs[design][row] for row, design in self.design_of.items()}

    @property
    def aucs(self) -> dict[str, list[float]]:
        """AUC by row, one a seed."""
        return {row: [one.auc for one in of_row] for row, of_row in self.rows.items()}

    @property
    def mean(self) -> float:
        """Harmonic mean of AUC over all rows."""
        return harmonic_mean([mean_auc(of_row) for of_row in self.rows.values()])


Found = Mapping[str, Judged]  # by detector


def rows_table(found: Found, default: str) -> Table:
    """Return AUC and pAUC of each row and detector, and whether the default keeps up with the better baseline."""
    table = Table(
        "set / machine",
        "half",
        *(f"{name}\nAUC pAUC" for name in found),
        title="each row by the design chosen on the other half",
    )
    if default in found:
        table.add_column(f"{default}\n- better baseline", justify="right")
    for row in next(iter(found.values())).rows:
        figures = [f"{mean_auc(one.rows[row]):.3f} {mean_pauc(one.rows[row]):.3f}" for one in found.values()]
        if default in found:
            margin = margins(found, default)[row]
            figures.append(f"{margin:+.3f}{'' if margin >= -BELOW else ' below'}")
        table.add_row(row, half_of(row), *figures)
    return table


def margins(found: Found, detector: str) -> dict[str, float]:
    """Return by how much a detector's AUC exceeds that of the better baseline, by row."""
    better = {row: max(mean_auc(found[name].rows[row]) for name in BASELINES) for row in found[detector].rows}
    return {row: mean_auc(of_row) - better[row] for row, of_row in found[detector].rows.items()}


def designs_table(found: Found) -> Table:
    """Return what each design reaches on each half: what is chosen from."""
    table = Table("detector", "design", "harmonic mean of AUC on A", "on B", title="designs")
    for name, judged in found.items():
        for design, of_rows in judged.designs.items():
            halves = [[mean_auc(of_rows[row]) for row in of_rows if half_of(row) == half] for half in "AB"]
            table.add_row(name, design, *(f"{harmonic_mean(half):.3f}" if half else "" for half in halves))
    return table


def summary_table(found: Found) -> Table:
    """Return one line a detector: chosen on one half, reported on the other, all rows, and what it costs."""
    table = Table(
        "detector",
        "chosen on A, there",
        "reported on B",
        "chosen on B, there",
        "reported on A",
        "all rows",
        "mean pAUC",
        f"rows below {LEAST}",
        f"rows > {BELOW} below baseline",
        "windows/s",
        "kB",
        "training s",
        title="harmonic means of AUC, with intervals of 95 %; costs: median (worst) of the rows",
    )
    for name, judged in found.items():
        halves = {half_of(one.chosen_on[0]): _both(judged, one) for one in judged.chosen}
        aucs = [mean_auc(of_row) for of_row in judged.rows.values()]
        pauc = np.mean([mean_pauc(of_row) for of_row in judged.rows.values()])
        below = sum(margin < -BELOW for margin in margins(found, name).values())
        counts = (f"{sum(auc < LEAST for auc in aucs)} (least {min(aucs):.3f})", str(below))
        every = f"{judged.mean:.3f} {_interval(judged.aucs)}"
        table.add_row(
            name,
            *halves.get("A", ("", "")),
            *halves.get("B", ("", "")),
            every,
            f"{pauc:.3f}",
            *counts,
            *_costs(name, judged),
        )
    return table


def _both(judged: Judged, one: Chosen) -> tuple[str, str]:
    reported_on = {row: judged.aucs[row] for row in one.reported_on}
    return f"{one.design} {one.chosen_mean:.3f}", f"{one.harmonic_mean:.3f} {_interval(reported_on)}"


def _interval(aucs: Mapping[str, Sequence[float]]) -> str:
    low, high = interval(aucs)
    return f"({low:.3f} to {high:.3f})"


def _costs(name: str, judged: Judged) -> tuple[str, str, str]:
    if name in BASELINES:
        return ("", "", "")
    every = [one for of_row in judged.rows.values() for one in of_row]
    speeds, sizes, times = (
        [getattr(one, of) for one in every] for of in ("windows_per_second", "size_kb", "training_s")
    )
    return (
        f"{np.median(speeds):.0f} ({min(speeds):.0f})",
        f"{np.median(sizes):.0f} ({max(sizes):.0f})",
        f"{np.median(times):.1f} ({max(times):.1f})",
    )


def differences(found: Found) -> list[str]:
    """Return how far each detector is above the reference, with intervals: on each half where reported, and on all."""
    if REFERENCE not in found:
        return []
    lines = []
    others = found[REFERENCE].aucs
    for name, judged in found.items():
        if name == REFERENCE:
            continue
        parts = {half_of(one.reported_on[0]): one.reported_on for one in judged.chosen} | {"all": tuple(judged.rows)}
        told = []
        for part in sorted(parts):
            own, its = ({row: of[row] for row in parts[part]} for of in (judged.aucs, others))
            gap = _harmonic(own) - _harmonic(its)
            low, high = difference_interval(own, its)
            told.append(f"{part} {gap:+.3f} ({low:+.3f} to {high:+.3f})")
        lines.append(f"{name} - {REFERENCE}: {', '.join(told)}")
    return lines


def _harmonic(aucs: Mapping[str, Sequence[float]]) -> float:
    return harmonic_mean([float(np.mean(of_seeds)) for of_seeds in aucs.values()])


def contamination_table(clean: Mapping[str, ByRow], dirty: Mapping[str, ByRow], share: float) -> Table:
    """Return what anomalous recordings among those that train cost.

    Args:
        clean: By detector and row, without the recordings that train in ``dirty``.
        dirty: By detector and row.
        share: Of what trains.
    """
    table = Table(
        "set / machine", *dirty, title=f"AUC with {share:.0%} anomalous recordings in training, and the difference"
    )
    lost = {
        name: {row: mean_auc(of_row) - mean_auc(clean[name][row]) for row, of_row in of_rows.items()}
        for name, of_rows in dirty.items()
    }
    for row in next(iter(dirty.values())):
        table.add_row(row, *(f"{mean_auc(dirty[name][row]):.3f} {lost[name][row]:+.3f}" for name in dirty))
    table.add_row("mean", *(f"{np.mean(list(of_rows.values())):+.4f}" for of_rows in lost.values()))
    return table


def as_json(found: Found) -> dict[str, Any]:
    """Return AUC and pAUC by detector and row, and under ``_halves`` what was chosen and reported where."""
    figures: dict[str, Any] = {
        name: {
            row: {"auc": round(mean_auc(of_row), 4), "pauc": round(mean_pauc(of_row), 4)}
            for row, of_row in judged.rows.items()
        }
        for name, judged in found.items()
    }
    figures["_halves"] = {
        name: [
            {
                "chosen_on": list(one.chosen_on),
                "reported_on": list(one.reported_on),
                "design": one.design,
                "harmonic_mean": round(one.harmonic_mean, 4),
                "interval": [round(end, 4) for end in interval({row: judged.aucs[row] for row in one.reported_on})],
            }
            for one in judged.chosen
        ]
        for name, judged in found.items()
    }
    return figures
