"""Which settings are worth a look, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from backtest.sweep.grid import DEFAULT
from backtest.sweep.tried_settings import TriedSetting
from whirr.counts import counted

ROOM: Final = 1.5  # a threshold that may be off by so large a factor either way has room enough
ENOUGH: Final = 2 * float(np.log(ROOM))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The recommended setting.

    Attributes:
        outcome: What it leads to.
        reason: Why it was taken, in sentences.
        factors: The least and the largest multiple of the threshold, all other numbers being the same, that find as
            many faults with as few false alerts.
    """

    outcome: TriedSetting
    reason: str
    factors: tuple[float, float]


def pareto(outcomes: Sequence[TriedSetting]) -> list[TriedSetting]:
    """Return the outcomes that no other one beats in faults found, false alerts and mean delay, best recall first.

    Of several settings with the same three figures one is kept: the one nearest to the default.
    """
    best: dict[tuple[float, float, float], TriedSetting] = {}
    for outcome in sorted(outcomes, key=_distance):
        best.setdefault(outcome.cost, outcome)
    costs = np.array(list(best))
    front = []
    for cost, outcome in best.items():
        beaten = (costs <= cost).all(axis=1) & (costs < cost).any(axis=1)
        if not beaten.any():
            front.append(outcome)
    return sorted(front, key=lambda outcome: outcome.cost)


def recommend(outcomes: Sequence[TriedSetting], most_false_alerts: int = 0) -> Recommendation:
    """Return the setting to take.

    Of the settings with at most so many false alerts (where there is none: with the fewest) those that find the most
    faults are taken, and of these the ones with the fewest false alerts. They differ in how far the threshold could be
    off before a fault is missed or a false alert comes: the widest range wins, and in it the middle; of ranges that are
    wide enough (see ``ROOM``) none is better for being wider. Of those the one that is closest to the default in its
    other numbers is taken, then the shorter delay.

    Args:
        outcomes: Of a grid; at least one.
        most_false_alerts: In all recordings together.
    """
    fewest = min(outcome.figures.false_alerts for outcome in outcomes)
    allowed = [outcome for outcome in outcomes if outcome.figures.false_alerts <= max(fewest, most_false_alerts)]
    most_found = max(outcome.figures.found for outcome in allowed)
    finding = [outcome for outcome in allowed if outcome.figures.found == most_found]
    false_alerts = min(outcome.figures.false_alerts for outcome in finding)
    equal = [outcome for outcome in finding if outcome.figures.false_alerts == false_alerts]
    ranges = _ranges(equal, _factors(outcomes))
    choices = [(_middle(own), own) for own in ranges]

    def rank(choice: tuple[TriedSetting, list[TriedSetting]]) -> tuple[float, ...]:
        outcome, own = choice
        return (-min(_width(own), ENOUGH), *_distance(outcome)[1:], outcome.figures.delay_s_median or 0.0)

    outcome, own = min(choices, key=rank)
    factors = own[0].setting.factor, own[-1].setting.factor
    return Recommendation(outcome, _reason(outcome, factors, fewest, most_false_alerts), factors)


def _factors(outcomes: Sequence[TriedSetting]) -> list[float]:
    return sorted({outcome.setting.factor for outcome in outcomes})


def _ranges(equal: Sequence[TriedSetting], factors: Sequence[float]) -> list[list[TriedSetting]]:
    """Return runs of outcomes that differ in nothing but neighbouring factors."""
    place = {factor: index for index, factor in enumerate(factors)}
    ranges: list[list[TriedSetting]] = []
    for outcome in sorted(equal, key=lambda one: (one.setting[1:], one.setting.factor)):
        last = ranges[-1][-1].setting if ranges else None
        here = outcome.setting
        if last is not None and last[1:] == here[1:] and place[here.factor] == place[last.factor] + 1:
            ranges[-1].append(outcome)
        else:
            ranges.append([outcome])
    return ranges


def _middle(own: Sequence[TriedSetting]) -> TriedSetting:
    centre = np.sqrt(own[0].setting.factor * own[-1].setting.factor)
    return min(own, key=lambda outcome: abs(np.log(outcome.setting.factor / centre)))


def _width(own: Sequence[TriedSetting]) -> float:
    return round(float(np.log(own[-1].setting.factor / own[0].setting.factor)), 9)


def _distance(outcome: TriedSetting) -> tuple[float, ...]:
    """Return how far a setting is from the default one: its threshold, then its other numbers."""
    here = outcome.setting
    return (
        abs(float(np.log(here.factor / DEFAULT.factor))),
        abs(here.n - DEFAULT.n),
        abs(here.k - DEFAULT.k),
        abs(here.m - DEFAULT.m),
        abs(here.hysteresis - DEFAULT.hysteresis),
    )


def _reason(outcome: TriedSetting, factors: tuple[float, float], fewest: int, most_false_alerts: int) -> str:
    here, figures = outcome.setting, outcome.figures
    rule = f"{here.k} of {here.n} frames above {here.factor:g} times the threshold"
    found = f"it finds {figures.found} of {figures.faults} faults" if figures.faults else "there is no fault to find"
    false = counted(figures.false_alerts, "false alert")
    range_ = f"so does every multiple from {factors[0]:g} to {factors[1]:g}" if factors[0] < factors[1] else ""
    parts = [f"{rule}: {found}, with {false}" + (f"; {range_}, and this is the middle" if range_ else "")]
    if fewest > most_false_alerts:
        parts.append(f"No setting has as few as {counted(most_false_alerts, 'false alert')}; the fewest are {fewest}")
    return ". ".join(parts) + "."
