"""Figures in words, the same on the terminal and in reports."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from backtest.alerting import AlertFigures
from schemas import Band, Thresholds
from whirr.durations import as_duration
from whirr.settings import Route


def delay(seconds: float | None) -> str:
    """Return a delay in words; ``-`` where there is none."""
    return "-" if seconds is None else as_duration(seconds)


def false_alerts_a_day(figures: AlertFigures) -> str:
    """Return false alerts a machine and day, and in brackets what they may as well be; ``-`` from less than a day."""
    value, interval = figures.false_alerts_a_day, figures.false_alerts_a_day_interval
    if value is None or interval is None:
        return "-"
    low = f"{figure(interval[0])} " if value else ""
    return f"{figure(value) if figures.enough else '-'} ({low}to {figure(interval[1])})"


def rule(route: Route) -> str:
    """Return a route's alert rule in few words."""
    return "1 of 1" if route.mode == "every" else f"{route.k} of {route.n}"


def early(thresholds: Thresholds) -> str:
    """Return from when on a lasting shift of the score is an early finding, or why never."""
    test = thresholds.early
    if test is None:
        return f"none: {thresholds.no_early or 'the model was trained by a version that did not look for them'}"
    above = test.centre + test.reference * test.scale
    return (
        f"scores that stay above {above:.3g} in the mean, at most {test.false_findings_per_30_days:.3g} false in "
        f"30 days, from {test.normals} normals (as good as {test.effective_normals:.0f} independent ones)"
    )


def figure(value: float) -> str:
    """Return a rate with as many digits as it is worth."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def bands(driving: Iterable[Band]) -> str:
    """Return what drove a score: the first ranges of frequencies with their shares."""
    shown = [f"{band.from_hz:.0f} to {band.to_hz:.0f} Hz ({band.share:.0%})" for band in islice(driving, 3)]
    return ", ".join(shown) or "no band stands out"
