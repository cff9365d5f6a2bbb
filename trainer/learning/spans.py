"""Spans of time: what lies in some, and what is left of one without others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """From when until when, microseconds since the epoch; the end is not in it. None: it has none."""

    from_us: int
    until_us: int | None = None

    def holds(self, at_us: int) -> bool:
        """Whether a moment lies in it."""
        return self.from_us <= at_us and (self.until_us is None or at_us < self.until_us)

    def meets(self, other: Span) -> bool:
        """Whether it shares a moment with another."""
        begins_in_time = other.until_us is None or self.from_us < other.until_us
        return begins_in_time and (self.until_us is None or other.from_us < self.until_us)


def any_holds(spans: Iterable[Span], at_us: int) -> bool:
    """Whether a moment lies in one of them."""
    return any(span.holds(at_us) for span in spans)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same time as spans that don't meet, in order."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: one.from_us):
        last = found[-1] if found else None
        if last is None or (last.until_us is not None and last.until_us < span.from_us):
            found.append(span)
        elif last.until_us is not None:
            end = None if span.until_us is None else max(last.until_us, span.until_us)
            found[-1] = Span(last.from_us, end)
    return found
