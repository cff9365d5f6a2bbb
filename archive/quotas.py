"""What of an archive stays: by age, by thinning, and by quotas of a machine and of all.

Age and thinning look at one machine's day at a time. A quota is kept by taking from every day of the machine what
stands last in its order (:mod:`archive.thinning`), the fullest days first, until all have equally many frames: the
archive reaches as far back as before, with fewer frames a day. The quota of all is kept by taking from the machines
that have most. What is pinned stays, whatever the quotas say.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from archive.entries import DAY_US, HOUR_US, ArchiveEntry, day_begins_us
from archive.index_parts import MERGED, Index, MachineDay
from archive.pins import Pin, pinned
from archive.thinning import by_stream, order, thin

GB: Final = 1_000_000_000
_SPARE: Final = 0.95  # of a quota stays when it was passed, so that it isn't passed again at once
_MOST_PARTS: Final = 64  # of a day, before they are merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The rules.

    Attributes:
        all_h: Every frame stays for so many hours after it was recorded.
        a_day: After that, so many frames of a stream and day.
        days: A day's frames go so many days after it has ended; None: never for their age.
        gb, machine_gb: Most gigabytes (10^9 bytes) of files, in all and of one machine; None: any number.
        machine_frames: Most frames of one machine; None: any number.
    """

    all_h: float = 6.0
    a_day: int = 200
    days: float | None = 365.0
    gb: float | None = 100.0
    machine_gb: float | None = 10.0
    machine_frames: int | None = None


@dataclass(slots=True)
class Pruned:
    """What a round of pruning did.

    Attributes:
        aged, thinned, over: Frames that went for their age, as repeats, and for a quota.
        bytes: That their files had.
        kept_over: What is still above a quota because all of it is pinned, in sentences.
    """

    aged: int = 0
    thinned: int = 0
    over: int = 0
    bytes: int = 0
    kept_over: list[str] = field(default_factory=list)


class Pruner:
    """Keeps an archive to its rules.

    Args:
        index: The archive's.
        keep: The rules.
        pins: What stays.
        now_us: The time, microseconds since the epoch.
        going_on: With False, the rest is left for another time.
        pins_stay: Asked before anything is removed, whether the pins are still those; with False likewise.
    """

    def __init__(
        self,
        index: Index,
        keep: Keep,
        pins: Sequence[Pin],
        now_us: int,
        going_on: Callable[[], bool] = lambda: True,
        pins_stay: Callable[[], bool] = lambda: True,
    ) -> None:
        self._index, self._keep, self._now_us = index, keep, now_us
        self._going_on, self._pins_stay = going_on, pins_stay
        self._pins: defaultdict[str, list[Pin]] = defaultdict(list)
        for pin in pins:
            self._pins[pin.machine].append(pin)
        self._done = Pruned()

    def prune(self) -> Pruned:
        """Do all of it, a machine at a time, and return what was done.

        Raises:
            ServiceUnavailable: The archive can't be used now; what was done stays done.
        """
        with suppress(_PinsChangedError):
            self._prune()
        return self._done

    def _prune(self) -> None:
        for day in self._index.days():
            if not self._going_on():
                return
            self._index.finish(day)
            self._look_at(day)
        used = self._used()
        for machine, (frames, size) in used.items():
            quota = self._machine_quota()
            if self._going_on() and (frames > quota.frames or size > quota.bytes):
                self._shrink(machine, quota, "its quota")
        if self._going_on():
            self._keep_all(self._used())

    def _look_at(self, day: MachineDay) -> None:
        """Thin one day of a machine, once for each hour that ends, and drop it when it is too old."""
        keep, begins_us = self._keep, day_begins_us(day.day)
        before_us = self._now_us - round(keep.all_h * HOUR_US)
        old = keep.days is not None and begins_us + DAY_US <= self._now_us - round(keep.days * DAY_US)
        hours = min(max((before_us - begins_us) // HOUR_US, 0), 24)
        mark = self._mark(day, hours)
        # Once the day is over, what came since is thinned too; until then the next hour does that.
        thinned = day.marks == {mark} if hours == 24 else hours == 0 or mark in day.marks
        if not day.parts or (thinned and not old):
            if len(day.parts) > _MOST_PARTS:
                entries = self._index.read(day)
                self._index.replace(day, entries, mark=mark if thinned and hours else MERGED)
            return
        entries = self._index.read(day)
        held, free = pinned(entries, self._pins[day.machine])
        kept = [] if old else thin(free, keep.a_day, before_us)
        if len(kept) < len(free) or not thinned:
            self._replace(day, entries, [*held, *kept], mark)
        if old:
            self._done.aged += len(free)
        else:
            self._done.thinned += len(free) - len(kept)

    def _mark(self, day: MachineDay, hours: int) -> str:
        """Return what says that so many hours of a day were thinned by these rules and with these pins."""
        begins_us = day_begins_us(day.day)
        pins = [pin.pin_id for pin in self._pins[day.machine] if pin.meets(begins_us, begins_us + DAY_US)]
        return f"thinned{hours}_" + hashlib.sha256(f"{self._keep.a_day} {sorted(pins)}".encode()).hexdigest()[:8]

    def _replace(self, day: MachineDay, entries: Sequence[ArchiveEntry], kept: list[ArchiveEntry], mark: str) -> None:
        if not self._pins_stay():
            raise _PinsChangedError
        stays = {entry.frame_id for entry in kept}
        removed = [entry for entry in entries if entry.frame_id not in stays]
        kept = sorted(kept, key=lambda entry: (entry.recorded_us, entry.frame_id))
        self._done.bytes += sum(entry.bytes for entry in removed)
        self._index.replace(day, kept, removed, mark=mark)

    def _used(self) -> dict[str, tuple[int, int]]:
        """Return frames and bytes of each machine."""
        found: dict[str, tuple[int, int]] = {}
        for day in self._index.days():
            frames, size = found.get(day.machine, (0, 0))
            found[day.machine] = frames + day.frames, size + day.bytes
        return found

    def _machine_quota(self) -> _Quota:
        keep = self._keep
        return _Quota(_bound(keep.machine_frames), _bound(keep.machine_gb, GB))

    def _keep_all(self, used: dict[str, tuple[int, int]]) -> None:
        """Keep the quota of all: the machines that have most give until they have equally much."""
        sizes = {machine: size for machine, (_, size) in used.items()}
        quota = _bound(self._keep.gb, GB)
        if sum(sizes.values()) <= quota:
            return
        left, spare = dict(sizes), quota * _SPARE
        while left:
            level = _level(list(left.values()), spare)
            machine = max(left, key=lambda one: (left[one], one))
            if left[machine] <= level:
                break
            sizes[machine] = self._shrink(machine, _Quota(_bound(None), level), None)
            spare -= sizes[machine]
            del left[machine]
        if sum(sizes.values()) > quota:
            self._done.kept_over.append(
                f"the archive has {sum(sizes.values()) / GB:.3g} GB, its quota {quota / GB:g}: the rest is pinned"
            )

    def _shrink(self, machine: str, quota: _Quota, name: str | None) -> int:
        """Bring a machine under a quota, and return how many bytes it has then.

        Args:
            machine: Which.
            quota: What it may have; a little less stays.
            name: Of the quota, for the sentence that says that pins keep it from being kept; None: say nothing.
        """
        days = {day.day: (day, self._index.read(day)) for day in self._index.days(machine)}
        held, free = pinned([entry for _, some in days.values() for entry in some], self._pins[machine])
        ranks = _ranks(free)
        ranked = sorted(free, key=lambda entry: ranks[entry.frame_id])
        frames, size = len(held), sum(entry.bytes for entry in held)
        stays = {entry.frame_id for entry in held}
        for entry in ranked:
            if frames + 1 > quota.frames * _SPARE or size + entry.bytes > quota.bytes * _SPARE:
                break
            frames, size = frames + 1, size + entry.bytes
            stays.add(entry.frame_id)
        for day, entries in days.values():
            kept = [entry for entry in entries if entry.frame_id in stays]
            if len(kept) < len(entries):
                self._replace(day, entries, kept, (max(day.marks) if len(day.marks) == 1 else "") or MERGED)
                self._done.over += len(entries) - len(kept)
        if name is not None and (frames > quota.frames or size > quota.bytes):
            self._done.kept_over.append(
                f"machine {machine} has {frames} frames and {size / GB:.3g} GB, above {name}: all of them are pinned"
            )
        return size


class _PinsChangedError(Exception):
    """Somebody pinned something, or took a pin back, since the pins were read."""


@dataclass(frozen=True, slots=True)
class _Quota:
    frames: float
    bytes: float


def _bound(number: float | None, unit: int = 1) -> float:
    return float("inf") if number is None else number * unit


def _ranks(entries: Sequence[ArchiveEntry]) -> dict[str, tuple[int, int, str]]:
    """Return each frame's place in the order of its stream's day; of equal places the newer frame's comes first."""
    by_day: defaultdict[str, list[ArchiveEntry]] = defaultdict(list)
    for entry in entries:
        by_day[entry.day].append(entry)
    return {
        entry.frame_id: (place, -entry.recorded_us, entry.frame_id)
        for of_day in by_day.values()
        for stream in by_stream(of_day).values()
        for place, entry in enumerate(order(stream))
    }


def _level(sizes: list[int], spare: float) -> float:
    """Return how much each may have at most, so that all together have ``spare``."""
    left = max(spare, 0.0)
    for done, size in enumerate(sorted(sizes)):
        share = left / (len(sizes) - done)
        if size > share:
            return share
        left -= size
    return float("inf")
