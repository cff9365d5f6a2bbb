"""The index of an archive: CSV parts by machine and day, which are written once, and merged later.

``.archive/index/<machine>/<day>/<part>.csv``. A part's name says how many frames and bytes it tells of, so that a
listing alone gives sums: ``<time written>-<frames>-<bytes>-<token>.csv``. One that took the place of others has a mark
before that: by which rules its day was thinned and until when, or ``merged``. Beside it lies, until that is done, a
note (``.json``) of the same name: the parts that it replaces, and the files that go. The new part's appearance is the
one moment at which anything changes: before it the old parts count, after it they don't, whether they are still there
or not. What a crash left undone, :meth:`Index.finish` does.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final

from archive.entries import ArchiveEntry, folder_of, from_csv, name_of, to_csv
from archive.places import Location
from recordings.listing import ARCHIVE_INDEX
from schemas.errors import ServiceUnavailable

INDEX: Final = ARCHIVE_INDEX
HOME: Final = INDEX.partition("/")[0]
MERGED: Final = "merged"
_MOST_READS: Final = 5
_PART: Final = re.compile(r"(?:(?P<mark>\w+)-)?[0-9a-f]{16}-(?P<frames>\d+)-(?P<bytes>\d+)-[0-9a-f]{8}\.csv")


@dataclass(frozen=True, slots=True)
class Part:
    """One part, as its name tells it."""

    name: str
    frames: int
    bytes: int
    mark: str

    @classmethod
    def parse(cls, name: str) -> Part | None:
        """Return what a part's name says; None for what is no part's."""
        match = _PART.fullmatch(name.rpartition("/")[2])
        return match and cls(name, int(match["frames"]), int(match["bytes"]), match["mark"] or "")


@dataclass(slots=True)
class MachineDay:
    """The parts of one machine's day.

    Attributes:
        machine, day: Which.
        parts: Those that count.
        undone: Notes of merges whose last steps may not have been done.
    """

    machine: str
    day: str
    parts: list[Part] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """How many frames, as the parts' names say."""
        return sum(part.frames for part in self.parts)

    @property
    def bytes(self) -> int:
        """Their files' bytes."""
        return sum(part.bytes for part in self.parts)

    @property
    def marks(self) -> set[str]:
        """What its parts are marked with."""
        return {part.mark for part in self.parts}


class Index:
    """The index of one archive.

    Args:
        place: Where it is.
        now_ns: Names parts in the order of their writing.
    """

    def __init__(self, place: Location, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._place, self._now_ns = place, now_ns

    def append(self, entries: Iterable[ArchiveEntry]) -> None:
        """Write entries, a part for each machine and day.

        Raises:
            ServiceUnavailable: They can't be written now; some may have been, and to write them again does no harm.
        """
        by_day: defaultdict[tuple[str, str], list[ArchiveEntry]] = defaultdict(list)
        for entry in entries:
            by_day[entry.machine, entry.day].append(entry)
        parts = {self._part_name(*key, some): to_csv(some) for key, some in by_day.items()}
        self._place.write(parts)

    def days(self, machine: str | None = None) -> list[MachineDay]:
        """Return the days of a machine, or of all, in the order of machine and day; from a listing alone."""
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for name in self._place.names(INDEX if machine is None else f"{INDEX}/{folder_of(machine)}"):
            folders = name.removeprefix(f"{INDEX}/").split("/")
            if len(folders) == 3:
                found[name_of(folders[0]), folders[1]].append(name)
        return [self._day(*key, names) for key, names in sorted(found.items())]

    def _day(self, machine: str, day: str, names: list[str]) -> MachineDay:
        there = set(names)
        undone = [name for name in names if name.endswith(".json")]
        replaced: set[str] = set()
        for name in undone:
            if _part_of(name) in there:
                replaced.update(self._note(name)["replaces"])
        parts = (Part.parse(name) for name in names if name not in replaced)
        return MachineDay(machine, day, [part for part in parts if part], undone)

    def read(self, day: MachineDay) -> list[ArchiveEntry]:
        """Return a day's entries in the order of time, each frame once.

        Args:
            day: As it was listed; where another program has replaced its parts since, it is brought up to date.

        Raises:
            ServiceUnavailable: It was replaced again and again while this read.
        """
        for _ in range(_MOST_READS):
            parts = [self._place.read(part.name) for part in day.parts]
            if None not in parts:
                found = {entry.frame_id: entry for part in parts if part for entry in from_csv(part)}
                return sorted(found.values(), key=lambda entry: (entry.recorded_us, entry.frame_id))
            names = self._place.names(f"{INDEX}/{folder_of(day.machine)}/{day.day}")
            now = self._day(day.machine, day.day, names)
            day.parts, day.undone = now.parts, now.undone
        raise ServiceUnavailable(f"the index of {day.machine} on {day.day} in {self._place.url!r} changes all the time")

    def replace(
        self, day: MachineDay, kept: Sequence[ArchiveEntry], removed: Iterable[ArchiveEntry] = (), *, mark: str = MERGED
    ) -> None:
        """Put one part in the place of a day's, and remove files.

        Args:
            day: As it was read.
            kept: The entries that stay.
            removed: Those whose files go.
            mark: By which rules nothing is left to thin: letters and digits.

        Raises:
            ServiceUnavailable: It can't be done now; :meth:`finish` does what is missing, if the new part is there.
        """
        name = self._part_name(day.machine, day.day, kept, mark)
        note = {"replaces": [part.name for part in day.parts], "removes": [entry.path for entry in removed]}
        self._place.write({_note_of(name): json.dumps(note).encode()})
        self._place.write({name: to_csv(kept)})
        self._place.settle()
        self._finish(_note_of(name), gone=not kept)

    def finish(self, day: MachineDay) -> None:
        """Do what a crash left undone of merges.

        Raises:
            ServiceUnavailable: It can't be done now.
        """
        for name in day.undone:
            if self._place.read(_part_of(name)) is None:  # it never came to be
                self._place.remove([name])
            else:
                self._finish(name, gone=False)

    def _finish(self, note_name: str, *, gone: bool) -> None:
        note = self._note(note_name)
        self._place.remove(note["replaces"])
        self._place.remove(note["removes"])
        # Of a day that holds nothing, nothing stays; its empty part goes last of all.
        self._place.remove([note_name])
        if gone:
            self._place.remove([_part_of(note_name)])

    def _note(self, name: str) -> dict[str, list[str]]:
        try:
            note = json.loads(self._place.read(name) or b"{}")
            return {key: [str(one) for one in note.get(key, ())] for key in ("replaces", "removes")}
        except (ValueError, AttributeError, TypeError):  # it is damaged, and its part counts beside what it replaced
            return {"replaces": [], "removes": []}

    def _part_name(self, machine: str, day: str, entries: Sequence[ArchiveEntry], kind: str = "") -> str:
        size = sum(entry.bytes for entry in entries)
        name = f"{self._now_ns():016x}-{len(entries)}-{size}-{token_hex(4)}.csv"
        return f"{INDEX}/{folder_of(machine)}/{day}/{kind}{'-' if kind else ''}{name}"


def _note_of(part: str) -> str:
    return part.removesuffix(".csv") + ".json"


def _part_of(note: str) -> str:
    return note.removesuffix(".json") + ".csv"
