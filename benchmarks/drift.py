"""``make drift``: how seldom a drift is told wrongly, and how soon a real one is found, on simulated days.

The days of 14 quantities, one median each, with a correlation between successive days; 14 days are the baseline, and
the test of :mod:`trainer.learning.drift` is asked at the end of each day after, as ``whirr learn`` asks it. A drift is
told when a quantity is found that was not found for three days. Then one quantity moves, a week after the baseline: at
once by four deviations between days, or by half a deviation a day.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from trainer.learning.drift import drifts
from trainer.learning.drift_incidents import GONE_DAYS
from trainer.learning.learning_rule import LearningRule

MACHINES: Final = 60
QUANTITIES: Final = 14
BASELINE_DAYS: Final = 14
DAYS: Final = 60
MOVES_AT: Final = 21
CORRELATIONS: Final = (0.0, 0.5, 0.8)
SEED: Final = 0
STEP, SLOPE = 4.0, 0.5

Days = NDArray[np.float64]  # [quantity, day]


def _days(rng: np.random.Generator, correlation: float) -> Days:
    noise = rng.normal(0, np.sqrt(1 - correlation**2), (QUANTITIES, DAYS))
    values = np.empty_like(noise)
    values[:, 0] = rng.normal(0, 1, QUANTITIES)
    for day in range(1, DAYS):
        values[:, day] = correlation * values[:, day - 1] + noise[:, day]
    return values


def _told(values: Days) -> list[tuple[int, int]]:
    """Return day and quantity of each telling."""
    allowed = LearningRule().false_drifts_per_30_days
    found_on: dict[int, int] = {}
    told = []
    for upto in range(BASELINE_DAYS + 1, DAYS + 1):
        named = {str(number): one[:upto] for number, one in enumerate(values)}
        for one in drifts(np.arange(upto), named, false_per_30_days=allowed, reference=BASELINE_DAYS):
            quantity = int(one.name)
            if upto - found_on.get(quantity, -GONE_DAYS) >= GONE_DAYS:
                told.append((upto - 1, quantity))
            found_on[quantity] = upto
    return told


def measure(correlation: float) -> dict[str, float | None]:
    """Return the rates at one correlation of successive days."""
    rng = np.random.default_rng([SEED, round(100 * correlation)])
    false = 0
    after = np.maximum(np.arange(DAYS) - MOVES_AT + 1, 0)
    moves = {"step": STEP * (after > 0), "slope": SLOPE * after}
    delays: dict[str, list[int]] = {name: [] for name in moves}
    for _ in range(MACHINES):
        values = _days(rng, correlation)
        false += len(_told(values))
        for name, move in moves.items():
            moved = values.copy()
            moved[0] += move
            own = [day - MOVES_AT for day, quantity in _told(moved) if quantity == 0 and day >= MOVES_AT]
            delays[name] += own[:1]
    figures: dict[str, float | None] = {"false_per_30_days": false / MACHINES * 30 / (DAYS - BASELINE_DAYS)}
    for name, own in delays.items():
        figures[f"{name}_found"] = len(own) / MACHINES
        figures[f"{name}_days_median"] = float(np.median(own)) if own else None
    return {name: None if value is None else round(value, 2) for name, value in figures.items()}


def main() -> None:
    """Print a line for each correlation, then one JSON object."""
    found = {f"{correlation:g}": measure(correlation) for correlation in CORRELATIONS}
    for correlation, figures in found.items():
        print(f"days correlate by {correlation}: {figures}")
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
