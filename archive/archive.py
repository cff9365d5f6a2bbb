"""An archive of recordings: frames that were heard, kept in a folder or an object store, with an index.

Whoever trains asks it for a machine's frames of a time, gets them as files of a folder that every command reads, and
pins what must stay. Whoever records adds frames, and prunes now and then.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archive.entries import LIST_COLUMNS, ArchiveEntry, day_of, list_row, parse_file_name
from archive.index_parts import HOME, Index
from archive.keeping import KeptFrame, kept_frame
from archive.pins import PINS, Pin, pin_of, pinned, read_pins, remove_pin, write_pin
from archive.places import Location, place_of
from archive.quotas import Keep, Pruned, Pruner
from recordings.listing import RECORDED
from schemas.errors import FrameRejected, RecordingError, SettingsError
from schemas.frame import FrameRecord, frame_headers
from whirr.outputs import replacing
from whirr.settings import Settings


@dataclass(frozen=True, slots=True)
class Fetched:
    """What :meth:`Archive.fetch` brought.

    Attributes:
        paths: The local files, in the order of the entries.
        gone: Entries whose files were removed meanwhile.
    """

    paths: tuple[Path, ...]
    gone: tuple[ArchiveEntry, ...]


@dataclass(frozen=True, slots=True)
class Mended:
    """What :meth:`Archive.mend` did.

    Attributes:
        listed: Files that the index did not tell of, and does now.
        unusable: Such files that hold no frame; they were removed.
        dropped: Entries without a file that the index no longer has.
    """

    listed: int
    unusable: int
    dropped: int


class Archive:
    """One archive.

    Args:
        place: Where it is.
        keep: What of it stays.

    Every method raises :class:`~schemas.errors.ServiceUnavailable` where the place can't be used now.
    """

    def __init__(self, place: Location, keep: Keep | None = None) -> None:
        self.place, self.keep = place, keep or Keep()
        self._index = Index(place)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.place.url

    def add_files(self, frames: Iterable[KeptFrame]) -> None:
        """Write the files of frames. They don't count, and may be written again, until :meth:`add_entries`."""
        self.place.write({frame.entry.path: frame.value for frame in frames})

    def add_entries(self, entries: Sequence[ArchiveEntry]) -> None:
        """Take frames whose files are written into the index; then they survive a power cut, files and all.

        A frame that is there already stays there once.
        """
        if entries:
            self.place.settle()
            self._index.append(entries)
            self.place.settle()

    def machines(self) -> list[str]:
        """Return the machines that it has frames of."""
        return sorted({day.machine for day in self._index.days() if day.parts})

    def entries(self, machine: str, from_us: int | None = None, until_us: int | None = None) -> list[ArchiveEntry]:
        """Return a machine's frames that were recorded in a time, in its order, without opening their files.

        Args:
            machine: Whose.
            from_us: Recorded from then on, microseconds since the epoch; None: no bound.
            until_us: Recorded before then; None: no bound.
        """
        found: list[ArchiveEntry] = []
        for day in self._index.days(machine):
            early = from_us is not None and day.day < day_of(from_us)
            late = until_us is not None and day.day > day_of(until_us)
            if not (early or late):
                found += self._index.read(day)
        return [
            entry
            for entry in found
            if (from_us is None or entry.recorded_us >= from_us) and (until_us is None or entry.recorded_us < until_us)
        ]

    def fetch(self, entries: Sequence[ArchiveEntry], folder: Path) -> Fetched:
        """Put frames into a local folder that ``whirr train``, ``evaluate`` and ``replay`` read.

        From a folder on the same disk they are hard links: don't change them. A ``recordings.csv`` beside them says
        what the index knows; what is there already stays, and is not fetched again.

        Args:
            entries: As :meth:`entries` gave them.
            folder: Made if it is missing.

        Raises:
            RecordingError: The folder can't be written to.
        """
        paths: list[Path] = []
        gone: list[ArchiveEntry] = []
        try:
            listed = _listed(folder / RECORDED)
            for entry in entries:
                target = folder / entry.path
                if not (target.is_file() and entry.path in listed) and not self.place.fetch(entry.path, target):
                    gone.append(entry)
                    continue
                listed[entry.path] = list_row(entry)
                paths.append(target)
            with replacing(folder / RECORDED, text=True) as file:
                table = csv.DictWriter(file, LIST_COLUMNS, lineterminator="\n")
                table.writeheader()
                table.writerows(listed.values())
        except OSError as error:
            raise RecordingError(f"{str(folder)!r} can't be written to: {error.strerror}") from None
        return Fetched(tuple(paths), tuple(gone))

    def pin(self, machine: str, from_us: int, until_us: int | None, why: str) -> Pin:
        """Keep a machine's frames of a time, beyond all quotas, until the pin is taken back.

        Frames that are gone already don't come back. The same span for the same reason is one pin.

        Args:
            machine: Whose.
            from_us: Frames any part of which lies after it, microseconds since the epoch.
            until_us: And before it; None: from then on, without end.
            why: For people.

        Raises:
            SettingsError: The machine's id can't be one, or the span ends before it begins.
        """
        pin = pin_of(machine, from_us, until_us, why)
        write_pin(self.place, pin)
        return pin

    def unpin(self, pin_id: str) -> None:
        """Take a pin back; its frames may go with the next :meth:`prune`."""
        remove_pin(self.place, pin_id)

    def pins(self) -> list[Pin]:
        """Return all pins, by machine and beginning."""
        return read_pins(self.place)

    def prune(self, now_us: int, going_on: Callable[[], bool] = lambda: True) -> Pruned:
        """Remove what the rules say must go. A pin that is set meanwhile holds, and ends the round.

        Args:
            now_us: The time that ages count to, microseconds since the epoch.
            going_on: Asked now and then; with False, the rest is left for another time.
        """
        before = self.place.names(PINS)

        def pins_stay() -> bool:
            return self.place.names(PINS) == before

        return Pruner(self._index, self.keep, self.pins(), now_us, going_on, pins_stay).prune()

    def mend(self) -> Mended:
        """Bring files and index together: looks at every name, and opens the files that the index doesn't tell of.

        Only while nobody records: what is being written looks like a file that nothing tells of. A file that a crash
        left comes into the index with what its name says; speed and load stay unknown.
        """
        there = {name for name in self.place.names("") if not name.startswith(f"{HOME}/")}
        unusable = dropped = 0
        for day in self._index.days():
            self._index.finish(day)
        for day in self._index.days():
            entries = self._index.read(day)
            kept = [entry for entry in entries if entry.path in there]
            there.difference_update(entry.path for entry in kept)
            if len(kept) < len(entries):
                self._index.replace(day, kept)
                dropped += len(entries) - len(kept)
        found: list[ArchiveEntry] = []
        for name in sorted(there):
            entry = self._entry_of(name)
            if entry is not None:
                found.append(entry)
            elif parse_file_name(name) is not None:
                self.place.remove([name])
                unusable += 1
        self.add_entries(found)
        return Mended(len(found), unusable, dropped)

    def _entry_of(self, name: str) -> ArchiveEntry | None:
        """Return the entry of a file that the index doesn't tell of, None if it is no whole frame's."""
        said, value = parse_file_name(name), self.place.read(name)
        if said is None or value is None:
            return None
        headers = frame_headers(said.machine, said.source, said.recorded_us, value)
        record = FrameRecord(said.machine.encode(), value, headers, said.recorded_us // 1000 + 1)
        try:
            entry = kept_frame(record, "as_sent").entry
        except FrameRejected:
            return None
        # A FLAC of what was sent as WAV has another hash: the name says which frame it is.
        return replace(entry, path=name, frame_id=said.frame_id)

    def summary(self, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, dict[str, Any]]:
        """Return what it has of each machine: files, seconds, bytes, oldest and newest, states and pins.

        Args:
            wanted: Says of a machine whether it is asked for.
        """
        pins: defaultdict[str, list[Pin]] = defaultdict(list)
        for pin in self.pins():
            pins[pin.machine].append(pin)
        found: dict[str, dict[str, Any]] = {}
        for machine in filter(wanted, sorted({*self.machines(), *pins})):
            entries = self.entries(machine)
            held, _ = pinned(entries, pins[machine])
            found[machine] = {
                "files": len(entries),
                "seconds": round(sum(entry.duration_s for entry in entries), 3),
                "bytes": sum(entry.bytes for entry in entries),
                "oldest_us": entries[0].recorded_us if entries else None,
                "newest_us": entries[-1].recorded_us if entries else None,
                "sources": sorted({entry.source or "" for entry in entries}),
                "states": dict(Counter(entry.state for entry in entries).most_common()),
                "pins": pins[machine],
                "pinned_files": len(held),
            }
        return found


def _listed(file: Path) -> dict[str, dict[str, str]]:
    """Return the lines of a folder's list by path; none where there is no such file."""
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        table = csv.DictReader(lines)
        return {row["path"]: {name: row.get(name) or "" for name in LIST_COLUMNS} for row in table if row.get("path")}


def open_archive(url: str, keep: Keep | None = None) -> Archive:
    """Return the archive at a URL or in a folder; nothing is looked at yet.

    Raises:
        SettingsError: No file system has such URLs, or the package that knows it is not installed.
    """
    return Archive(place_of(url), keep)


def configured_archive(settings: Settings, url: str | None = None) -> Archive:
    """Return the archive that the settings name, with their rules.

    Args:
        settings: The settings.
        url: Where it is, in place of the setting ``recordings_url``.

    Raises:
        SettingsError: They name none, or one that can't be.
    """
    where = url or settings.recordings_url
    if where is None:
        raise SettingsError(
            "recordings_url is not set; expected a folder, or a URL such as s3://bucket/whirr, for the recordings"
        )
    keep = Keep(
        all_h=settings.recordings_keep_all_h,
        a_day=settings.recordings_keep_a_day,
        days=settings.recordings_keep_days or None,
        gb=settings.recordings_keep_gb or None,
        machine_gb=settings.recordings_keep_machine_gb or None,
        machine_frames=settings.recordings_keep_machine_frames or None,
    )
    return open_archive(where, keep)
