"""What is kept comes back: by entries, as files, and as a folder that every command reads."""

from __future__ import annotations

import builtins
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import fsspec
import numpy as np
import pytest

import archive
from archive.archive import Archive
from archive.entries import file_name, folder_of, from_csv, name_of, parse_file_name, to_csv
from archive.index_parts import INDEX
from archive.places import FolderLocation, ObjectLocation, place_of
from recordings import decode
from recordings.naming import MetadataResolver
from schemas.condition import UNKNOWN, Condition
from schemas.errors import ServiceUnavailable, SettingsError
from schemas.frame import parse_frame
from tests.archive.kept import MACHINE, DyingLocation, Killed, added, entry, frame, put
from tests.models import START_US, encoded, record
from trainer.recording_set import find_recordings


@pytest.fixture(params=["folder", "memory"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    url = f"memory://{uuid4().hex}/whirr" if request.param == "memory" else str(tmp_path / "archive")
    return archive.open(url)


def test_what_is_kept_comes_back_without_opening_a_file(kept: Archive):
    records = [frame(n, condition=Condition(1480.5, 62.0) if n % 2 else UNKNOWN) for n in range(6)]
    added(kept, records[3:])
    added(kept, records[:4])  # one of them again
    found = kept.entries(MACHINE)
    frames = [parse_frame(one) for one in records]
    assert [one.frame_id for one in found] == [one.frame_id for one in frames]
    assert [one.recorded_us for one in found] == [one.recorded_us for one in frames]
    assert [one.condition for one in found] == [one.condition for one in frames]
    assert {(one.duration_s, one.rate_hz, one.channels) for one in found} == {(0.5, 16_000, 1)}
    assert all(abs(one.level_dbfs + 26) < 0.5 for one in found)
    assert kept.machines() == [MACHINE]
    assert kept.entries("pump-2") == []


@pytest.mark.parametrize(
    "damage", [b"a\rb,1\n", b"x" * 200_000 + b"\n", b"\0\xff\n", b"a,2026-01-31T12:00:00Z\n", b"cut"]
)
def test_a_damaged_line_of_the_index_costs_no_other(damage: bytes):
    good = entry(0), entry(1)
    first, *lines = to_csv(good).splitlines(keepends=True)
    assert list(from_csv(b"".join((first, lines[0], damage, b"\n", lines[1])))) == list(good)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"replaces": 5}'])
def test_a_damaged_note_of_a_merge_costs_no_frame(kept: Archive, note: bytes):
    put(kept, [entry(0), entry(1)])
    (part,) = kept.place.names(INDEX)
    kept.place.write({part.removesuffix(".csv") + ".json": note})
    assert len(kept.entries(MACHINE)) == 2


def test_a_part_of_the_index_that_was_cut_off_gives_what_is_whole():
    assert list(from_csv(to_csv([entry(0), entry(1)]).rpartition(b",")[0])) == [entry(0)]


def test_entries_of_a_time_are_those_that_began_in_it(kept: Archive):
    put(kept, [entry(seconds) for seconds in (0, 3600, 86_399, 86_400, 200_000)])
    day_us = START_US + 86_400_000_000
    assert len(kept.entries(MACHINE, START_US + 1, day_us)) == 2
    assert [one.recorded_us for one in kept.entries(MACHINE, day_us, day_us + 1)] == [day_us]
    assert len(kept.entries(MACHINE, until_us=day_us + 1)) == 4


def test_a_wav_becomes_a_flac_where_that_is_exact_and_else_stays():
    quiet = (0.2 * np.sin(np.arange(8000) / 20))[np.newaxis]
    for subtype, suffix in (("PCM_16", "flac"), ("PCM_24", "flac"), ("PCM_32", "wav"), ("FLOAT", "wav")):
        sent = record(encoded(quiet, subtype=subtype), MACHINE, START_US)
        one = archive.kept_frame(sent)
        assert one.entry.path.endswith(suffix), subtype
        assert (one.value == sent.value) is (suffix == "wav")
        assert np.array_equal(decode(one.value).samples, decode(sent.value or b"").samples)
        assert one.entry.bytes == len(one.value) <= len(sent.value or b"")
        assert one.entry.frame_id == parse_frame(sent).frame_id
        assert archive.kept_frame(sent, "as_sent").value == sent.value


def test_a_fetched_folder_is_one_that_trains(kept: Archive, tmp_path: Path):
    records = [frame(n, "normal", "test/2026-01-01", Condition(1500.0, None)) for n in range(3)]
    added(kept, [*records, frame(9, "pump-2")])
    entries = kept.entries("normal")
    fetched = kept.fetch(entries, tmp_path / "out")
    assert not fetched.gone
    assert [path.read_bytes()[:4] for path in fetched.paths] == [b"fLaC"] * 3
    found = find_recordings(tmp_path / "out")
    assert [one.machine for one in found.recordings] == ["normal"] * 3
    assert [one.start for one in found.recordings] == [one.recorded_us for one in entries]
    assert {one.condition for one in found.recordings} == {Condition(1500.0, None)}
    known = MetadataResolver(tmp_path / "out")
    assert known.known(entries[0].path).source == "test/2026-01-01"
    # More of it, into the same folder; what was removed meanwhile is told.
    more = kept.entries("pump-2")
    assert len(kept.fetch([*more, entry(5)], tmp_path / "out").gone) == 1
    assert len(find_recordings(tmp_path / "out").recordings) == 4


def test_an_archive_that_is_a_folder_is_one_that_trains(tmp_path: Path):
    kept = archive.open(str(tmp_path / "archive"))
    added(kept, [frame(n, machine, "mic", Condition(900.0, 5.0)) for n in range(4) for machine in ("test", "pump:2")])
    kept.prune(START_US + 40 * 3600 * 1_000_000)
    found = find_recordings(tmp_path / "archive")
    assert found.machines == {"test": 4, "pump:2": 4}
    assert {one.condition for one in found.recordings} == {Condition(900.0, 5.0)}
    assert not found.problems
    assert not found.notes


def test_from_a_folder_files_are_linked(tmp_path: Path):
    kept = archive.open(str(tmp_path / "archive"))
    added(kept, [frame(0)])
    (path,) = kept.fetch(kept.entries(MACHINE), tmp_path / "out").paths
    assert path.stat().st_nlink == 2


@pytest.mark.parametrize("name", ["pump-1", "..", ".hidden", "normal", "test", "2026-01-01", "a/b", "Pumpe 7%", "x:y"])
def test_names_stand_for_themselves(name: str):
    folder = folder_of(name)
    assert name_of(folder) == name
    assert "/" not in folder
    assert not folder.startswith(".")
    path = file_name("pump-1", name, START_US, "0" * 32, "flac")
    assert parse_file_name(path).source == name
    assert parse_file_name(path).recorded_us == START_US


def test_a_frames_file_follows_from_its_identity():
    one, again = archive.kept_frame(frame(1)).entry, archive.kept_frame(frame(1)).entry
    assert one == again
    assert one.path == f"pump-1/2026-01-01/20260101T000001.000000Z_{one.frame_id}.flac"


def test_a_store_whose_package_is_missing_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch):
    imported = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name.partition(".")[0] in ("s3fs", "gcsfs", "adlfs"):
            raise ImportError(name)
        return imported(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    for url, package in (("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs"), ("abfs://b/x", "adlfs")):
        with pytest.raises(SettingsError, match=rf"'{url}'.*pip install {package}"):
            place_of(url)
    with pytest.raises(SettingsError, match=r"nosuch://x.*nosuch"):
        place_of("nosuch://x")
    with pytest.raises(SettingsError, match="expected a folder, or a URL"):
        place_of(" ")


def test_what_a_store_raises_says_which_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    place = ObjectLocation("memory://x")

    def away(*_: object, **__: object) -> None:
        raise RuntimeError("EndpointConnectionError: no such host")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "cat_file", away)
    with pytest.raises(ServiceUnavailable, match=r"'memory://x'.*no such host"):
        place.read("a")
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceUnavailable, match="file"):
        FolderLocation(tmp_path / "file").write({"a/b": b""})


def test_a_place_is_a_place(kept: Archive):
    place = kept.place
    assert place.names("") == []
    assert place.read("a/b") is None
    place.remove(["a/b", "c"])
    place.write({"a/b": b"1", "a/c/d": b"2", "e": b"3"})
    assert place.names("") == ["a/b", "a/c/d", "e"]
    assert place.names("a") == ["a/b", "a/c/d"]
    place.write({"a/b": b"4"})
    assert place.read("a/b") == b"4"
    place.remove(["nothing", "a/c/d", "e"])
    assert place.names("") == ["a/b"]


def test_mending_brings_files_and_index_together(kept: Archive):
    whole = added(kept, [frame(n, source="mic") for n in range(4)])
    lost = archive.kept_frame(frame(8, source="mic"))
    torn = archive.kept_frame(frame(9, source="mic"))
    kept.place.write({lost.entry.path: lost.value, torn.entry.path: torn.value[:50], "notes.txt": b"by hand"})
    kept.place.remove([whole[1].entry.path])
    assert kept.mend() == archive.Mended(listed=1, unusable=1, dropped=1)
    assert kept.entries(MACHINE) == [whole[0].entry, whole[2].entry, whole[3].entry, lost.entry]
    assert kept.place.read(torn.entry.path) is None
    assert kept.place.read("notes.txt") == b"by hand"
    assert kept.mend() == archive.Mended(0, 0, 0)


@pytest.mark.parametrize("changes", range(12))
def test_a_recorder_that_dies_anywhere_loses_and_repeats_nothing(changes: int, tmp_path: Path):
    place = FolderLocation(tmp_path / "archive")
    first, then = [frame(n) for n in range(2)], [frame(n) for n in range(2, 5)]
    added(Archive(place), first)
    try:
        added(Archive(DyingLocation(place, changes)), then)
        acknowledged = True
    except Killed:
        acknowledged = False
    seen = [one.frame_id for one in Archive(place).entries(MACHINE)]
    assert seen[:2] == [parse_frame(one).frame_id for one in first]
    assert len(seen) in ((5,) if acknowledged else (2, 5))
    assert all(place.read(one.path) for one in Archive(place).entries(MACHINE))
    added(Archive(place), then)  # what wasn't acknowledged comes again
    again = Archive(place).entries(MACHINE)
    assert [one.frame_id for one in again] == [parse_frame(one).frame_id for one in (*first, *then)]
    files = [name for name in place.names("") if not name.startswith(".archive")]
    assert len(files) == 5


def test_a_summary_says_what_there_is(kept: Archive):
    put(kept, [entry(n, -30.0 if n < 8 else -60.0, size=100) for n in range(10)])
    kept.pin(MACHINE, START_US, START_US + 2_000_000, "baseline")
    kept.pin("pump-9", START_US, None, "baseline")
    found = kept.summary()
    assert list(found) == [MACHINE, "pump-9"]
    told = SimpleNamespace(**found[MACHINE])
    assert (told.files, told.seconds, told.bytes, told.pinned_files) == (10, 10.0, 1000, 2)
    assert (told.oldest_us, told.newest_us) == (START_US, START_US + 9_000_000)
    assert sum(told.states.values()) == 10
    assert {state.split()[0] for state in told.states} == {"-30dB", "-60dB"}
    assert found["pump-9"]["files"] == 0


def test_the_index_is_plain_csv(tmp_path: Path):
    added(archive.open(str(tmp_path)), [frame(0, source="mic")])
    (part,) = (tmp_path / INDEX).glob("*/*/*.csv")
    head, row = part.read_text().splitlines()
    assert head.startswith("path,time,machine,source,label,frame_id,rpm,load,duration_s,bytes")
    assert ",2026-01-01T00:00:00.000000Z,pump-1,mic,," in row
