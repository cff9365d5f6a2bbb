"""When a recording began, as its name says.

Only what can be read in one way is a time: a date with a year of four digits, and a time of day to the second.

| form | example |
|---|---|
| ISO 8601, basic or extended | ``20260131T120000Z``, ``2026-01-31T12:00:00.250+01:00`` |
| date and time with a separator between | ``20260131_120000``, ``2026-01-31_12-00-00``, ``2026.01.31 12.00.00`` |
| milliseconds or microseconds after ``.``, ``,`` or ``_`` | ``20260131_120000_250``, ``20260131_120000_250000`` |
| 12-hour clock | ``2026-01-31 01.00.00 PM`` |
| day or month first, one of them above 12 | ``31.01.2026 12.00.00``, ``01-31-2026_12-00-00`` |
| UTC | ``20260131_120000Z``, ``20260131_120000_Z``, ``20260131_120000_UTC`` |
| 14 digits, if there is no time in another form | ``20260131120000`` |
| seconds, ms or µs since 1970, if there is no other time | ``1769861000``, ``normal_1769861000123`` |

A number counts as such only where it is the whole name, labels aside, or stands after t, ts, time, timestamp, epoch or
unix: others are serial numbers.

An offset is at most 14 hours, with minutes 00, 30 or 45: ``+01:00``, ``+0100``; ``-0500`` only where no ``-`` separates
the time of day, and after a ``T`` or colons: elsewhere it may be a counter. A time without one is in the zone that the
user names. An hour that comes twice there, or never, is no time; neither are two different times in one name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from recordings.name_words import LABEL_OF_WORD, words_of
from schemas.errors import SettingsError

_YEARS: Final = range(1970, 2100)
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CLOCK = (
    r"(?P<hour>\d\d)(?P<sep>[-:._]?)(?P<minute>\d\d)(?P=sep)(?P<second>\d\d)|"
    r"(?P<hour_>\d\d)h(?P<minute_>\d\d)m(?P<second_>\d\d)s?"
)
_DATE = r"(?P<date>\d{4}(?P<dash>[-._]?)\d\d(?P=dash)\d\d|\d\d(?P<dash_>[-._]?)\d\d(?P=dash_)\d{4})"
# Both may follow at once without a separator: those 14 digits may as well be a serial number.
_DATE_ALONE = re.compile(
    rf"(?P<year>\d{{4}})(?:[-._](?P<month>\d\d))?|{_DATE}(?:[Tt_ .-]?(?P<clock>\d\d(?:[-:._h]?\d\d)+[\d.,mshZz]*))?"
)
_CLOCK_ALONE = re.compile(r"(?:[01]\d|2[0-3])(?:[-:.][0-5]\d){1,2}|(?:[01]\d|2[0-3])h(?:[0-5]\dm?)?")
_DATED = re.compile(rf"(?<!\d){_DATE}(?P<between>[Tt_ .-]|)(?:{_CLOCK})(?!\d)")
_FRACTION = re.compile(r"[.,](\d{1,9})(?!\d)|_(\d{6}|\d{3})(?!\d)")
_HALF = re.compile(r"[ _-]?([AaPp])\.?[Mm]\.?(?![A-Za-z\d])")
_UTC = re.compile(r"(?:[Zz]|[ _-]Z)(?![A-Za-z\d])|[ _-]?(?:UTC|GMT|utc|gmt)(?![A-Za-z\d+]|-\d)")
_OFFSET = re.compile(r"(?:[ _-]?(?:UTC|GMT))?(?P<sign>[+-])(?P<hours>\d\d)(?P<colon>[:.-]?)(?P<minutes>\d\d)(?!\d)")
# What these mean depends on where.
_ZONE = re.compile(r"[ _-]?(CES?T|EES?T|WES?T|MES?Z|[CEMP][DS]T|[BIJK]ST|AE[DS]T)(?![A-Za-z])")
_EPOCH = re.compile(
    r"(?P<said>(?<![^\W\d_])(?:t|ts|time|timestamp|epoch|unix)[_ .=-]?)?"
    r"(?<!\d)(?P<number>1\d{9}(?:\d{3}|\d{6})?)(?!\d)",
    re.IGNORECASE,
)
_EPOCH_UNIT_US: Final = {10: 1_000_000, 13: 1_000, 16: 1}
_MINUTES: Final = (0, 30, 45)
_MOST: Final = timedelta(hours=14)


NONE: Final = "its name holds none"


@dataclass(frozen=True, slots=True)
class NoTimestamp:
    """A name holds no time, or none that can be read in one way only; ``reason`` says what there is."""

    reason: str


class _Ambiguous(Exception):
    """A time that can be read in several ways, or in none."""


def time_in(text: str, zone: tzinfo) -> int | NoTimestamp:
    """Return the time that a text holds, in microseconds since the epoch, or why there is none.

    Args:
        text: Such as the name of a file, without its suffix.
        zone: What a time without an offset is told in.
    """
    found, ambiguous = {}, []
    matches = list(_DATED.finditer(text))
    for apart in (True, False):
        for match in matches:
            if bool(match["between"] or match["dash"] or match["dash_"] or match["sep"] or match["hour_"]) is apart:
                try:
                    found[_dated(text, match, zone)] = match[0]
                except _Ambiguous as error:
                    ambiguous += [str(error)] if str(error) else []
        if ambiguous:
            return NoTimestamp(ambiguous[0])
        if found:
            break
    if not found:
        numbers = [match["number"] for match in _epochs(text)]
        found = {int(number) * _EPOCH_UNIT_US[len(number)]: number for number in numbers}
    if len(found) > 1:
        return NoTimestamp(f"two times, {' and '.join(map(repr, list(found.values())[:2]))}")
    return next(iter(found)) if found else NoTimestamp(NONE)


def is_date(text: str) -> bool:
    """Return whether a name is a date or a time and nothing else: also ``2024-05`` and ``2024``."""
    if whole := _DATE_ALONE.fullmatch(text):
        if whole["year"]:
            return int(whole["year"]) in _YEARS and 1 <= int(whole["month"] or 1) <= 12
        dash = whole["dash"] if whole["dash"] is not None else whole["dash_"]
        return any(_days(whole["date"], dash)) and (whole["clock"] is None or int(whole["clock"][:2]) < 24)
    return bool(_CLOCK_ALONE.fullmatch(text)) or any(match[0] == text for match in _epochs(text))


def before_time(text: str, zone: tzinfo) -> str | None:
    """Return what stands before the time that a name holds, None if it holds none."""
    if isinstance(time_in(text, zone), NoTimestamp):
        return None
    return text[: next(one.start() for pattern in (_DATED, _EPOCH) for one in pattern.finditer(text))]


def _epochs(text: str) -> list[re.Match[str]]:
    """Return the numbers that count as seconds and their like since 1970."""
    return [
        match
        for match in _EPOCH.finditer(text)
        if match["said"] or all(word in LABEL_OF_WORD for word in words_of(text[: match.start()] + text[match.end() :]))
    ]


def _dated(text: str, match: re.Match[str], zone: tzinfo) -> int:
    """Return the time of a match and what follows it.

    Raises:
        _Ambiguous: It can be read in several ways; without a message: digits that are no time at all.
    """
    days = set(_days(match["date"], match["dash"] if match["dash"] is not None else match["dash_"]))
    clock = [int(match[name] or match[f"{name}_"]) for name in ("hour", "minute", "second")]
    if not days or clock[0] > 23 or clock[1] > 59 or clock[2] > 59:
        raise _Ambiguous
    if len(days) > 1:
        raise _Ambiguous(f"day and month of {match['date']!r} can't be told apart")
    at = match.end()
    fraction = ""
    if after := _FRACTION.match(text, at):
        fraction, at = after[1] or after[2], after.end()
    if after := _HALF.match(text, at):
        clock[0], at = _of_12_hours(clock[0], after[1].upper(), match[0] + after[0]), after.end()
    own_zone = _zone_after(text, at, match)
    moment = datetime(*days.pop(), *clock, microsecond=int(fraction[:6].ljust(6, "0")))  # type: ignore[misc, arg-type]
    return _in_zone(moment, own_zone or zone, match[0])


def _days(text: str, dash: str) -> Iterator[tuple[int, int, int]]:
    """Yield the dates that eight digits, or three numbers, may be."""
    digits = text.replace(dash, "") if dash else text
    readings = []
    if not dash or text[4] == dash:
        readings.append((digits[:4], digits[4:6], digits[6:]))
    if not dash or text[2] == dash:
        readings += [(digits[4:], digits[2:4], digits[:2]), (digits[4:], digits[:2], digits[2:4])]
    for reading in readings:
        year, month, day = map(int, reading)
        try:
            datetime(year, month, day)
        except ValueError:
            continue
        if year in _YEARS:
            yield year, month, day


def _of_12_hours(hour: int, half: str, shown: str) -> int:
    if hour > 12 and half == "P":
        return hour
    if hour > 12 or (hour == 0 and half == "P"):
        raise _Ambiguous(f"{shown!r} is no time of day")
    return hour % 12 + (12 if half == "P" else 0)


def _zone_after(text: str, at: int, match: re.Match[str]) -> tzinfo | None:
    """Return the offset that stands after a time, or None.

    Raises:
        _Ambiguous: There is something that may be one.
    """
    if _UTC.match(text, at):
        return UTC
    rest, iso = text[at:], match["between"] in {"T", "t"} or match["sep"] == ":"
    if after := _OFFSET.match(text, at):
        length = timedelta(hours=int(after["hours"]), minutes=int(after["minutes"]))
        valid = int(after["minutes"]) in _MINUTES and length <= _MOST
        named = after[0][0] not in "+-"
        if after["sign"] == "-" and not named and after["colon"] != ":":
            # -0001 counts; -0500 may do either where nothing says that this is ISO 8601.
            if not valid or (after["hours"] == "00" and not iso):
                return None
            if not iso or after["colon"]:
                raise _Ambiguous(f"{after[0]!r} after {match[0]!r} may be an offset or a counter")
        if not valid:
            raise _Ambiguous(f"{after[0]!r} after {match[0]!r} is no offset from UTC")
        return timezone(-length if after["sign"] == "-" else length)
    if re.match(r"\+|[ _-]?(?:UTC|GMT|utc|gmt)", rest) or (iso and re.match(r"-\d\d(?!\d)", rest)):
        raise _Ambiguous(f"{rest[:8]!r} after {match[0]!r} is no offset from UTC such as +01:00")
    if after := _ZONE.match(text, at):
        raise _Ambiguous(f"{after[1]!r} after {match[0]!r} is no offset from UTC such as +01:00")
    return None


def _in_zone(moment: datetime, zone: tzinfo, shown: str) -> int:
    """Return a local time in microseconds since the epoch.

    Raises:
        _Ambiguous: It comes twice in the zone, or never.
    """
    both = [moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    earlier, later = ((one - _ZERO) // _MICROSECOND for one in both)
    if earlier != later:
        # Where clocks are set forward, neither reading comes back as it was written.
        back = both[0].astimezone(UTC).astimezone(zone).replace(tzinfo=None)
        times = "comes twice" if back == moment else "does not come"
        raise _Ambiguous(f"{shown!r} {times} in {zone}, whose clocks are set then; state it with an offset")
    return earlier


_DIRECTIVES: Final[dict[str, str]] = {
    "Y": r"\d{4}", "y": r"\d\d", "m": r"\d{1,2}", "d": r"\d{1,2}", "j": r"\d{1,3}", "H": r"\d{1,2}", "I": r"\d{1,2}",
    "M": r"\d{1,2}", "S": r"\d{1,2}", "f": r"\d{1,6}", "p": r"[AaPp][Mm]", "b": r"[^\W\d_]+", "B": r"[^\W\d_]+",
    "z": r"(?:[Zz]|[+-]\d\d:?\d\d)", "%": "%",
}  # fmt: skip


def time_format(form: str, shown: str) -> tuple[str, Callable[[str, tzinfo], int | NoTimestamp]]:
    """Return what a form of ``strftime`` matches, as a regular expression, and a reader of what it matched.

    Args:
        form: Such as ``%d.%m.%Y_%H%M%S``.
        shown: What a message calls it.

    Raises:
        SettingsError: A directive isn't known, or the form lacks date or time of day.
    """
    parts = re.split(r"%(.?)", form)
    for directive in parts[1::2]:
        if directive not in _DIRECTIVES:
            known = " ".join(f"%{one}" for one in _DIRECTIVES)
            raise SettingsError(f"{shown}: '%{directive}' can't stand in a time; expected {known}")
    given = set(parts[1::2])
    year, day = bool(given & {"Y", "y"}), "j" in given or ("d" in given and bool(given & {"m", "b", "B"}))
    hour = "H" in given or {"I", "p"} <= given
    if not (year and day and hour and "M" in given) or len(given) < len(parts[1::2]):
        raise SettingsError(
            f"{shown}: {form!r} must state year, day, hour and minute, each once, such as %Y%m%d_%H%M%S or "
            "%d.%m.%Y %I.%M.%S %p"
        )
    pattern = "".join(_DIRECTIVES[part] if odd % 2 else re.escape(part) for odd, part in enumerate(parts))

    def read(text: str, zone: tzinfo) -> int | NoTimestamp:
        try:
            moment = datetime.strptime(text, form)
            if moment.year not in _YEARS:
                return NoTimestamp(f"the year of {text!r} is {moment.year}")
            own = moment.tzinfo or zone
            return _in_zone(moment.replace(tzinfo=None), own, text)
        except (ValueError, _Ambiguous) as error:
            return NoTimestamp(str(error))

    return pattern, read
