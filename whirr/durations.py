"""Durations as people type them: ``30s``, ``10m``, ``2h``, ``7d``."""

from __future__ import annotations

import re

from schemas.errors import SettingsError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_DURATION = re.compile(r"(\d{1,9})([smhd])")


def parse_duration_s(text: str) -> int | None:
    """Return a duration in seconds, or None if the text is none."""
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _UNITS_S[match[2]] if match else None


def seconds_of(text: str) -> int:
    """Return a duration in seconds.

    Raises:
        ValueError: It is none.
    """
    found = parse_duration_s(text)
    if found is None:
        raise ValueError("expected a duration such as 30s, 10m, 2h or 7d")
    return found


def duration_s(text: str, name: str) -> int:
    """Return the duration, in seconds, that is the value of the option ``name``.

    Raises:
        SettingsError: It is none.
    """
    try:
        return seconds_of(text)
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}; {error}") from None


def as_duration(seconds: float) -> str:
    """Return a duration for people, in its two largest units: ``0.125 s``, ``3 min 20 s``, ``5 h 1 min``, ``2 d 4 h``.

    By hand, since libraries such as humanize spell units out, and know no symbols.
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{max(0.0, seconds):.3g} s"
    size, name, part, part_name = next(unit for unit in _UNITS if whole >= unit[0])
    more = whole % size // part
    return f"{whole // size} {name}" + (f" {more} {part_name}" if more else "")
