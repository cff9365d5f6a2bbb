"""What each setting of the alert rule would have meant, on the same scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from backtest.alerting import AlertFigures, LabelledWatch
from backtest.streams import Ints, ScoredStream
from backtest.sweep.grid import Grid, RuleSetting
from backtest.sweep.incidents import Levels

_FRAMES_AT_ONCE: Final = 500_000  # of all thresholds that are tried together: some tens of megabytes


@dataclass(frozen=True, slots=True)
class TriedSetting:
    """What one setting leads to.

    Attributes:
        setting: The numbers.
        figures: What its incidents amount to.
        recall: Share of the faults that were found by machine, for machines that have any.
    """

    setting: RuleSetting
    figures: AlertFigures
    recall: dict[str, float]

    @property
    def cost(self) -> tuple[float, float, float]:
        """Faults missed, false alerts, and the mean delay with a missed fault waiting for ever: less is better."""
        figures = self.figures
        mean_s = float(np.mean(figures.found_after_s)) if figures.found == figures.faults > 0 else float("inf")
        if not figures.faults:
            mean_s = 0.0
        return (figures.faults - figures.found, figures.false_alerts, mean_s)


def try_settings(streams: Sequence[ScoredStream], grid: Grid, every_s: float = 0.0) -> list[TriedSetting]:
    """Return what every setting of a grid leads to, in its order.

    Args:
        streams: The scores.
        grid: The settings.
        every_s: See :meth:`backtest.alerting.LabelledWatch.of`.
    """
    watch = LabelledWatch.of(streams, every_s)
    moving = [stream.moving for stream in streams]
    levels = Levels.of([stream.ratio[chosen] for stream, chosen in zip(streams, moving, strict=True)])
    # Where those frames that move the rule lie among all.
    place = np.concatenate([*map(np.add, moving, watch.starts[:-1].tolist()), watch.starts[-1:]])
    tried: list[TriedSetting] = []
    at_once = max(1, _FRAMES_AT_ONCE // max(1, len(levels.ratio)))
    for first in range(0, len(grid.factors), at_once):
        factors = grid.factors[first : first + at_once]
        found = levels.above(factors).incidents_of([setting[1:] for setting in grid.of(1.0)])
        for number, factor in enumerate(factors):
            for setting, spans in zip(grid.of(factor), found, strict=True):
                begin, end = np.searchsorted(spans[:, 0], len(levels.ratio) * np.array([number, number + 1]))
                own = spans[begin:end] - len(levels.ratio) * number
                figures = watch.figures(_among_all(own, place, levels.starts, watch.starts))
                tried.append(TriedSetting(setting, figures, _recall(watch, figures)))
    return tried


def _among_all(spans: Ints, place: Ints, starts: Ints, all_starts: Ints) -> Ints:
    """Return incidents by frames among all, int64 [incident, 2]; one that never closes lasts to its stream's end."""
    opened, until = spans.T
    stream = np.searchsorted(starts, opened, side="right") - 1
    ends = np.append(starts[1:], len(place) - 1)[stream]
    return np.column_stack([place[opened], np.where(until == ends, all_starts[stream + 1], place[until])])


def _recall(watch: LabelledWatch, figures: AlertFigures) -> dict[str, float]:
    found: dict[str, list[bool]] = {}
    for fault, delay_s in zip(watch.faults, figures.delays_s, strict=True):
        found.setdefault(fault.machine, []).append(delay_s is not None)
    return {machine: sum(own) / len(own) for machine, own in found.items()}
