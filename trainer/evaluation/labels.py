"""Labels: what the name of a recording says of it, or a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from schemas.frame import MACHINE_ID
from whirr.errors import RecordingError
from whirr.layouts import Label

WORDS: Final[Mapping[str, Label]] = MappingProxyType(
    {
        "normal": "normal",
        "0": "normal",
        "anomaly": "anomaly",
        "anomalous": "anomaly",
        "abnormal": "anomaly",
        "1": "anomaly",
    }
)
COLUMNS: Final = ("path", "label", "machine", "onset_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """One line of a file of labels.

    Attributes:
        name: The recording's path relative to the folder, with forward slashes.
        machine: Whose it is, or None where the file doesn't say.
        onset_s: Seconds into the recording at which the fault begins, or None.
        line: Where it stands in the file; the header is line 1.
    """

    name: str
    label: Label
    machine: str | None
    onset_s: float | None
    line: int


def read_labels(file: Path, folder: Path) -> dict[str, LabelRow]:
    """Return the rows of a CSV file of labels by the recordings' names, in the order of the file.

    The first line names the columns: ``path`` and ``label``, and if wanted ``machine`` and ``onset_s``; others are
    ignored.

    Args:
        file: CSV with commas, UTF-8.
        folder: What relative paths are relative to; absolute ones must lie in it.

    Raises:
        RecordingError: The file can't be read, or says something that can't be; the message names file and line.
    """
    rows: dict[str, LabelRow] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for row in _rows(lines, file, folder):
                if row.name in rows:
                    raise _wrong(file, row.line, f"{row.name!r} has a label already, on line {rows[row.name].line}")
                rows[row.name] = row
    except OSError as error:
        raise RecordingError(f"labels {str(file)!r} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecordingError(f"labels {str(file)!r}: byte {error.start} is no UTF-8; expected a CSV file") from None
    if not rows:
        raise RecordingError(f"labels {str(file)!r} hold no row; expected one for each recording")
    return rows


def _rows(lines: Iterator[str], file: Path, folder: Path) -> Iterator[LabelRow]:
    table = csv.DictReader(lines, strict=True)
    try:
        missing = [name for name in COLUMNS[:2] if name not in (table.fieldnames or ())]
        if missing:
            found = ", ".join(table.fieldnames or ()) or "nothing"
            raise _wrong(file, 1, f"no column {missing[0]!r} among {found}; expected path,label[,machine][,onset_s]")
        for fields in table:
            yield _row({name: (fields.get(name) or "").strip() for name in COLUMNS}, table.line_num, file, folder)
    except csv.Error as error:
        raise _wrong(file, table.reader.line_num, str(error)) from None


def _row(fields: Mapping[str, str], line: int, file: Path, folder: Path) -> LabelRow:
    label = WORDS.get(fields["label"].lower())
    if label is None:
        raise _wrong(file, line, f"label is {fields['label']!r}; expected one of {', '.join(WORDS)}")
    machine = fields["machine"] or None
    if machine is not None and not MACHINE_ID.fullmatch(machine):
        raise _wrong(file, line, f"machine is {machine!r}; expected {MACHINE_ID.pattern}")
    return LabelRow(
        name=_name(fields["path"], line, file, folder),
        label=label,
        machine=machine,
        onset_s=_onset_s(fields["onset_s"], label, line, file),
        line=line,
    )


def _name(text: str, line: int, file: Path, folder: Path) -> str:
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() and path.is_relative_to(folder.absolute().as_posix()):
        path = path.relative_to(folder.absolute().as_posix())
    if not text or path.is_absolute() or ".." in path.parts:
        raise _wrong(file, line, f"path is {text!r}; expected the path of a recording below {str(folder)!r}")
    return path.as_posix()


def _onset_s(text: str, label: Label, line: int, file: Path) -> float | None:
    if not text:
        return None
    try:
        onset_s = float(text)
    except ValueError:
        onset_s = -1.0
    if not 0 <= onset_s < inf:
        raise _wrong(file, line, f"onset_s is {text!r}; expected seconds into the recording, at least 0")
    if label == "normal":
        raise _wrong(file, line, f"onset_s is {text!r} for a normal recording; expected it for an anomaly only")
    return onset_s


def _wrong(file: Path, line: int, what: str) -> RecordingError:
    return RecordingError(f"labels {str(file)!r}, line {line}: {what}")
