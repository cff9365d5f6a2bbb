"""Entries: what an archive's index says of each frame, and the names of the files that they are in.

A frame is ``<machine>/<source>/<day>/<time>_<frame id>.<flac or wav>``; without a source, ``<machine>/<day>/…``. What
can't be a folder's name, or would be taken for a label, is written with ``%`` and two hex digits, as in a URL.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, unquote

from recordings.layout import path_info
from schemas.condition import UNKNOWN, Condition, number_text
from schemas.frame import MACHINE_ID
from schemas.times import MICROSECONDS, format_rfc3339, parse_rfc3339

# The first eight are the columns of `recordings.csv`, by which every command knows times, machines and conditions.
LIST_COLUMNS: Final = ("path", "time", "machine", "source", "label", "frame_id", "rpm", "load")
_MORE: Final = ("duration_s", "bytes", "rate_hz", "channels", "level_dbfs", "state", "spectrum")
COLUMNS: Final = (*LIST_COLUMNS, *_MORE)
HOUR_US: Final = 3600 * MICROSECONDS
DAY_US: Final = 24 * HOUR_US
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FILE: Final = re.compile(r"(?P<time>\d{8}T\d{6}\.\d{6}Z)_(?P<id>[0-9a-f]{32})\.(?:flac|wav)")
_MOST_CHARS: Final = 200  # of a folder's name; file systems take 255 bytes
_SAFE: Final = ":"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveEntry:
    """One frame in an archive.

    Attributes:
        path: Its file, relative to the archive's root.
        frame_id: As the worker knows it: 32 hex digits of the frame as it was sent.
        machine, source: Whose signal, by which sensor (None where it has no name).
        recorded_us: When it began, microseconds since the epoch.
        duration_s: How long it is.
        condition: How the machine ran.
        bytes: Size of the file.
        rate_hz, channels: Of the signal.
        level_dbfs: Root mean square, mean removed, dB re full scale.
        state: Its operating state's name: see :func:`archive.operating_states.state_of`.
        spectrum: Power in 16 bands, whole dB: see :func:`archive.operating_states.spectrum_of`.
    """

    path: str
    frame_id: str
    machine: str
    source: str | None
    recorded_us: int
    duration_s: float
    condition: Condition = UNKNOWN
    bytes: int
    rate_hz: int
    channels: int
    level_dbfs: float
    state: str
    spectrum: tuple[int, ...]

    @property
    def day(self) -> str:
        """The day (UTC) that it was recorded on, such as ``2026-01-31``."""
        return day_of(self.recorded_us)

    @property
    def until_us(self) -> int:
        """When it ended, microseconds since the epoch."""
        return self.recorded_us + round(self.duration_s * MICROSECONDS)


def day_of(time_us: int) -> str:
    """Return the day (UTC) of a time in microseconds since the epoch."""
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%d")


def day_begins_us(day: str) -> int:
    """Return when a day (UTC) begins, microseconds since the epoch.

    Raises:
        ValueError: It is no day.
    """
    return (datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def folder_of(name: str) -> str:
    """Return the folder that stands for a machine's or a source's name, which :func:`name_of` turns back."""
    folder = quote(name, safe=_SAFE)[:_MOST_CHARS]
    found = path_info(f"{folder}/recording.wav", PurePosixPath("/"))  # type: ignore[arg-type]
    if folder.startswith(".") or found.named != folder or found.label is not None:
        folder = f"%{ord(folder[0]):02X}{folder[1:]}" if folder[0] != "%" else folder
    return folder


def name_of(folder: str) -> str:
    """Return the name that a folder stands for."""
    return unquote(folder)


def file_name(machine: str, source: str | None, recorded_us: int, frame_id: str, suffix: str) -> str:
    """Return a frame's file, relative to the archive's root; it follows from what the frame's identity is made of."""
    moment = _EPOCH + timedelta(microseconds=recorded_us)
    folders = [folder_of(machine), *([folder_of(source)] if source else []), f"{moment:%Y-%m-%d}"]
    return f"{'/'.join(folders)}/{moment:%Y%m%dT%H%M%S.%f}Z_{frame_id}.{suffix}"


@dataclass(frozen=True, slots=True)
class FileName:
    """What a file's name says of its frame."""

    machine: str
    source: str | None
    recorded_us: int
    frame_id: str


def parse_file_name(path: str) -> FileName | None:
    """Return what a file's name says, None where it is no frame's."""
    *folders, file = path.split("/")
    match = _FILE.fullmatch(file)
    if match is None or not 2 <= len(folders) <= 3:
        return None
    machine = name_of(folders[0])
    if not MACHINE_ID.fullmatch(machine):
        return None
    moment = datetime.strptime(match["time"], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    source = name_of(folders[1]) if len(folders) == 3 else None
    return FileName(machine, source, (moment - _EPOCH) // timedelta(microseconds=1), match["id"])


def to_csv(entries: Iterable[ArchiveEntry]) -> bytes:
    """Return entries as a part of the index: CSV, a line for each, after one with the columns' names."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(map(_row, entries))
    return text.getvalue().encode()


def _row(entry: ArchiveEntry) -> tuple[object, ...]:
    rpm, load = ("" if number is None else number_text(number) for number in entry.condition)
    return (
        entry.path, format_rfc3339(entry.recorded_us), entry.machine, entry.source or "", "", entry.frame_id, rpm, load,
        f"{entry.duration_s:.6f}", entry.bytes, entry.rate_hz, entry.channels, f"{entry.level_dbfs:.1f}", entry.state,
        " ".join(map(str, entry.spectrum)),
    )  # fmt: skip


def list_row(entry: ArchiveEntry) -> dict[str, str]:
    """Return an entry as a line of a folder's ``recordings.csv``."""
    return dict(zip(LIST_COLUMNS, map(str, _row(entry)), strict=False))


def from_csv(part: bytes) -> Iterator[ArchiveEntry]:
    """Yield the entries of a part of the index; a line that is damaged, or of another version, is left out."""
    lines = csv.DictReader(io.StringIO(part.decode(errors="replace"), newline=""))
    while True:
        try:
            yield _entry(next(lines))
        except StopIteration:
            return
        except (KeyError, ValueError, TypeError, AttributeError, csv.Error):  # one that is cut off lacks fields
            continue


def _entry(fields: dict[str, str]) -> ArchiveEntry:
    return ArchiveEntry(
        path=fields["path"],
        frame_id=fields["frame_id"],
        machine=fields["machine"],
        source=fields["source"] or None,
        recorded_us=parse_rfc3339(fields["time"]),
        duration_s=float(fields["duration_s"]),
        condition=Condition(*(float(fields[name]) if fields[name] else None for name in Condition._fields)),
        bytes=int(fields["bytes"]),
        rate_hz=int(fields["rate_hz"]),
        channels=int(fields["channels"]),
        level_dbfs=float(fields["level_dbfs"]),
        state=fields["state"],
        spectrum=tuple(map(int, fields["spectrum"].split())),
    )
