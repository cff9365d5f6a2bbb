"""Thresholds from the scores of held-out normal frames.

The decision threshold is a percentile. The alert threshold is made by one of two methods:

- ``tail`` (default): it is such that the rule "k of the last n frames exceed it" opens at most a stated number of
  incidents (default one) per machine in 30 days. With frames of 1 s that is one in 2.6 million frames, from perhaps a
  hundred held-out normals; so it is extrapolated, each step on the safe side. *How rare must a frame above it be*,
  given that successive frames resemble each other: :mod:`trainer.exceedance`. *What score is exceeded so rarely*, and
  how well do so few frames tell it: :mod:`trainer.tail`. *What has been seen must not alert*: it is above every score
  for which the rule would have opened on the held-out normals themselves, and above the largest score where there are
  too few frames to know how often such a one comes.
- ``percentile``: a percentile of held-out normals, as seen, without any extrapolation.

Both are made at one of two levels: ``rule`` counts openings of the rule (a percentile is that of the k-th largest of n
successive scores, which the rule compares in effect); ``frame`` counts single frames above the threshold.

Where recordings tell on which days they were made, days' differences raise the threshold: :mod:`trainer.day_to_day`.

What this cannot know is a normal state that the recordings lack, such as a season or another product on the line; nor
a drift so slow that the held-out normals show a fraction of it (some dozen frames at a correlation of 0.98).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas import Calibration, Thresholds
from trainer.day_to_day import alert_limit
from trainer.exceedance import Runs, Scores, dependence, exceedance_probability
from trainer.tail import Tail

MIN_OWN_FRAMES = 20  # a machine with fewer held-out frames takes the pooled thresholds


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Thresholds for machines that have none of their own, and by machine."""

    pooled: Thresholds
    by_machine: dict[str, Thresholds]

    def of(self, machine: str | None) -> Thresholds:
        """Return the machine's own thresholds, else the pooled ones."""
        return self.pooled if machine is None else self.by_machine.get(machine, self.pooled)


def calibrate(runs_by_machine: Mapping[str | None, Runs], calibration: Calibration) -> Calibrated:
    """Return the thresholds that held-out normals give.

    Args:
        runs_by_machine: The frames' scores per machine (None: not named), one array a recording, in time order.
        calibration: Frame length, rule, and what is asked of the thresholds.

    Raises:
        ValueError: There is no score at all.
    """
    everything = [run for runs in runs_by_machine.values() for run in runs]
    by_machine = {
        machine: thresholds(runs, calibration)
        for machine, runs in runs_by_machine.items()
        if machine is not None and sum(map(len, runs)) >= MIN_OWN_FRAMES
    }
    return Calibrated(thresholds(everything, calibration), by_machine)


def thresholds(runs: Runs, calibration: Calibration) -> Thresholds:
    """Return both thresholds of one machine, or of several taken as one.

    Raises:
        ValueError: There is no score at all.
    """
    scores = np.concatenate([np.asarray(run, np.float64) for run in runs]) if len(runs) else np.zeros(0)
    if scores.size == 0:
        raise ValueError("no held-out normal frame; expected at least one")
    smallest = float(np.finfo(np.float32).tiny)
    decision = max(float(np.percentile(scores, calibration.decision_percentile)), smallest)
    # A percentile is what was asked for; a tail below the decision threshold says only that the fit is poor.
    least = decision if calibration.threshold_method == "tail" else smallest
    return Thresholds(
        decision_threshold=decision,
        alert_threshold=max(alert_threshold(runs, calibration), least),
        normals=int(scores.size),
    )


def alert_threshold(runs: Runs, calibration: Calibration) -> float:
    """Return the alert threshold: see the module's text for the derivation.

    Args:
        runs: Scores of held-out normal frames, one array a recording, in time order; at least one score.
        calibration: Method, level, frame length, rule (k of n), and allowed false alerts per 30 days or percentile.
    """
    scores = np.concatenate([np.asarray(run, np.float64) for run in runs])
    k, n = counted(calibration)
    if calibration.threshold_method == "percentile":
        assert calibration.alert_percentile is not None
        return float(np.percentile(_opening_scores(scores, k, n), calibration.alert_percentile))
    rate = min(calibration.false_alerts_per_30_days / calibration.frames_in_30_days, 0.1)
    correlation = dependence(runs, calibration.n)
    tail = Tail.fit(scores, correlation).quantile(exceedance_probability(rate, k, n, correlation))
    seen = 1.02 * float(_opening_scores(scores, k, n).max())
    if len(scores) * exceedance_probability(rate, k, n, 0.0) < 1:
        seen = max(seen, 1.05 * float(scores.max()))
    return max(tail, seen)


def raised_for_days(
    calibrated: Calibrated, days_by_machine: Mapping[str | None, Sequence[Scores]], calibration: Calibration
) -> Calibrated:
    """Return thresholds that leave room for a day unlike those that were learnt (:mod:`trainer.day_to_day`).

    Args:
        calibrated: Thresholds by the method ``tail``; others are left as they are.
        days_by_machine: Scores of normals by day, of machines that were recorded on several days.
        calibration: Rule, level, and allowed false alarms.
    """
    if calibration.threshold_method != "tail" or not days_by_machine:
        return calibrated
    limits = {machine: _day_limit(days, calibration) for machine, days in days_by_machine.items()}

    def raised(thresholds: Thresholds, limit: float) -> Thresholds:
        return replace(thresholds, alert_threshold=max(thresholds.alert_threshold, limit))

    by_machine = {
        machine: raised(own, limits[machine]) if machine in limits else own
        for machine, own in calibrated.by_machine.items()
    }
    return Calibrated(raised(calibrated.pooled, max(limits.values())), by_machine)


def _day_limit(days: Sequence[Scores], calibration: Calibration) -> float:
    k, n = counted(calibration)
    return alert_limit([float(_opening_scores(day, k, n).max()) for day in days], calibration)


def counted(calibration: Calibration) -> tuple[int, int]:
    """Return k and n of what the calibration counts: the rule's, or 1 of 1 at the level of single frames."""
    return (calibration.k, calibration.n) if calibration.threshold_level == "rule" else (1, 1)


def _opening_scores(scores: Scores, k: int, n: int) -> Scores:
    """Return the score that k frames reach, for each n successive ones; below it the rule would have opened there."""
    if len(scores) < n:
        return np.sort(scores)[-min(k, len(scores)) :][:1]
    windows = np.lib.stride_tricks.sliding_window_view(scores, n)
    ordered: Scores = np.sort(windows, axis=1)
    return ordered[:, n - k]
