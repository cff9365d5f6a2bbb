"""Tables of numbers as text: which line holds what, how columns are parted, and how numbers are written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import RecordingError
from schemas.frame import MAX_RATE_HZ, MIN_RATE_HZ

HEAD_BYTES: Final = 1 << 16
_HEAD_LINES: Final = 64
_MISSING: Final = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "--"})
_COMMENT: Final = ("#", "%", "//")
_RATE: Final = re.compile(
    r"(?:sampl\w*[\s_]*(?:rate|freq\w*)|abtastrate|\bfs|\bsr|\brate|\bfrequency)(?:[\s_]*[(\[]?(?P<before>k?hz)[)\]]?)?"
    r"\"?\s*[:=,;\t]?\s*\"?(?P<value>\S+?)\"?\s*[(\[]?(?P<after>k?hz|sps)?[)\]]?[\s,;]*",
    re.IGNORECASE,
)
_CALENDAR: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:?\d\d:?\d\d", re.IGNORECASE)
_UTC: Final = re.compile(r"\s*(?:Z|UTC)$")
_DAY_TIME: Final = re.compile(r"(\d{1,2}):(\d\d):(\d\d(?:[.,]\d{1,9})?)")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is written.

    Attributes:
        delimiter: Between columns; None for blanks.
        comma: Whether a comma is the decimal mark.
        skipped: Lines before the first row.
        names: Of the columns; ``1``, ``2`` … where there are none.
        kinds: Of each column: ``number``, ``time`` (of a calendar or a clock) or ``text``.
        rate_hz: What a line before the rows states, or None.
        rate_problem: Why what such a line states can't be taken; '' where nothing is wrong.
    """

    delimiter: str | None
    comma: bool
    skipped: int
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    rate_hz: float | None
    rate_problem: str = ""


def decoded(data: bytes) -> str:
    """Return the text of a table in UTF-8, UTF-16 or Latin-1.

    Raises:
        RecordingError: It is no text.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    if data[1:64:2].count(0) > 16:
        return data.decode("utf-16-le", errors="replace")
    if b"\0" in data:
        raise RecordingError("no table of numbers (it holds zero bytes)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.end >= len(data) - 3 and len(data) >= HEAD_BYTES:  # the head of a file ends within a letter
            return data[: error.start].decode("utf-8-sig")
        return data.decode("cp1252", errors="replace")


def layout_of(text: str) -> Layout:
    """Return how a table is written, by its first lines.

    Raises:
        RecordingError: No rows of numbers are found.
    """
    lines = _head_lines(text)
    best: tuple[bool, int, int, Layout] | None = None
    for delimiter, comma in _ways(lines):
        found = _laid_out(lines, delimiter, comma)
        if found is not None:
            numbers = found.kinds.count("number") + found.kinds.count("time")
            # A line of names that has another number of columns speaks against a way.
            named = found.skipped == 0 or found.names != tuple(str(at + 1) for at in range(len(found.names)))
            score = (named, numbers - found.kinds.count("text"), -found.skipped)
            if best is None or score > best[:3]:
                best = (*score, found)
    if best is None:
        raise RecordingError(f"no table of numbers ({_first(lines)!r} …)")
    return best[3]


def _first(lines: Sequence[str]) -> str:
    return next((line for line in lines if line.strip()), "")[:60]


def _head_lines(text: str) -> list[str]:
    lines = []
    for number, line in enumerate(io.StringIO(text[:HEAD_BYTES])):
        if number == _HEAD_LINES:
            break
        lines.append(line.rstrip("\r\n"))
    # The last one may have been cut off.
    return lines[:-1] if len(lines) > 2 else lines


def _ways(lines: Sequence[str]) -> Iterator[tuple[str | None, bool]]:
    """Yield the ways in which numbers may be parted and written, likely ones first."""
    joined = "\n".join(lines)
    for mark in (";", "\t", "|", None):
        if mark is None or mark in joined:
            yield mark, False
            yield mark, True
    yield ",", False
    yield ",", True


def split(line: str, delimiter: str | None) -> list[str]:
    """Return the fields of a line, without quotation marks and blanks around them."""
    if delimiter is None:
        fields = line.split()
    elif '"' in line:
        fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    else:
        fields = line.split(delimiter)
    return [field.strip().strip("\"'").strip() for field in fields]


def number(field: str, comma: bool) -> float | None:
    """Return the number that a field holds; None for none."""
    if comma:
        if "." in field:
            return None
        field = field.replace(",", ".")
    if "_" in field:
        return None
    try:
        return float(field)
    except ValueError:
        return None


def _kind(field: str, comma: bool) -> str:
    if field.lower() in _MISSING:
        return "missing"
    if number(field, comma) is not None:
        return "number"
    return "text" if _clock_s(field) is None else "time"


def _laid_out(lines: Sequence[str], delimiter: str | None, comma: bool) -> Layout | None:
    rows = [split(line, delimiter) if line.strip() else [] for line in lines]
    kinds = [[_kind(field, comma) for field in row] for row in rows]
    start = next((at for at in range(len(rows)) if _begins(rows, kinds, lines, at)), None)
    if start is None:
        return None
    width = len(rows[start])
    table = [own for own in kinds[start:] if len(own) == width]
    columns = []
    for index in range(width):
        found = {own[index] for own in table} - {"missing"}
        columns.append(found.pop() if len(found) == 1 else "number" if not found else "text")
    if "number" not in columns:
        return None
    names = _names(lines, start, width, delimiter)
    if width > 1 and names[-1] == str(width) and all(own[-1] == "missing" for own in table):
        # Each line ends with a delimiter.
        names, columns = _names(lines, start, width - 1, delimiter), columns[:-1]
    try:
        rate_hz, problem = next((rate for line in lines[:start] if (rate := rate_in(line)) is not None), None), ""
    except RecordingError as error:
        rate_hz, problem = None, str(error)
    return Layout(delimiter, comma, start, tuple(names), tuple(columns), rate_hz, problem)


def _begins(rows: list[list[str]], kinds: list[list[str]], lines: Sequence[str], at: int) -> bool:
    """Whether rows of numbers begin here: the next lines have as many fields, and numbers where this one has."""
    if not rows[at] or lines[at].lstrip().startswith(_COMMENT) or "number" not in kinds[at]:
        return False
    following = [own for own in kinds[at + 1 : at + 4] if own]
    if at + 1 < len(rows) and not following:
        return False
    return all(_is_alike(kinds[at], own) for own in following)


def _is_alike(first: Sequence[str], other: Sequence[str]) -> bool:
    numbers = [own for kind, own in zip(first, other, strict=False) if kind == "number"]
    return len(first) == len(other) and all(kind in ("number", "missing") for kind in numbers)


def _names(lines: Sequence[str], start: int, width: int, delimiter: str | None) -> list[str]:
    """Return the columns' names: of the first of the lines right before the rows that have as many fields."""
    found: list[str] = []
    for at in range(start - 1, -1, -1):
        line = lines[at].lstrip()
        bare = line.lstrip("#%/ ") if line.startswith(_COMMENT) else line
        fields = split(bare, delimiter)
        if fields and fields[-1] == "" and len(fields) == width + 1:
            fields.pop()
        if len(fields) != width or _states_rate(line):
            break
        found = fields
        if line.startswith(_COMMENT):
            break
    plain = [name or f"{index}" for index, name in enumerate(found or [""] * width, start=1)]
    return [name if plain.count(name) == 1 else f"{name}.{index}" for index, name in enumerate(plain, start=1)]


def rate_in(line: str) -> float | None:
    """Return the sample rate in Hz that a line states, such as ``# Sample rate: 1.6 kHz``; None for none.

    Raises:
        RecordingError: It names one, and holds no number or one that can be read in two ways.
    """
    bare = _bare(line)
    match = _RATE.fullmatch(bare)
    if match is None:
        return None
    value = stated_rate(match["value"], 1000 if "k" in ((match["before"] or match["after"] or "").lower()) else 1)
    if value is None and line.strip().startswith(_COMMENT) and re.match(r"sample_rate_hz\s*[:=]", bare):
        raise RecordingError(f"sample_rate_hz is {match['value']!r}; expected a number of samples per second")
    return value


def stated_rate(stated: str, factor: int = 1) -> float | None:
    """Return a stated sample rate in Hz; None where it is no number.

    A comma or a point before exactly three digits may part thousands: of the two readings, the one counts that can be a
    rate.

    Args:
        stated: The number, such as ``25600``, ``25,6`` or ``25,600``.
        factor: In Hz, what it is in.

    Raises:
        RecordingError: Both readings can be a rate.
    """
    marks = re.sub(r"[^.,]", "", stated)
    if len(marks) > 1:
        grouped = re.fullmatch(r"\d{1,3}(?:(?P<mark>[.,])\d{3})(?:(?P=mark)\d{3})*(?:(?!(?P=mark))[.,](\d+))?", stated)
        if grouped is None:
            return None
        whole, fraction = (stated[: -len(grouped[2]) - 1], grouped[2]) if grouped[2] else (stated, "0")
        return float(f"{re.sub('[.,]', '', whole)}.{fraction}") * factor
    value = number(stated, "," in stated)
    if value is None or not re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", stated):
        return None if value is None else value * factor
    fits = [hz for hz in (value * factor, value * factor * 1000) if MIN_RATE_HZ <= hz <= MAX_RATE_HZ]
    if len(fits) == 2:
        raise RecordingError(
            f"sample rate is stated as {stated!r}, which may be {fits[0]:g} or {fits[1]:g} Hz; "
            f"write it without the mark, such as {fits[0]:g}"
        )
    return fits[0] if fits else value * factor


def _states_rate(line: str) -> bool:
    try:
        return rate_in(line) is not None
    except RecordingError:
        return True


def _bare(line: str) -> str:
    return line.strip().lstrip("#%/ ").strip()


def columns_of(text: str, layout: Layout) -> tuple[dict[str, NDArray[np.float64] | None], tuple[tuple[str, str], ...]]:
    """Return the columns by name, float64 [n], None for text; and remarks.

    Missing numbers are NaN. Times of a calendar or a clock are seconds since the first one. A last line that was cut
    off is left out.

    Raises:
        RecordingError: A line has too few or too many fields, or holds something else than a number.
    """
    if set(layout.kinds) == {"number"} and (fast := _fast(text, layout)) is not None:
        return dict(zip(layout.names, fast, strict=True)), ()
    rows, remarks = _rows(text, layout)
    columns: dict[str, NDArray[np.float64] | None] = {}
    for index, (name, kind) in enumerate(zip(layout.names, layout.kinds, strict=True)):
        if kind == "text":
            columns[name] = None
        else:
            of = _number_of if kind == "number" else _seconds_of
            values = np.array([of(row[index], layout.comma, name, line) for line, row in rows])
            columns[name] = values - values[0] if kind == "time" else values
    return columns, remarks


def _fast(text: str, layout: Layout) -> NDArray[np.float64] | None:
    """Return the table, float64 [column, n], if it is as plain as its head; None if it isn't."""
    if '"' in text or "_" in text[-HEAD_BYTES:]:
        return None
    body = text.replace(",", ".") if layout.comma else text
    try:
        table = np.loadtxt(
            io.StringIO(body), delimiter=layout.delimiter, skiprows=layout.skipped, ndmin=2, comments="#"
        )
    except ValueError:
        return None
    return None if table.shape[1] != len(layout.names) else np.ascontiguousarray(table.T)


def _rows(text: str, layout: Layout) -> tuple[list[tuple[int, list[str]]], tuple[tuple[str, str], ...]]:
    """Return line number and fields of each row."""
    rows: list[tuple[int, list[str]]] = []
    width = len(layout.names)
    lines = text.splitlines()
    last = max((at for at, line in enumerate(lines) if line.strip()), default=0)
    for at in range(layout.skipped, len(lines)):
        line = lines[at]
        if not line.strip() or line.lstrip().startswith(_COMMENT):
            continue
        fields = split(line, layout.delimiter)
        if len(fields) == width + 1 and fields[-1] == "":
            fields.pop()
        if len(fields) != width:
            if at == last and len(fields) < width and rows:
                return rows, (("the last line is cut off and left out", f"{len(fields)} of {width} columns"),)
            raise RecordingError(f"line {at + 1} has {len(fields)} columns; expected {width}")
        rows.append((at + 1, fields))
    return rows, ()


def _number_of(field: str, comma: bool, name: str, line: int) -> float:
    value = number(field, comma)
    if value is not None:
        return value
    if field.lower() in _MISSING:
        return float("nan")
    raise RecordingError(f"line {line}: column {name!r} is {field[:40]!r}; expected a number")


def _seconds_of(field: str, comma: bool, name: str, line: int) -> float:  # noqa: ARG001 - as _number_of
    seconds = _clock_s(field)
    if seconds is None:
        raise RecordingError(f"line {line}: column {name!r} is {field[:40]!r}; expected a time as in the lines before")
    return seconds


def _clock_s(field: str) -> float | None:
    """Return a time of a calendar (ISO 8601, in UTC where it states no offset) or a clock in seconds; None for none."""
    if match := _DAY_TIME.fullmatch(field):
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", "."))
    if not _CALENDAR.match(field):
        return None
    try:
        moment = datetime.fromisoformat(_UTC.sub("Z", field.upper()))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
