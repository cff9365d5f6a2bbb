"""What a season amounts to: which faults were found when, what was told without one, and what was learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.season.person import DAY_US
from benchmarks.season.stories import Fault, Story
from benchmarks.season.world import START_US, Told
from schemas import Alert
from schemas.times import parse_rfc3339

FAINT = 0.05  # of its final severity: nobody can hear less


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """A plant's season.

    Attributes:
        faults: So many there were.
        found_early, found_alarm: Found while they lasted, by an early finding first, or by an alarm.
        missed: Not found at all.
        false_alarms, false_early: Openings of either level with nothing behind them.
        changes_told: Openings within a day of a change that is no fault, and that nobody could know of.
        false_hours: Hours during which an incident was open with no fault behind it.
        median_delay_h: From when a fault could be heard to its first finding.
        wear_learnt: Trainings on frames of a wear that nobody had said is normal.
        retrainings: Trainings after each machine's first.
        promotions, rollbacks: So many.
    """

    faults: int
    found_early: int
    found_alarm: int
    missed: int
    false_alarms: int
    false_early: int
    changes_told: int
    false_hours: float
    median_delay_h: float | None
    wear_learnt: int
    retrainings: int
    promotions: int
    rollbacks: int


def outcome(stories: Mapping[str, Story], told: Mapping[str, Told], days: float) -> Season:
    """Return what the alerts of all machines amount to."""
    delays: list[float] = []
    counts = {"early": 0, "alarm": 0, "missed": 0}
    false = {"opened": 0, "changed": 0}
    changes, false_hours = 0, 0.0
    for machine, own in told.items():
        story = stories[machine]
        alerts = [one for one in own.alerts if one.kind == "machine" and one.state in ("opened", "changed")]
        faults = [one for one in story.faults if one.from_day < days]
        for fault in faults:
            level, delay = _found(fault, own.alerts, days)
            counts[level] += 1
            if delay is not None:
                delays.append(delay)
        for alert in alerts:
            day = _day(alert)
            if _faulty(faults, day):
                continue
            if any(event.day <= day < event.day + 1 for event in story.events):
                changes += 1
            else:
                false[alert.state] += 1
        false_hours += sum(
            24 * 0.02 for day in np.arange(0, days, 0.02) if _is_open(own.alerts, day) and not _faulty(faults, day)
        )
    return Season(
        faults=sum(counts.values()),
        found_early=counts["early"],
        found_alarm=counts["alarm"],
        missed=counts["missed"],
        false_alarms=false["opened"],
        false_early=false["changed"],
        changes_told=changes,
        false_hours=round(false_hours, 1),
        median_delay_h=round(float(np.median(delays)), 1) if delays else None,
        wear_learnt=sum(one.wear_learnt for one in told.values()),
        retrainings=sum(max(one.trained - 1, 0) for one in told.values()),
        promotions=sum(one.promoted for one in told.values()),
        rollbacks=sum(one.rolled_back for one in told.values()),
    )


def _found(fault: Fault, alerts: list[Alert], days: float) -> tuple[str, float | None]:
    """Return at which level a fault was found first, and how many hours after it could be heard.

    What was open before it began counts from when it could be heard, as far as it was open then.
    """
    end = fault.repaired_day if fault.repaired_day is not None else days
    heard = next(day for day in np.arange(fault.from_day, end, 0.02) if fault.severity(day) >= FAINT)
    best: tuple[str, float] | None = None
    for alert in alerts:
        if alert.kind != "machine" or alert.state not in ("opened", "changed"):
            continue
        if fault.from_day <= _day(alert) < end:
            level = "alarm" if alert.state == "opened" else "early"
            found = level, max(0.0, 24 * (_day(alert) - heard))
            best = found if best is None or found[1] < best[1] else best
    return best if best is not None else ("missed", None)


def _is_open(alerts: list[Alert], day: float) -> bool:
    level = None
    for alert in alerts:
        if _day(alert) > day:
            break
        if alert.kind == "machine":
            level = alert.level
    return level is not None


def _faulty(faults: Sequence[Fault], day: float) -> bool:
    return any(fault.severity(day) > 0 for fault in faults)


def _day(alert: Alert) -> float:
    return (parse_rfc3339(alert.recorded_at) - START_US) / DAY_US


def as_json(season: Season) -> dict[str, float | int | None]:
    """Return a season as plain values."""
    return asdict(season)
