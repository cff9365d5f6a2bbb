"""When a recording began, by its name or by a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from schemas.frame import MACHINE_ID, MAX_SOURCE_CHARS
from whirr.errors import RecordingError

# A date, and a time of day to the second at least: 2026-01-31T12:00:00.250Z, 20260131_120000, 2026-01-31 12.00.00+0100.
_DATED = re.compile(
    r"(?<!\d)(?P<year>\d{4})[-._]?(?P<month>\d\d)[-._]?(?P<day>\d\d)[T_ .-]?"
    r"(?P<hour>\d\d)[-:._h]?(?P<minute>\d\d)[-:._m]?(?P<second>\d\d)"
    r"(?:[.,](?P<fraction>\d{1,6}))?(?P<offset>Z|[+-]\d\d[:-]?\d\d(?!\d))?(?!\d)"
)
# Seconds, milliseconds or microseconds since the epoch, from 2001 to 2033.
_EPOCH = re.compile(r"(?<!\d)1\d{9}(?:\d{3}|\d{6})?(?!\d)")
_EPOCH_UNIT_US = {10: 1_000_000, 13: 1_000, 16: 1}
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TimeRow:
    """What a CSV file of times says of a recording; machine and source are None where it doesn't say."""

    start_us: int
    machine: str | None
    source: str | None


def time_in(text: str, zone: tzinfo) -> int | None:
    """Return the first time that a text holds, in microseconds since the epoch, or None.

    Args:
        text: Such as the name of a file.
        zone: What a time without an offset is told in.
    """
    for match in _DATED.finditer(text):
        moment = _moment(match, zone)
        if moment is not None:
            return (moment - _ZERO) // _MICROSECOND
    epoch = _EPOCH.search(text)
    return None if epoch is None else int(epoch[0]) * _EPOCH_UNIT_US[len(epoch[0])]


def read_times(file: Path, folder: Path, zone: tzinfo) -> dict[str, TimeRow]:
    """Return the rows of a CSV file of times, by path relative to the folder.

    The first line names the columns: ``path`` and ``time`` (start of the recording), and if wanted ``machine`` and
    ``source``; others are ignored, so that one file can hold times and labels.

    Raises:
        RecordingError: The file can't be read, or says something that can't be; the message names file and line.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            return dict(_rows(lines, file, folder, zone))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"times {str(file)!r} can't be read: {error}") from None


def _rows(lines: Iterator[str], file: Path, folder: Path, zone: tzinfo) -> Iterator[tuple[str, TimeRow]]:
    table = csv.DictReader(lines, strict=True)
    missing = {"path", "time"} - set(table.fieldnames or ())
    if missing:
        found = ", ".join(table.fieldnames or ()) or "nothing"
        raise RecordingError(f"times {str(file)!r}: columns are {found}; expected path,time[,machine][,source]")
    for fields in table:
        where = f"times {str(file)!r}, line {table.line_num}"
        path = Path((fields["path"] or "").replace("\\", "/"))
        if path.is_absolute() and path.is_relative_to(folder.absolute()):
            path = path.relative_to(folder.absolute())
        start_us = time_in(fields["time"] or "", zone)
        if start_us is None:
            raise RecordingError(f"{where}: time is {fields['time']!r}; expected such as 2026-01-31T12:00:00Z")
        yield path.as_posix(), TimeRow(start_us, _machine(fields, where), _source(fields, where))


def _machine(fields: dict[str, str], where: str) -> str | None:
    machine = fields.get("machine") or None
    if machine is not None and not MACHINE_ID.fullmatch(machine):
        raise RecordingError(f"{where}: machine is {machine!r}; expected {MACHINE_ID.pattern}")
    return machine


def _source(fields: dict[str, str], where: str) -> str | None:
    source = fields.get("source") or None
    if source is not None and (len(source) > MAX_SOURCE_CHARS or not source.isprintable()):
        raise RecordingError(f"{where}: source is {source[:64]!r}; expected {MAX_SOURCE_CHARS} printable characters")
    return source


def _moment(match: re.Match[str], zone: tzinfo) -> datetime | None:
    numbers = (int(match[name]) for name in ("year", "month", "day", "hour", "minute", "second"))
    try:
        moment = datetime(*numbers, microsecond=int((match["fraction"] or "").ljust(6, "0")), tzinfo=zone)  # type: ignore[misc, arg-type]
    except ValueError:  # digits that are no date
        return None
    if not 1970 <= moment.year < 2100:
        return None
    offset = match["offset"]
    if offset is None:
        return moment
    if offset == "Z":
        return moment.replace(tzinfo=UTC)
    sign = -1 if offset[0] == "-" else 1
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
    return moment.replace(tzinfo=UTC) - sign * ahead
