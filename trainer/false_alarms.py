"""False alarms: what thresholds promise, held against held-out normals.

*Expected* comes from the fitted tail and the dependence between frames: an upper bound on the safe side. *Observed* is
what the worker's own rule does on the held-out normals. Those are the normals that thresholds were made from, and the
method ``tail`` lies above whatever would have opened on them; so each fifth of a machine's frames is also judged by
thresholds made from the others (*left out*). Some minutes of audio show little of a month: *at most* is the one-sided
95 % limit that the count of left-out alarms leaves to a Poisson rate (F. Garwood, "Fiducial limits for the Poisson
distribution", 1936); alarms that come in clusters leave more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from schemas import Calibration
from stream_app.pipeline.rule import Incident, Rule, step
from trainer.exceedance import Runs, Scores, dependence, opening_probability
from trainer.tail import Tail
from trainer.thresholds import Calibrated, calibrate

FOLDS = 5
CONFIDENCE = 0.95
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRate:
    """One kind of alarm, per machine and day unless it says otherwise.

    Attributes:
        expected_per_day: From the fitted tail, on the safe side.
        observed: Alarms in all of the held-out normals.
        observed_per_day: The same per day.
        left_out: Alarms in all of the held-out normals, each fifth judged by thresholds made from the others.
        left_out_per_day: The same per day.
        at_most_per_day: What ``left_out`` alone can't rule out, with a confidence of 95 %.
    """

    expected_per_day: float
    observed: int
    observed_per_day: float
    left_out: int
    left_out_per_day: float
    at_most_per_day: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarms:
    """The false alarms of one machine, or of all.

    Attributes:
        machine: None where the recordings don't say, and for all.
        hours: Length of the held-out normals.
        openings: Incidents that the rule opens.
        frames: Single frames above the alert threshold.
    """

    machine: str | None
    hours: float
    openings: AlarmRate
    frames: AlarmRate


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarmCheck:
    """What thresholds promise, held against held-out normals.

    Attributes:
        target_per_day: Allowed alarms per machine and day, of the kind that the calibration counts; None where the
            thresholds are percentiles.
        exceeded: Whether more left-out alarms were seen than such a target explains (a chance of less than 5 %).
        overall: All machines, per machine and day.
        machines: Each machine.
    """

    target_per_day: float | None
    exceeded: bool
    overall: FalseAlarms
    machines: tuple[FalseAlarms, ...]

    def figures(self) -> dict[str, float]:
        """Return what is worth tracking, by name."""
        figures = {"held_out_hours": self.overall.hours}
        for own in (self.overall, *self.machines):
            suffix = "" if own is self.overall else f"/{own.machine or 'unnamed'}"
            figures[f"expected_openings_per_day{suffix}"] = own.openings.expected_per_day
            figures[f"observed_openings_per_day{suffix}"] = own.openings.observed_per_day
            figures[f"left_out_openings_per_day{suffix}"] = own.openings.left_out_per_day
        return figures


@dataclass(frozen=True, slots=True)
class _Count:
    """Alarms of both kinds."""

    openings: int = 0
    frames: int = 0

    def __add__(self, other: _Count) -> _Count:
        return _Count(self.openings + other.openings, self.frames + other.frames)


def check_false_alarms(
    runs_by_machine: Mapping[str | None, Runs], calibrated: Calibrated, calibration: Calibration
) -> FalseAlarmCheck:
    """Return what the thresholds let through, expected and observed.

    Args:
        runs_by_machine: What ``calibrated`` was made from: the frames' scores per machine, one array a recording.
        calibrated: The thresholds.
        calibration: What they were made for.
    """
    left_out = _left_out(runs_by_machine, calibration)
    everything = [run for runs in runs_by_machine.values() for run in runs]
    machines = []
    for machine, runs in runs_by_machine.items():
        threshold = calibrated.of(machine).alert_threshold
        expected = _expected(runs if machine in calibrated.by_machine else everything, threshold, calibration)
        seen = _count(np.concatenate(runs), threshold, calibration)
        days = sum(map(len, runs)) * calibration.period_s / _DAY_S
        machines.append(_false_alarms(machine, days, expected, seen, left_out[machine]))
    overall = _together(machines)
    target = calibration.false_alerts_per_30_days / 30 if calibration.threshold_method == "tail" else None
    counted = overall.openings if calibration.threshold_level == "rule" else overall.frames
    exceeded = target is not None and _more_than(counted.left_out, target * overall.hours / 24)
    return FalseAlarmCheck(target_per_day=target, exceeded=exceeded, overall=overall, machines=tuple(machines))


def openings(scores: Scores, threshold: float, rule: Rule) -> int:
    """Return how many incidents the worker's rule opens on one stream's scores, float64 [frame], in time order."""
    incident, count = Incident(), 0
    for ratio in (scores / threshold).tolist():
        incident, transition = step(incident, ratio, rule)
        count += transition == "opened"
    return count


def _count(scores: Scores, threshold: float, calibration: Calibration) -> _Count:
    rule = Rule(k=calibration.k, n=calibration.n)
    return _Count(openings(scores, threshold, rule), int((scores > threshold).sum()))


def _expected(runs: Runs, threshold: float, calibration: Calibration) -> tuple[float, float]:
    """Return expected openings and frames above the threshold, per day."""
    correlation = dependence(runs, calibration.n)
    p = Tail.fit(np.concatenate(runs), correlation).probability(threshold)
    per_day = _DAY_S / calibration.period_s
    return opening_probability(p, calibration.k, calibration.n, correlation) * per_day, p * per_day


def _left_out(runs_by_machine: Mapping[str | None, Runs], calibration: Calibration) -> dict[str | None, _Count]:
    """Return the alarms in each machine's frames, a fifth at a time, with thresholds made from the other fifths."""
    counts = dict.fromkeys(runs_by_machine, _Count())
    for fold in range(FOLDS):
        cut = {machine: _cut(runs, fold) for machine, runs in runs_by_machine.items()}
        others = {machine: rest for machine, (_, rest) in cut.items() if rest}
        if not others:
            continue
        calibrated = calibrate(others, calibration)
        for machine, (fifth, _) in cut.items():
            counts[machine] += _count(fifth, calibrated.of(machine).alert_threshold, calibration)
    return counts


def _cut(runs: Runs, fold: int) -> tuple[Scores, Runs]:
    """Return one fifth of a machine's frames, in time order, and the runs that are left without it."""
    scores = np.concatenate(runs)
    start, stop = (len(scores) * (fold + side) // FOLDS for side in (0, 1))
    return scores[start:stop], list(_outside(runs, start, stop))


def _outside(runs: Runs, start: int, stop: int) -> Iterator[Scores]:
    first = 0
    for run in runs:
        for part in (run[: max(0, start - first)], run[max(0, stop - first) :]):
            if len(part):
                yield part
        first += len(run)


def _false_alarms(
    machine: str | None, days: float, expected: tuple[float, float], seen: _Count, left_out: _Count
) -> FalseAlarms:
    return FalseAlarms(
        machine=machine,
        hours=24 * days,
        openings=_rate(days, expected[0], seen.openings, left_out.openings),
        frames=_rate(days, expected[1], seen.frames, left_out.frames),
    )


def _together(machines: Sequence[FalseAlarms]) -> FalseAlarms:
    """Return all machines as one: counts add up, and so do the days, so that rates are per machine and day."""
    hours = np.array([own.hours for own in machines])

    def rate(of: Sequence[AlarmRate]) -> AlarmRate:
        expected = float(np.average([own.expected_per_day for own in of], weights=hours))
        return _rate(
            float(hours.sum()) / 24, expected, sum(own.observed for own in of), sum(own.left_out for own in of)
        )

    return FalseAlarms(
        machine=None,
        hours=float(hours.sum()),
        openings=rate([own.openings for own in machines]),
        frames=rate([own.frames for own in machines]),
    )


def _rate(days: float, expected_per_day: float, observed: int, left_out: int) -> AlarmRate:
    return AlarmRate(
        expected_per_day=expected_per_day,
        observed=observed,
        observed_per_day=observed / days,
        left_out=left_out,
        left_out_per_day=left_out / days,
        at_most_per_day=float(stats.chi2.ppf(CONFIDENCE, 2 * (left_out + 1))) / 2 / days,
    )


def _more_than(count: int, expected: float) -> bool:
    """Return whether a Poisson variable of mean ``expected`` reaches ``count`` with a chance of less than 5 %."""
    return float(stats.poisson.sf(count - 1, expected)) < 1 - CONFIDENCE
