"""Quotas hold as it goes; pins hold against them; a crash leaves nothing that the next round does not put right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from archive.archive import Archive
from archive.entries import DAY_US, HOUR_US, ArchiveEntry
from archive.places import FolderLocation
from archive.quotas import GB, Keep
from schemas.errors import SettingsError
from tests.archive.kept import MACHINE, DyingLocation, Killed, entry, put
from tests.models import START_US

DAY_S = 86_400
NOTHING = Keep(all_h=1e6, days=None, gb=None, machine_gb=None)  # nothing goes


def days_of(entries: list[ArchiveEntry]) -> Counter[str]:
    return Counter(one.day for one in entries)


def machine_days(days: int, a_day: int, machine: str = MACHINE, size: int = 1000) -> list[ArchiveEntry]:
    step = DAY_S // a_day
    return [entry(day * DAY_S + n * step, machine=machine, size=size) for day in range(days) for n in range(a_day)]


def opened(tmp_path: Path, keep: Keep, entries: list[ArchiveEntry]) -> Archive:
    kept = Archive(FolderLocation(tmp_path / "archive"), keep)
    put(kept, entries)
    return kept


def files(kept: Archive) -> set[str]:
    return {name for name in kept.place.names("") if not name.startswith(".archive")}


def changed(keep: Keep, **values: object) -> Keep:
    return replace(keep, **values)  # type: ignore[arg-type]


def test_without_rules_all_stays(tmp_path: Path):
    kept = opened(tmp_path, NOTHING, machine_days(3, 24))
    assert kept.prune(START_US + 400 * DAY_US).bytes == 0
    assert len(kept.entries(MACHINE)) == len(files(kept)) == 72


def test_days_go_when_they_are_old(tmp_path: Path):
    kept = opened(tmp_path, changed(NOTHING, days=2.0), machine_days(4, 24))
    done = kept.prune(START_US + 4 * DAY_US + HOUR_US)
    assert done.aged == 48
    assert done.bytes == 48_000
    assert list(days_of(kept.entries(MACHINE))) == ["2026-01-03", "2026-01-04"]
    assert files(kept) == {one.path for one in kept.entries(MACHINE)}


def test_days_are_thinned_and_the_newest_hours_are_not(tmp_path: Path):
    kept = opened(tmp_path, changed(NOTHING, all_h=6.0, a_day=10), machine_days(2, 288))
    now_us = START_US + 2 * DAY_US
    done = kept.prune(now_us)
    assert days_of(kept.entries(MACHINE)) == {"2026-01-01": 10, "2026-01-02": 18 * 10 + 6 * 12}
    assert done.thinned == 278 + 18 * 2
    assert files(kept) == {one.path for one in kept.entries(MACHINE)}
    assert kept.prune(now_us).bytes == 0
    kept.prune(now_us + DAY_US)
    assert days_of(kept.entries(MACHINE)) == {"2026-01-01": 10, "2026-01-02": 10}


def test_frames_that_come_late_are_thinned_with_their_day(tmp_path: Path):
    kept = opened(tmp_path, changed(NOTHING, all_h=6.0, a_day=10), machine_days(1, 144))
    now_us = START_US + 5 * DAY_US
    kept.prune(now_us)
    put(kept, [entry(n * 600 + 7) for n in range(30)])
    assert len(kept.entries(MACHINE)) == 40
    kept.prune(now_us)
    assert len(kept.entries(MACHINE)) == 10
    kept.keep = changed(kept.keep, a_day=4)
    kept.prune(now_us)
    assert len(kept.entries(MACHINE)) == 4


@pytest.mark.parametrize(("keep", "most"), [({"machine_frames": 100}, 100), ({"machine_gb": 0.05e-3}, 50)])
def test_a_machines_quota_takes_from_the_fullest_days(keep: dict[str, float], most: int, tmp_path: Path):
    entries = [*machine_days(3, 24), *[entry(3 * DAY_S + n * 60) for n in range(300)], *machine_days(4, 10, "pump-2")]
    kept = opened(tmp_path, changed(NOTHING, **keep), entries)
    done = kept.prune(START_US + 4 * DAY_US)
    left = days_of(kept.entries(MACHINE))
    assert most * 0.9 <= sum(left.values()) <= most
    assert len(left) == 4, "it reaches as far back as before"
    assert max(left.values()) - min(left.values()) <= 1 or min(left.values()) == 24
    assert len(kept.entries("pump-2")) == 40
    assert done.over == 372 - sum(left.values())
    assert not done.kept_over


def test_the_quota_of_all_takes_from_the_machines_that_have_most(tmp_path: Path):
    entries = [*machine_days(2, 144), *machine_days(2, 48, "pump-2"), *machine_days(2, 6, "pump-3")]
    kept = opened(tmp_path, changed(NOTHING, gb=150_000 / GB), entries)
    kept.prune(START_US + 2 * DAY_US)
    left = {machine: len(kept.entries(machine)) for machine in kept.machines()}
    assert 130 <= sum(left.values()) <= 150
    assert left["pump-3"] == 12
    assert abs(left[MACHINE] - left["pump-2"]) <= 8
    assert kept.prune(START_US + 2 * DAY_US).bytes == 0


def test_pins_hold_against_age_thinning_and_quotas(tmp_path: Path):
    keep = Keep(all_h=1.0, a_day=5, days=2.0, gb=None, machine_gb=None, machine_frames=60)
    kept = opened(tmp_path, keep, [*machine_days(6, 96), *machine_days(6, 24, "pump-2")])
    baseline = kept.pin(MACHINE, START_US, START_US + 2 * HOUR_US, "baseline")  # 8 frames
    incident = kept.pin(MACHINE, START_US + 5 * DAY_US, None, "incident 7")
    assert kept.pin(MACHINE, START_US, START_US + 2 * HOUR_US, "baseline") == baseline
    assert kept.pins() == [baseline, incident]
    done = kept.prune(START_US + 6 * DAY_US + 12 * HOUR_US)
    left = kept.entries(MACHINE)
    assert days_of(left)["2026-01-01"] == 8
    assert days_of(left)["2026-01-06"] == 96
    told = f"machine {MACHINE} has 104 frames and 0.000104 GB, above its quota: all of them are pinned"
    assert done.kept_over == [told]
    assert set(days_of(kept.entries("pump-2"))) == {"2026-01-05", "2026-01-06"}
    assert files(kept) == {one.path for machine in kept.machines() for one in kept.entries(machine)}

    kept.unpin(incident.pin_id)
    kept.unpin("never-was")
    done = kept.prune(START_US + 6 * DAY_US + 12 * HOUR_US)
    assert not done.kept_over
    assert days_of(kept.entries(MACHINE)) == {"2026-01-01": 8, "2026-01-06": 5}


def test_a_pin_holds_what_lies_in_it_in_part(tmp_path: Path):
    kept = opened(tmp_path, changed(NOTHING, days=1.0), [entry(10), entry(20), entry(30)])
    kept.pin(MACHINE, START_US + 20_999_999, START_US + 30_000_000, "for a test")
    kept.prune(START_US + 9 * DAY_US)
    assert [one.recorded_us for one in kept.entries(MACHINE)] == [START_US + 20_000_000]


def test_a_total_quota_of_pins_alone_is_told(tmp_path: Path):
    kept = opened(tmp_path, changed(NOTHING, gb=50_000 / GB), [*machine_days(1, 96), *machine_days(1, 48, "pump-2")])
    kept.pin(MACHINE, START_US, None, "baseline")
    done = kept.prune(START_US + DAY_US)
    assert len(kept.entries(MACHINE)) == 96
    assert kept.entries("pump-2") == []
    assert done.kept_over == ["the archive has 9.6e-05 GB, its quota 5e-05: the rest is pinned"]


def test_a_pin_that_can_not_be_is_refused_and_one_that_can_not_be_read_stops_pruning(tmp_path: Path):
    kept = opened(tmp_path, changed(NOTHING, days=1.0), [entry(0)])
    with pytest.raises(SettingsError, match="expected after"):
        kept.pin(MACHINE, START_US, START_US, "nothing")
    with pytest.raises(SettingsError, match="machine id is 'a b'"):
        kept.pin("a b", START_US, None, "nobody")
    kept.place.write({".archive/pins/torn.json": b"{"})
    with pytest.raises(SettingsError, match=r"torn\.json"):
        kept.prune(START_US + 9 * DAY_US)
    assert len(kept.entries(MACHINE)) == 1


def test_parts_are_merged(tmp_path: Path):
    kept = opened(tmp_path, NOTHING, [])
    for n in range(65):
        put(kept, [entry(n)])
    assert len(kept.place.names(".archive/index")) == 65
    kept.prune(START_US + DAY_US)
    assert len(kept.place.names(".archive")) == 1
    assert len(kept.entries(MACHINE)) == 65


def test_a_day_is_read_once_an_hour_and_not_again(tmp_path: Path):
    kept = opened(tmp_path, changed(NOTHING, all_h=0.0, a_day=3), machine_days(2, 96))
    reads = CountingLocation(tmp_path / "archive")
    counted = Archive(reads, kept.keep)
    for minutes, expected in ((61, 1), (90, 0), (119, 0), (125, 1), (24 * 60, 1), (36 * 60, 1), (36 * 60 + 59, 0)):
        reads.index = 0
        counted.prune(START_US + minutes * 60_000_000)
        assert reads.index == expected, minutes
    assert days_of(kept.entries(MACHINE)) == {"2026-01-01": 3, "2026-01-02": 12 * 3 + 48}


class CountingLocation(FolderLocation):
    """Counts how many parts of the index are read."""

    index = 0

    def read(self, name: str) -> bytes | None:
        self.index += name.endswith(".csv")
        return super().read(name)


def test_a_pin_that_is_set_while_pruning_holds(tmp_path: Path):
    class Pinned(FolderLocation):
        pinned = False

        def read(self, name: str) -> bytes | None:
            if not self.pinned and name.endswith(".csv"):
                self.pinned = True
                kept.pin(MACHINE, START_US, START_US + 2 * HOUR_US, "incident 7")
            return super().read(name)

    kept = opened(tmp_path, changed(NOTHING, all_h=0.0, a_day=5), machine_days(2, 48))
    assert Archive(Pinned(tmp_path / "archive"), kept.keep).prune(START_US + 5 * DAY_US).thinned == 0
    assert len(kept.entries(MACHINE)) == 96
    kept.prune(START_US + 5 * DAY_US)
    assert days_of(kept.entries(MACHINE)) == {"2026-01-01": 4 + 5, "2026-01-02": 5}


def test_who_reads_while_another_replaces_misses_nothing(tmp_path: Path):
    """The parts that were listed are gone when they are read."""
    kept = opened(tmp_path, changed(NOTHING, all_h=0.0, a_day=5), machine_days(1, 48))
    put(kept, [entry(7)])

    class Overtaken(FolderLocation):
        times = 1

        def read(self, name: str) -> bytes | None:
            if self.times and name.endswith(".csv"):
                self.times -= 1
                kept.prune(START_US + 5 * DAY_US)
            return super().read(name)

    assert len(Archive(Overtaken(tmp_path / "archive"), kept.keep).entries(MACHINE)) == 5
    overtaken = Archive(Overtaken(tmp_path / "archive"), changed(kept.keep, a_day=4))
    kept.keep = changed(kept.keep, a_day=3)
    overtaken.prune(START_US + 5 * DAY_US)
    assert len(kept.entries(MACHINE)) == 3
    assert files(kept) == {one.path for one in kept.entries(MACHINE)}


KEEP = Keep(all_h=1.0, a_day=4, days=3.0, gb=None, machine_gb=None, machine_frames=11)
LATER_US = START_US + 5 * DAY_US + HOUR_US


def whole(tmp_path: Path) -> set[str]:
    kept = opened(tmp_path / "whole", KEEP, machine_days(5, 12))
    kept.pin(MACHINE, START_US, START_US + 1, "baseline")
    kept.prune(LATER_US)
    return files(kept)


@pytest.mark.slow
def test_pruning_that_dies_anywhere_is_put_right_by_the_next(tmp_path: Path):
    wanted = whole(tmp_path)
    assert 8 <= len(wanted) <= 11
    for changes in range(1000):
        kept = opened(tmp_path / str(changes), KEEP, machine_days(5, 12))
        kept.pin(MACHINE, START_US, START_US + 1, "baseline")
        before = {one.frame_id for one in kept.entries(MACHINE)}
        try:
            Archive(DyingLocation(kept.place, changes), KEEP).prune(LATER_US)
            break
        except Killed:
            pass
        seen = kept.entries(MACHINE)
        assert {one.frame_id for one in seen} <= before
        assert len({one.frame_id for one in seen}) == len(seen)
        assert wanted <= files(kept), "what was to stay is there at each moment"
        assert {one.path for one in seen} <= files(kept), "and no entry lacks its file"
        kept.prune(LATER_US)
        assert files(kept) == {one.path for one in kept.entries(MACHINE)}
        assert wanted <= files(kept), "a quota that half a round has met is not passed again"
        assert len(files(kept)) <= 11
        assert not [name for name in kept.place.names(".archive") if name.endswith(".json") and "pins" not in name]
    else:
        pytest.fail("it never came through")
    assert changes > 50


def test_two_that_record_the_same_keep_the_same(tmp_path: Path):
    keep = Keep(all_h=2.0, a_day=9, days=None, gb=None, machine_gb=None, machine_frames=25)
    entries = machine_days(4, 96)
    one = opened(tmp_path / "one", keep, entries)
    one.prune(START_US + 5 * DAY_US)
    other = Archive(FolderLocation(tmp_path / "other" / "archive"), changed(keep, machine_frames=None))
    for hour in range(0, 5 * 24, 5):  # as they come, pruned again and again
        put(other, [e for e in entries if hour * HOUR_US <= e.recorded_us - START_US < (hour + 5) * HOUR_US])
        other.prune(START_US + (hour + 5) * HOUR_US)
    other.keep = keep
    other.prune(START_US + 5 * DAY_US)
    assert files(one) == files(other)
