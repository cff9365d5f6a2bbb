"""What a setting would have meant for those who answer the alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backtest.sweep.course import UNKNOWN, Course, labelled
from backtest.sweep.grid import Grid, Setting
from backtest.sweep.incidents import Incident, Levels
from whirr.rates import per_day, per_day_interval

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one setting leads to.

    Attributes:
        setting: The numbers.
        faults: Faults in all courses.
        found: Those during which an incident opened; one that was open before was opened by something else.
        recall: Share of the faults that were found by machine, for machines that have any.
        delays_s: Of the faults that were found, in order: from the onset to the end of the frame that opened.
        false_alerts: Incidents that opened outside of faults; on frames without a label only where nothing is labelled.
        false_alerts_per_machine_day: The same over the time that machines were watched without a known fault; None
            without any.
        false_alerts_per_machine_day_interval: What that may as well be, at the level of 95 %.
        open_share: Share of the frames outside of faults that ended while an incident was open; None without any.
    """

    setting: Setting
    faults: int
    found: int
    recall: dict[str, float]
    delays_s: tuple[float, ...]
    false_alerts: int
    false_alerts_per_machine_day: float | None
    false_alerts_per_machine_day_interval: tuple[float, float] | None
    open_share: float | None

    @property
    def delay_s_median(self) -> float | None:
        """Median delay of the faults that were found; None without any."""
        return float(np.median(self.delays_s)) if self.delays_s else None

    @property
    def delay_s_max(self) -> float | None:
        """Longest delay of the faults that were found; None without any."""
        return max(self.delays_s, default=None)

    @property
    def cost(self) -> tuple[float, float, float]:
        """Faults missed, false alerts, and the mean delay with a missed fault waiting for ever: less is better."""
        mean_s = float(np.mean(self.delays_s)) if self.found == self.faults and self.delays_s else float("inf")
        if not self.faults:
            mean_s = 0.0
        return (self.faults - self.found, self.false_alerts, mean_s)


def outcomes(courses: Sequence[Course], grid: Grid) -> list[Outcome]:
    """Return the outcome of every setting of a grid, in its order."""
    watch = _Watch.of(courses)
    levels = Levels.of([course.ratio for course in courses])
    found: list[Outcome] = []
    for factor in grid.factors:
        scaled = levels.above(factor)
        found.extend(
            watch.judge(setting, scaled.incidents(setting.k, setting.n, setting.m, setting.hysteresis))
            for setting in grid.of(factor)
        )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """What all settings are judged by; the courses lie end to end.

    Attributes:
        fault: Which fault each frame belongs to, -1 for none, -2 where only others are labelled; int64 [n].
        machine: Each fault's machine.
        onset_s: When each fault began, seconds since the epoch.
        end_s: When each frame ended; float64 [n].
        healthy: How many frames before each one belong to no fault; int64 [n + 1].
        watched_days: Over machines, how long each was watched without a known fault.
        intervals: By count: the same few counts come again and again.
    """

    fault: NDArray[np.int64]
    machine: list[str]
    onset_s: list[float]
    end_s: NDArray[np.float64]
    healthy: NDArray[np.int64]
    watched_days: float
    intervals: dict[int, tuple[float, float] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, courses: Sequence[Course]) -> _Watch:
        fault = np.full(sum(map(len, courses)), -1, np.int64)
        machine: list[str] = []
        onset_s: list[float] = []
        watched_s: dict[str, float] = {}
        start, some_known = 0, labelled(courses)
        for course in courses:
            if some_known:
                fault[start : start + len(course)][course.label == UNKNOWN] = -2
            for one in course.faults():
                fault[start + one.first : start + one.last + 1] = len(machine)
                machine.append(course.machine)
                onset_s.append(float(course.start_s[one.first]))
            # Several sensors watch a machine at the same time.
            watched_s[course.machine] = max(watched_s.get(course.machine, 0.0), course.watched_s())
            start += len(course)
        ends = np.concatenate([np.empty(0), *(course.end_s for course in courses)])
        healthy = np.concatenate([[0], np.cumsum(fault == -1)])
        return cls(fault, machine, onset_s, ends, healthy, sum(watched_s.values()) / _DAY_S)

    def interval(self, false_alerts: int) -> tuple[float, float] | None:
        if false_alerts not in self.intervals:
            self.intervals[false_alerts] = per_day_interval(false_alerts, self.watched_days * _DAY_S)
        return self.intervals[false_alerts]

    def judge(self, setting: Setting, incidents: Sequence[Incident]) -> Outcome:
        opened = np.array([one.opened for one in incidents], np.int64)
        until = np.array([one.until for one in incidents], np.int64)
        of_fault = self.fault[opened]
        delay_s: dict[int, float] = {}
        for index in np.flatnonzero(of_fault >= 0).tolist():
            fault = int(of_fault[index])
            delay_s.setdefault(fault, float(self.end_s[opened[index]]) - self.onset_s[fault])
        false_alerts = int((of_fault == -1).sum())
        recall: dict[str, list[bool]] = {}
        for fault, machine in enumerate(self.machine):
            recall.setdefault(machine, []).append(fault in delay_s)
        frames = int(self.healthy[-1])
        return Outcome(
            setting=setting,
            faults=len(self.machine),
            found=len(delay_s),
            recall={name: sum(own) / len(own) for name, own in recall.items()},
            delays_s=tuple(delay_s[fault] for fault in sorted(delay_s)),
            false_alerts=false_alerts,
            false_alerts_per_machine_day=per_day(false_alerts, self.watched_days * _DAY_S),
            false_alerts_per_machine_day_interval=self.interval(false_alerts),
            open_share=int((self.healthy[until] - self.healthy[opened]).sum()) / frames if frames else None,
        )
