"""Maintenance windows: times in which what machines do is no news, once or by a rule that recurs (RFC 5545).

A frame counts as of a window by when it was recorded, so that a backtest answers as the worker did.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from functools import lru_cache
from math import inf
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from whirr.durations import seconds_of
from whirr.machine_patterns import check_pattern
from whirr.utf8 import EXPECTED, is_utf8

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY_US: Final = 86_400_000_000
_YEARS: Final = range(2000, 2100)  # a rule has no occurrence after: it costs what it is asked for, and that is bounded
_LAST: Final = datetime(_YEARS.stop, 1, 1, tzinfo=UTC)
_MOST_A_DAY: Final = 24
_LONGEST_S: Final = 366 * 86_400
_RULE_CHARS: Final = 500
_BY: Final = ("SETPOS", "MONTH", "MONTHDAY", "YEARDAY", "WEEKNO", "DAY", "HOUR", "MINUTE", "SECOND")
_PARTS: Final = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"} | {f"BY{what}" for what in _BY})
_FREQUENCIES: Final = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_VALUE: Final = re.compile(r"[A-Z0-9,+-]+")
_NUMBER: Final = re.compile(r"[1-9]\d{0,8}")
# The calendar repeats itself every 400 years, weekdays too: near its end a rule that never matches is soon through.
_TO_THE_END: Final = 7600
_ROOM_US: Final = 60_000_000  # streams are looked at every 10 s
_MOST_WINDOWS: Final = 1000


class MaintenanceWindow(BaseModel):
    """When some machines' frames are idle, once or again and again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field(description="pattern of machine ids: * ? [abc]")
    start: datetime = Field(description="when it, or the first, begins: with an offset, or local time with timezone")
    duration: str = Field(description="how long each lasts: 30m, 8h, 2d; an hour is an hour when clocks change, too")
    rule: str | None = Field(None, description="when it comes again (RFC 5545): FREQ=WEEKLY;BYDAY=SA")
    timezone: str | None = Field(None, description="whose clocks start and rule follow, such as Europe/Berlin")
    note: str = Field("", max_length=200, description="what it is for")

    @field_validator("*", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if not is_utf8(value):
            raise ValueError(EXPECTED)
        return value

    @field_validator("match")
    @classmethod
    def _matchable(cls, match: str) -> str:
        check_pattern(match)
        return match

    @field_validator("start")
    @classmethod
    def _this_century(cls, start: datetime) -> datetime:
        if start.year not in _YEARS:
            raise ValueError(f"start is {start}; expected a year from {_YEARS[0]} to {_YEARS[-1]}")
        return start

    @field_validator("duration")
    @classmethod
    def _lasting(cls, duration: str) -> str:
        try:
            seconds = seconds_of(duration)
        except ValueError as error:
            raise ValueError(f"duration is {duration!r}; {error}") from None
        if not 0 < seconds <= _LONGEST_S:
            raise ValueError(f"duration is {duration!r}; expected 1s to 366d")
        return duration

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str | None) -> str | None:
        if timezone is not None:
            try:
                ZoneInfo(timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(
                    f"timezone is {timezone!r}; expected the name of one, such as Europe/Berlin or UTC"
                ) from None
        return timezone

    @field_validator("rule")
    @classmethod
    def _readable(cls, rule: str | None) -> str | None:
        if rule is not None:
            check_rule(rule)
        return rule

    @model_validator(mode="after")
    def _recurring(self) -> MaintenanceWindow:
        if self.start.tzinfo is None and self.timezone is None:
            raise ValueError(
                f"start is {self.start}; expected an offset with it, such as …Z or …+01:00, or the timezone whose "
                "local time it is"
            )
        if self.rule is not None:
            # An edge agent that has the same file needs no windows, and may be installed without dateutil.
            with suppress(ModuleNotFoundError):
                _check_occurrences(self)
        return self

    @property
    def duration_us(self) -> int:
        """How long each occurrence lasts, in microseconds."""
        return seconds_of(self.duration) * 1_000_000

    @property
    def zone(self) -> tzinfo:
        """Whose clocks the window follows: those of ``timezone``, else of the start's offset."""
        zone = ZoneInfo(self.timezone) if self.timezone is not None else self.start.tzinfo
        assert zone is not None  # as checked
        return zone

    @property
    def local_start(self) -> datetime:
        """When it, or the first, begins, in its own zone."""
        if self.start.tzinfo is None:
            return self.start.replace(tzinfo=self.zone)
        return self.start.astimezone(self.zone)


class Occurrence(NamedTuple):
    """One time that a window is on: from ``begin_us`` until before ``end_us``, microseconds since the epoch."""

    window: MaintenanceWindow
    begin_us: int
    end_us: int


class Maintenance:
    """All maintenance windows; the first that matches a machine and is on counts.

    Args:
        windows: As the settings give them.
    """

    def __init__(self, windows: Sequence[MaintenanceWindow] = ()) -> None:
        self.windows = tuple(windows)
        self._courses = tuple(_Course(window) for window in windows)
        # Machine ids come from outside, so what is remembered of them is bounded.
        self._of = lru_cache(maxsize=65_536)(self._matching)

    def active(self, machine_id: str, time_us: int) -> Occurrence | None:
        """Return the window that a machine is in at a time, microseconds since the epoch."""
        for course in self._of(machine_id):
            if (found := course.at(time_us)) is not None:
                return found
        return None

    def coming(self, time_us: int, count: int) -> list[list[Occurrence]]:
        """Return, for each window, the occurrence at a time if there is one, and those after it; ``count`` at most."""
        return [course.from_(time_us, count) for course in self._courses]

    def unheard_due_us(self, machine_id: str, since_us: int, after_us: int) -> int | None:
        """Return when a machine not heard since ``since_us`` has been so for ``after_us`` outside of its windows.

        Without a break: after a window it has its time anew. Where windows follow each other so closely that they
        leave no such time, after twice as much in all, or maintenance would hide a silence for ever. None: never.
        """
        courses, at_us, unheard_us = self._of(machine_id), since_us, 0
        if not courses:
            return since_us + after_us
        for _ in range(_MOST_WINDOWS):
            upcoming = [found for course in courses for found in course.from_(at_us, 1)]
            if not upcoming:
                return at_us + min(after_us, 2 * after_us - unheard_us)
            following = min(upcoming, key=lambda one: one.begin_us)
            needed_us, there_us = min(after_us, 2 * after_us - unheard_us), following.begin_us - at_us
            if there_us >= needed_us + _ROOM_US:
                return at_us + needed_us
            unheard_us += max(min(there_us, needed_us - 1), 0)
            at_us = following.end_us
        return None

    def _matching(self, machine_id: str) -> tuple[_Course, ...]:
        return tuple(course for course in self._courses if fnmatchcase(machine_id, course.window.match))


class _Course:
    """A window's occurrences, found as far as anybody asks, and where in them the last question was."""

    def __init__(self, window: MaintenanceWindow) -> None:
        self.window = window
        self._duration_us = window.duration_us
        self._to_come = _begins(window)
        self._begins = array("q")  # in order; clocks that are put forward may turn two of a rule's around
        self._exhausted = False
        self._current: Occurrence | None = None
        self._from_us: float = inf
        self._until_us: float = -inf

    def at(self, time_us: int) -> Occurrence | None:
        """Return the occurrence at a time."""
        if not self._from_us <= time_us < self._until_us:
            self._look(time_us)
        return self._current

    def from_(self, time_us: int, count: int) -> list[Occurrence]:
        """Return the occurrence at a time, and those after it; ``count`` at most."""
        found = [now] if (now := self.at(time_us)) is not None else []
        first = self._extended(time_us)
        while len(found) < count and len(self._begins) < first + count and not self._exhausted:
            self._more()
        return found + [self._occurrence(begin_us) for begin_us in self._begins[first : first + count - len(found)]]

    def _look(self, time_us: int) -> None:
        after = self._extended(time_us)
        next_us = self._begins[after] if after < len(self._begins) else inf
        self._current, self._from_us, self._until_us = None, -inf, next_us
        if after:
            # All last equally long, so if any is on, the one that began last is.
            last = self._occurrence(self._begins[after - 1])
            if time_us < last.end_us:
                self._current, self._from_us, self._until_us = last, last.begin_us, min(last.end_us, next_us)
            else:
                self._from_us = last.end_us

    def _extended(self, time_us: int) -> int:
        """Find occurrences to some time beyond one; return where those that begin after it are."""
        while not self._exhausted and (not self._begins or self._begins[-1] <= time_us + _DAY_US):
            self._more()
        return bisect_right(self._begins, time_us)

    def _more(self) -> None:
        begin_us = next(self._to_come, None)
        if begin_us is None:
            self._exhausted = True
        else:
            insort(self._begins, begin_us)

    def _occurrence(self, begin_us: int) -> Occurrence:
        return Occurrence(self.window, begin_us, begin_us + self._duration_us)


def check_rule(rule: str) -> None:
    """Return if a text is a rule that may be used.

    Raises:
        ValueError: It has parts that RFC 5545 doesn't know, or that could make it cost without bound.
    """
    if len(rule) > _RULE_CHARS:
        raise ValueError(f"rule has {len(rule)} characters; expected at most {_RULE_CHARS}")
    parts = [part.partition("=") for part in rule.split(";")]
    names = [name for name, _, _ in parts]
    if unknown := next((name for name in names if name not in _PARTS), None):
        instead = "it is what start says" if unknown.startswith("DTSTART") else f"expected {', '.join(sorted(_PARTS))}"
        raise ValueError(f"rule is {rule!r}, with {unknown!r}; {instead}")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"rule is {rule!r}, with {twice} twice")
    if "" in names or not all(_VALUE.fullmatch(value) for _, _, value in parts):
        raise ValueError(f"rule is {rule!r}; expected a rule of RFC 5545, such as FREQ=WEEKLY;BYDAY=SA")
    given = {name: value for name, _, value in parts}
    if given.get("FREQ") not in _FREQUENCIES:
        raise ValueError(
            f"rule is {rule!r}; expected FREQ as one of {', '.join(_FREQUENCIES)}; several times a day is, for "
            "instance, FREQ=DAILY;BYHOUR=0,6,12"
        )
    for name in ("INTERVAL", "COUNT"):
        if not _NUMBER.fullmatch(given.get(name, "1")):
            raise ValueError(f"rule is {rule!r}; expected {name} as a whole number of at least 1")
    until = given.get("UNTIL")
    if until is not None and not re.fullmatch(r"\d{8}T\d{6}Z", until):
        raise ValueError(f"rule is {rule!r}; expected UNTIL in UTC, such as UNTIL=20261231T230000Z")


def _check_occurrences(window: MaintenanceWindow) -> None:
    """Return if a window's rule has occurrences, and not too many.

    Raises:
        ValueError: It never matches, or too often, or isn't one that dateutil takes.
    """
    rule = window.rule or ""
    bare = ";".join(part for part in rule.split(";") if not part.startswith(("UNTIL=", "COUNT=")))
    naive = window.local_start.replace(tzinfo=None)
    try:
        ever = next(_parsed(bare, naive.replace(year=naive.year + _TO_THE_END)), None) is not None
        first: list[int] = []
        for begin_us in _begins(window) if ever else ():
            first.append(begin_us)
            if begin_us > first[0] + 2 * _DAY_US:
                break
            if len(first) > _MOST_A_DAY and begin_us - first[-1 - _MOST_A_DAY] < _DAY_US:
                raise ValueError(f"comes more than {_MOST_A_DAY} times a day")
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:
        raise ValueError(f"rule is {rule!r}, which can't be used: {error}") from None
    if not first:
        raise ValueError(
            f"rule is {rule!r}, which never comes from {window.start} on; expected one that does before {_YEARS.stop}"
        )


def _begins(window: MaintenanceWindow) -> Iterator[int]:
    """Yield when a window begins, microseconds since the epoch: in local time one after the other."""
    start = window.local_start
    for begin in [start] if window.rule is None else _parsed(window.rule, start):
        if begin >= _LAST:
            return
        # Of a local time that comes twice, the first; one that the clocks leave out is as much later.
        yield (begin - _EPOCH) // _MICROSECOND


def _parsed(rule: str, start: datetime) -> Iterator[datetime]:
    from dateutil.rrule import rrulestr

    return iter(rrulestr(rule, dtstart=start, forceset=False))
