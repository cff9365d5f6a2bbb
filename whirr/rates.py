"""How many a day: a count within a time, with what it may as well be.

A count is Poisson distributed; its interval is the exact one of F. Garwood, "Fiducial limits for the Poisson
distribution" (1936). Little time says little: with none in h hours, up to 3.7 / h an hour would still be within it.
"""

from __future__ import annotations

from typing import Final

LEVEL: Final = 0.95
_DAY_S: Final = 86_400.0


def per_day(count: int, seconds: float) -> float | None:
    """Return how many a day ``count`` within ``seconds`` are; None without any time."""
    return count / seconds * _DAY_S if seconds > 0 else None


def per_day_interval(count: int, seconds: float) -> tuple[float, float] | None:
    """Return the interval of :func:`per_day` at the level of 95 %; None without any time."""
    if seconds <= 0:
        return None
    # Quantiles of chi-squared over two; scipy.stats, which has them by name, takes a second to load.
    from scipy.special import gammainccinv, gammaincinv

    tail = (1 - LEVEL) / 2
    low = float(gammaincinv(count, tail)) if count else 0.0
    high = float(gammainccinv(count + 1, tail))
    days = seconds / _DAY_S
    return low / days, high / days
