"""Lists of recordings: CSV files that say whose recordings are, when they began, and how they are labelled.

The first line names the columns: ``path`` and whatever else is known of ``label``, ``onset_s``, ``fault``, ``time``,
``machine``, ``source``, ``rpm`` and ``load``, in capitals or not; other columns are ignored, so that one file can hold
everything.

A list of labels may name times of machines in place of recordings: see :mod:`whirr.label_spans`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, tzinfo
from math import inf
from pathlib import Path, PurePosixPath
from typing import IO, Final, Literal

from recordings.name_times import NoTimestamp, time_in
from recordings.name_words import LABEL_OF_WORD, Label
from schemas.condition import UNKNOWN, Condition, parse_condition
from schemas.errors import RecordingError
from schemas.frame import MACHINE_ID, MAX_SOURCE_CHARS
from schemas.verdict import MAX_NAME_CHARS
from whirr.label_spans import COLUMNS, LabelSpan

RECORDED: Final = "recordings.csv"  # what `whirr record` leaves in a folder: times, machines, sensors and labels
ARCHIVE_INDEX: Final = ".archive/index"  # of an archive that is a folder: CSV files of the same columns and more
LABELS: Final[Mapping[str, Label]] = {**LABEL_OF_WORD, "0": "normal", "1": "anomaly"}
_COLUMNS: Final = ("path", "label", "onset_s", "fault", "time", "machine", "source", *Condition._fields)
_LABELLING: Final = ("false_alarm", "confirmed", "repaired", "new_normal")
_IDENTITY: Final = re.compile("[0-9a-f]{32}")
Needed = Literal["label", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a list; None for what it doesn't say.

    Attributes:
        name: The recording's path relative to the folder, with forward slashes.
        machine, source: Whose it is, and which sensor's.
        label: What it is labelled.
        onset_s: Seconds into the recording at which the fault begins.
        fault: What it is.
        start_us: When it began, microseconds since the epoch.
        condition: How the machine ran.
        line: Where it stands in the file; the header is line 1.
    """

    name: str
    machine: str | None = None
    source: str | None = None
    label: Label | None = None
    onset_s: float | None = None
    fault: str | None = None
    start_us: int | None = None
    condition: Condition = UNKNOWN
    line: int = 0


def read_list(file: Path, folder: Path, needed: Needed, zone: tzinfo = UTC) -> dict[str, Row]:
    """Return the rows of a CSV file by the recordings' names, in the order of the file.

    Args:
        file: CSV with commas, UTF-8.
        folder: What relative paths are relative to; absolute ones must lie in it.
        needed: The column that every row must fill: ``label`` or ``time``. The other one is not looked at.
        zone: Of times without an offset.

    Raises:
        RecordingError: The file can't be read, or says something that can't be; the message names file and line.
    """
    what = f"{needed}s {str(file)!r}"
    rows: dict[str, Row] = {}
    with _open(file, what) as lines:
        for row in _Reader(what, folder, needed, zone).rows(lines):
            if row.name in rows:
                before = f"has a {needed} already, on line {rows[row.name].line}"
                raise RecordingError(f"{what}, line {row.line}: {row.name!r} {before}")
            rows[row.name] = row
    if not rows:
        raise RecordingError(f"{what} hold no row; expected one for each recording")
    return rows


def read_recorded(folder: Path, zone: tzinfo = UTC) -> tuple[dict[str, Row], Path | None, bool]:
    """Return what `whirr record` wrote of a folder's recordings: its list, and the index of an archive.

    Returns:
        The rows by name; where they came from (None: there are none); whether they tell of frames.

    Raises:
        RecordingError: As of :func:`read_list`.
    """
    recorded = folder / RECORDED
    columns = columns_of(recorded)
    rows = read_list(recorded, folder, "time", zone) if {"path", "time"} <= columns else {}
    source, of_frames = recorded if rows else None, "frame_id" in columns
    # A part that was replaced tells of files that are gone; its other rows are those of the newer one.
    for part in sorted((folder / ARCHIVE_INDEX).glob("*/*/*.csv")):
        if {"path", "time", "frame_id"} <= columns_of(part):
            what = f"times {str(part)!r}"
            with _open(part, what) as lines:
                rows |= {row.name: row for row in _Reader(what, folder, "time", zone).rows(lines)}
            source, of_frames = source or folder / ARCHIVE_INDEX, True
    return rows, source, of_frames


def columns_of(file: Path) -> set[str]:
    """Return the columns of a list of recordings, none if there is no such file or it is something else."""
    try:
        if not file.is_file():
            return set()
        with file.open(newline="", encoding="utf-8-sig") as lines:
            return set(column_names(next(csv.reader(lines), ())))
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()


def read_spans(file: Path, zone: tzinfo = UTC) -> list[LabelSpan]:
    """Return the label spans of a CSV file; none are fine: nobody has said anything yet.

    Raises:
        RecordingError: The file can't be read, or says something that can't be; the message names file and line.
    """
    what = f"labels {str(file)!r}"
    with _open(file, what) as lines:
        return list(_Reader(what, file.parent, "label", zone).spans(lines))


def column_names(header: Iterable[str]) -> list[str]:
    """Return the names of columns as they are known here: without regard to case and blanks around them."""
    return [name.strip().lower() for name in header]


@contextmanager
def _open(file: Path, what: str) -> Iterator[IO[str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            yield lines
    except OSError as error:
        raise RecordingError(f"{what} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecordingError(f"{what}: byte {error.start} is no UTF-8; expected a CSV file") from None


class _Reader:
    """Reads the lines of one list."""

    def __init__(self, what: str, folder: Path, needed: Needed, zone: tzinfo) -> None:
        self._what, self._folder, self._needed, self._zone = what, folder, needed, zone
        self._line = 1

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        table = csv.DictReader(lines, strict=True)
        try:
            self._check_header(table)
            missing = [name for name in ("path", self._needed) if name not in (table.fieldnames or ())]
            if missing:
                found = ", ".join(table.fieldnames or ()) or "nothing"
                more = "[,machine][,source]" if self._needed == "time" else "[,machine][,onset_s]"
                raise self._wrong(f"no column {missing[0]!r} among {found}; expected path,{self._needed}{more}")
            for fields in table:
                self._line = table.line_num
                yield self._row(self._named(fields, _COLUMNS))
        except csv.Error as error:
            self._line = table.reader.line_num
            raise self._wrong(str(error)) from None

    def spans(self, lines: Iterator[str]) -> Iterator[LabelSpan]:
        table = csv.DictReader(lines, strict=True)
        try:
            self._check_header(table)
            for fields in table:
                self._line = table.line_num
                yield self._span(self._named(fields, COLUMNS))
        except csv.Error as error:
            self._line = table.reader.line_num
            raise self._wrong(str(error)) from None

    def _named(self, fields: Mapping[str | None, str | list[str] | None], wanted: Iterable[str]) -> dict[str, str]:
        """Return a line's fields by column, '' for what isn't there.

        Raises:
            RecordingError: It has more than there are columns: a comma in one of them would move the others.
        """
        if any(one.strip() for one in fields.get(None) or ()):
            raise self._wrong("has more fields than the header; expected quotes around one that holds a comma")
        return {name: str(fields.get(name) or "").strip() for name in wanted}

    def _check_header(self, table: csv.DictReader[str]) -> None:
        table.fieldnames = names = column_names(table.fieldnames or ())
        known = {*_COLUMNS, *COLUMNS}
        if twice := [name for name, times in Counter(names).items() if times > 1 and name in known]:
            raise self._wrong(f"column {twice[0]!r} stands there {names.count(twice[0])} times; expected once")

    def _span(self, fields: Mapping[str, str]) -> LabelSpan:
        label, machine = self._label(fields["label"]), self._machine(fields["machine"])
        if machine is None:
            raise self._wrong("machine is ''; expected whose frames they are")
        from_us = self._start_us(fields["from"], "from")
        until_us = self._start_us(fields["until"], "until") if fields["until"] else None
        if label == "normal" and until_us is None:
            raise self._wrong("until is '' of a normal time; expected its end: nobody knows of tomorrow")
        if until_us is not None and until_us <= from_us:
            raise self._wrong(f"until is {fields['until']!r}; expected a time after {fields['from']}")
        return LabelSpan(
            machine=machine,
            source=self._source(fields["source"]),
            label=label,
            from_us=from_us,
            until_us=until_us,
            fault=self._fault(fields["fault"], label),
            **self._verdict(fields["verdict"], fields["verdict_id"]),
        )

    def _verdict(self, word: str, identity: str) -> dict[str, str]:
        """Return the verdict that a span is of, if it is of one: a column ``verdict`` alone may be anybody's."""
        if not identity:
            return {}
        if not _IDENTITY.fullmatch(identity):
            raise self._wrong(f"verdict_id is {identity[:64]!r}; expected 32 digits of 0 to 9, a to f")
        if word not in _LABELLING:
            raise self._wrong(f"verdict is {word[:64]!r}; expected one of {', '.join(_LABELLING)}")
        return {"verdict": word, "verdict_id": identity}

    def _row(self, fields: Mapping[str, str]) -> Row:
        label = self._label(fields["label"]) if self._needed == "label" else None
        return Row(
            name=self._name(fields["path"]),
            machine=self._machine(fields["machine"]),
            source=self._source(fields["source"]),
            label=label,
            onset_s=self._onset_s(fields["onset_s"], label) if label is not None else None,
            fault=self._fault(fields["fault"], label) if label is not None else None,
            start_us=self._start_us(fields["time"]) if self._needed == "time" else None,
            condition=Condition(*(self._condition(name, fields[name]) for name in Condition._fields)),
            line=self._line,
        )

    def _condition(self, name: str, text: str) -> float | None:
        try:
            return parse_condition(name, text) if text else None
        except ValueError as error:
            raise self._wrong(f"{name} is {error}") from None

    def _name(self, text: str) -> str:
        path, home = PurePosixPath(text.replace("\\", "/")), self._folder.absolute().as_posix()
        if path.is_absolute() and path.is_relative_to(home):
            path = path.relative_to(home)
        if not text or path.is_absolute() or ".." in path.parts:
            raise self._wrong(f"path is {text!r}; expected the path of a recording below {str(self._folder)!r}")
        return path.as_posix()

    def _label(self, text: str) -> Label:
        label = LABELS.get(text.lower())
        if label is None:
            raise self._wrong(f"label is {text!r}; expected one of {', '.join(LABELS)}")
        return label

    def _onset_s(self, text: str, label: Label) -> float | None:
        if not text:
            return None
        try:
            onset_s = float(text)
        except ValueError:
            onset_s = -1.0
        if not 0 <= onset_s < inf:
            raise self._wrong(f"onset_s is {text!r}; expected seconds into the recording, at least 0")
        if label == "normal":
            raise self._wrong(f"onset_s is {text!r} for a normal recording; expected it for an anomaly only")
        return onset_s

    def _fault(self, text: str, label: Label) -> str | None:
        if text and label == "normal":
            raise self._wrong(f"fault is {text!r} for what is normal; expected it for an anomaly only")
        if len(text) > MAX_NAME_CHARS:
            raise self._wrong(f"fault is {text[:64]!r}…; expected at most {MAX_NAME_CHARS} characters")
        return text or None

    def _start_us(self, text: str, column: str = "time") -> int:
        start_us = time_in(text, self._zone)
        if isinstance(start_us, NoTimestamp):
            raise self._wrong(f"{column} is {text!r} ({start_us.reason}); expected such as 2026-01-31T12:00:00Z")
        return start_us

    def _machine(self, text: str) -> str | None:
        if text and not MACHINE_ID.fullmatch(text):
            raise self._wrong(f"machine is {text!r}; expected {MACHINE_ID.pattern}")
        return text or None

    def _source(self, text: str) -> str | None:
        if len(text) > MAX_SOURCE_CHARS or not text.isprintable():
            raise self._wrong(f"source is {text[:64]!r}; expected {MAX_SOURCE_CHARS} printable characters")
        return text or None

    def _wrong(self, what: str) -> RecordingError:
        return RecordingError(f"{self._what}, line {self._line}: {what}")
