"""Frames and entries for tests of the archive, and a place that fails when it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from archive.archive import Archive
from archive.entries import DAY_US, HOUR_US, ArchiveEntry, file_name
from archive.keeping import KeptFrame, kept_frame
from archive.operating_states import BANDS, state_of
from archive.places import Location
from schemas.condition import UNKNOWN, Condition
from schemas.frame import FrameRecord, frame_id
from tests.models import START_US, encoded, noise, record

MACHINE = "pump-1"
NOW_US = START_US + 10 * DAY_US


def frame(
    number: int, machine: str = MACHINE, source: str | None = None, condition: Condition = UNKNOWN, kind: str = "WAV"
) -> FrameRecord:
    """A frame of half a second, recorded ``number`` seconds after the beginning of a day."""
    value = encoded(noise(0.5, seed=number), kind=kind)
    return record(value, machine, START_US + number * 1_000_000, source=source, condition=condition)


def added(archive: Archive, frames: Sequence[FrameRecord]) -> list[KeptFrame]:
    """Put frames into an archive as a recorder does."""
    kept = [kept_frame(one) for one in frames]
    archive.add_files(kept)
    archive.add_entries([one.entry for one in kept])
    return kept


def entry(
    seconds: float,
    level_db: float = -30.0,
    *,
    machine: str = MACHINE,
    source: str | None = None,
    size: int = 1000,
    condition: Condition = UNKNOWN,
    seed: int = 0,
) -> ArchiveEntry:
    """An entry without a file: one second, recorded so many seconds after the beginning of a day."""
    recorded_us = START_US + round(seconds * 1_000_000)
    identity = frame_id(machine, source, recorded_us, b"")
    rng = np.random.default_rng((round(seconds * 1000), seed))
    spectrum = tuple(int(one) for one in np.rint(level_db + rng.normal(0, 1, BANDS)))
    return ArchiveEntry(
        path=file_name(machine, source, recorded_us, identity, "flac"),
        frame_id=identity,
        machine=machine,
        source=source,
        recorded_us=recorded_us,
        duration_s=1.0,
        condition=condition,
        bytes=size,
        rate_hz=16_000,
        channels=1,
        level_dbfs=level_db,
        state=state_of(level_db, condition, spectrum),
        spectrum=spectrum,
    )


def put(archive: Archive, entries: Sequence[ArchiveEntry]) -> None:
    """Put entries into an archive, with files of their sizes."""
    archive.place.write({one.path: bytes(one.bytes) for one in entries})
    archive.add_entries(entries)


class Killed(BaseException):
    """The program ends here, as if by SIGKILL."""


class DyingLocation:
    """A place whose program is killed at its n-th change; of several files, each is a change."""

    def __init__(self, place: Location, changes: int) -> None:
        self.url, self._place, self.left = place.url, place, changes

    def _change(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, value in files.items():
            self._change()
            self._place.write({name: value})

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._change()
            self._place.remove([name])

    def settle(self) -> None:
        pass

    def read(self, name: str) -> bytes | None:
        return self._place.read(name)

    def names(self, folder: str) -> list[str]:
        return self._place.names(folder)

    def fetch(self, name: str, target: Path) -> bool:
        return self._place.fetch(name, target)


__all__ = ["DAY_US", "HOUR_US", "MACHINE", "NOW_US", "DyingLocation", "Killed", "added", "entry", "frame", "put"]
