"""Figures in words, the same on the terminal and in the report."""

from __future__ import annotations

from whirr.settings import Route


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``42 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 90 * 60 else f"{seconds / 3600:.3g} h"


def delay(seconds: float | None) -> str:
    """Return a delay in words; ``-`` where there is none."""
    return "-" if seconds is None else duration(seconds)


ENOUGH_S = 86_400.0  # of normal signal, to say how many false alerts there are a day


def false_alerts_a_day(value: float | None, interval: tuple[float, float] | None) -> str:
    """Return false alerts a day with their interval; without a single one, only what they can at most be."""
    if value is None or interval is None:
        return "-"
    if value == 0:
        return f"0 (to {figure(interval[1])})"
    return f"{figure(value)} ({figure(interval[0])} to {figure(interval[1])})"


def rule(route: Route) -> str:
    """Return a route's alert rule in few words."""
    return "1 of 1" if route.mode == "every" else f"{route.k} of {route.n}"


def figure(value: float) -> str:
    """Return a rate with as many digits as it is worth."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
