"""The history on disk: appended, read, merged, removed, and whole after whatever kills a worker."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feature_repo import fields
from feature_repo.history import History, HistoryWriter, maintain, upkeep, write_rows
from feature_repo.history import journal as journal_module
from feature_repo.history.parquet_files import files_of
from feature_repo.rows import FeatureRow
from tests.helpers import REPOSITORY

DAY = date(2026, 1, 31)
DAY_START_US = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp()) * 1_000_000


def row(
    machine: str, second: float, value: float = 1.0, source: str = "", created_s: float | None = None
) -> FeatureRow:
    """A row at a second of the day; ``value`` is in all its numbers."""
    at_us = DAY_START_US + round(second * 1e6)
    values = tuple(
        value if f.kind == "float64" else int(value) if f.kind == "int64" else f"{value:g}" for f in fields.FIELDS
    )
    return FeatureRow(machine, source, at_us, at_us if created_s is None else round(created_s * 1e6), values)


def time(second: float) -> datetime:
    return datetime(2026, 1, 31, tzinfo=UTC) + timedelta(seconds=second)


def read(folder: Path, feature: str = "rms_mean") -> list[tuple[str, float, float]]:
    """Return machine, second of the day and a feature of each row."""
    table = History(folder).rows(columns=[feature])
    times = table[fields.EVENT_TIMESTAMP].cast("int64").to_pylist()
    seconds = [(us - DAY_START_US) / 1e6 for us in times]
    return list(zip(table[fields.ENTITY].to_pylist(), seconds, table[feature].to_pylist(), strict=True))


def names(folder: Path, day: date = DAY) -> list[str]:
    return [path.name.partition("-")[0] for path in files_of(folder, day)]


def test_rows_can_be_read_at_once_and_become_one_file_a_day(tmp_path: Path):
    writer = HistoryWriter(tmp_path)
    assert not History(tmp_path).days()
    writer.append([row("b", 1), row("a", 2, 2.5)])
    writer.append([row("a", 86_400.5, 3.0)])  # the next day
    expected = [("a", 2, 2.5), ("a", 86_400.5, 3.0), ("b", 1, 1.0)]
    assert read(tmp_path) == expected
    assert names(tmp_path) == []
    writer.close()
    assert read(tmp_path) == expected
    assert names(tmp_path) == names(tmp_path, DAY + timedelta(days=1)) == ["part"]
    assert not list((tmp_path / "_journal").glob("*.journal"))


def test_a_part_is_written_after_a_while_or_after_many_rows(tmp_path: Path):
    now_s = 0.0
    writer = HistoryWriter(tmp_path, part_s=60, part_rows=5, now_s=lambda: now_s)
    writer.append([row("a", 1)])
    now_s = 59.9
    writer.append([row("a", 2)])
    assert names(tmp_path) == []
    now_s = 60.0
    writer.append([row("a", 3)])
    assert names(tmp_path) == ["part"]
    writer.append([row("a", second) for second in range(4, 8)])
    assert names(tmp_path) == ["part"]
    writer.append([row("a", 8)])
    assert names(tmp_path) == ["part", "part"]
    assert [second for _, second, _ in read(tmp_path)] == list(range(1, 9))


def test_every_kind_of_value_comes_back_as_it_was_and_what_is_not_known_is_null(tmp_path: Path):
    values: tuple[Any, ...] = tuple(
        {"float64": 0.1 + i, "int64": 2**40 + i, "string": "närmst"}[f.kind] for i, f in enumerate(fields.FIELDS)
    )
    unknown = tuple(None for _ in fields.FIELDS)
    write_rows(
        tmp_path, [FeatureRow("a", "mic", DAY_START_US, 5, values), FeatureRow("b", "", DAY_START_US, 6, unknown)]
    )
    known, empty = History(tmp_path).rows().to_pylist()
    assert tuple(known[field.name] for field in fields.FIELDS) == values
    assert (known["source"], known["event_timestamp"], known["created_timestamp"]) == (
        "mic",
        time(0),
        datetime(1970, 1, 1, microsecond=5, tzinfo=UTC),
    )
    assert {empty[field.name] for field in fields.FIELDS} == {None}


def test_of_a_row_that_was_written_twice_the_one_created_last_is_read(tmp_path: Path):
    write_rows(tmp_path, [row("a", 1, 2.0, created_s=20)])
    write_rows(tmp_path, [row("a", 1, 1.0, created_s=10), row("a", 1, 3.0, source="mic", created_s=5)])
    assert sorted(value for _, _, value in read(tmp_path)) == [2.0, 3.0]  # another source is another row


def test_machines_times_and_features_can_be_chosen(tmp_path: Path):
    write_rows(tmp_path, [row(machine, second) for machine in "abc" for second in (10, 20, 86_410)])
    history = History(tmp_path)
    chosen = history.rows(start=time(20), end=time(86_409), machines=["a", "c"], columns=["gaps"])
    assert chosen.column_names == ["machine_id", "source", "event_timestamp", "created_timestamp", "gaps"]
    assert chosen["machine_id"].to_pylist() == ["a", "c"]
    assert history.rows(machines=["nobody"]).num_rows == 0
    latest = history.latest(end=time(86_409), columns=[])
    assert list(zip(latest["machine_id"].to_pylist(), latest["event_timestamp"].to_pylist(), strict=True)) == [
        (machine, time(20)) for machine in "abc"
    ]
    with pytest.raises(KeyError, match="no feature is named 'rms'; known are rms_mean,"):
        history.rows(columns=["rms"])


def test_only_the_days_asked_for_are_opened(tmp_path: Path):
    write_rows(tmp_path, [row("a", 10), row("a", 86_410)])
    files_of(tmp_path, DAY)[0].write_bytes(b"damaged")
    assert History(tmp_path).rows(start=time(86_400)).num_rows == 1


def test_rows_of_a_stream_that_are_too_close_are_left_out_if_wished(tmp_path: Path):
    writer = HistoryWriter(tmp_path, every_s=10)
    writer.append([row("a", 0), row("a", 5), row("b", 5)])
    writer.append([row("a", 9.9), row("a", 10), row("b", 15.1), row("b", 15, source="mic")])
    writer.close()
    assert [(machine, second) for machine, second, _ in read(tmp_path)] == [
        ("a", 0),
        ("a", 10),
        ("b", 5),
        ("b", 15),
        ("b", 15.1),
    ]


# Whatever kills a worker

APPEND_AND_DIE = """
import os, pickle, sys
from pathlib import Path
from feature_repo.history import HistoryWriter
writer = HistoryWriter(Path(sys.argv[1]))
for rows in pickle.load(sys.stdin.buffer):
    writer.append(rows)
os.kill(os.getpid(), 9)
"""


def killed_after(folder: Path, batches: Sequence[Sequence[FeatureRow]]) -> None:
    import pickle

    command = [sys.executable, "-c", APPEND_AND_DIE, str(folder)]
    ended = subprocess.run(command, input=pickle.dumps(batches), cwd=REPOSITORY, check=False)
    assert ended.returncode == -9


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_that_was_appended(tmp_path: Path):
    killed_after(tmp_path, [[row("a", 1)], [row("b", 2), row("b", 86_400)]])
    expected = [("a", 1, 1.0), ("b", 2, 1.0), ("b", 86_400, 1.0)]
    assert read(tmp_path) == expected
    writer = HistoryWriter(tmp_path)
    writer.append([row("c", 3)])
    assert names(tmp_path) == ["part"]  # the dead worker's; the living one's are in its journal
    assert read(tmp_path) == [*expected, ("c", 3, 1.0)]
    writer.close()


@pytest.mark.slow
def test_a_torn_record_costs_only_itself(tmp_path: Path):
    killed_after(tmp_path, [[row("a", 1)], [row("a", 2)]])
    (journal,) = (tmp_path / "_journal").glob("*.journal")
    journal.write_bytes(journal.read_bytes()[:-7])
    assert [second for _, second, _ in read(tmp_path)] == [1]
    maintain(tmp_path, day=DAY)
    assert [second for _, second, _ in read(tmp_path)] == [1]
    assert not journal.exists()


def test_a_worker_killed_while_it_wrote_a_part_writes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer = HistoryWriter(tmp_path)
    writer.append([row("a", 1), row("a", 86_401)])
    (path,) = journal_module.journals(tmp_path)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "killed here")))
    writer.flush()
    monkeypatch.undo()
    assert path.exists()
    assert names(tmp_path) == ["part"]
    assert [second for _, second, _ in read(tmp_path)] == [1, 86_401]
    writer.flush()
    assert not path.exists()
    assert names(tmp_path) == ["part"]
    assert [second for _, second, _ in read(tmp_path)] == [1, 86_401]


def test_a_journal_that_is_in_use_is_left_alone(tmp_path: Path):
    writers = [HistoryWriter(tmp_path) for _ in range(2)]
    for number, writer in enumerate(writers):
        writer.append([row(f"m{number}", 1)])
    maintain(tmp_path, day=DAY)
    assert len(journal_module.journals(tmp_path)) == 2
    for writer in writers:
        writer.close()
    assert [machine for machine, _, _ in read(tmp_path)] == ["m0", "m1"]


def test_rows_that_cant_be_kept_are_refused_whole_and_can_be_handed_over_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    writer = HistoryWriter(tmp_path, every_s=1)
    writer.append([row("a", 1)])
    stat = os.fstat
    broken = threading.Event()

    def full(descriptor: int) -> os.stat_result:
        if broken.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return stat(descriptor)

    monkeypatch.setattr(os, "fstat", full)
    broken.set()
    with pytest.raises(OSError, match="No space left"):
        writer.append([row("a", 2)])
    broken.clear()
    writer.append([row("a", 2)])
    writer.close()
    assert [second for _, second, _ in read(tmp_path)] == [1, 2]


def test_a_folder_that_cant_be_made_is_an_error_until_it_can(tmp_path: Path):
    (tmp_path / "history").write_text("a file in the way")
    writer = HistoryWriter(tmp_path / "history")
    with pytest.raises(OSError, match="history"):
        writer.append([row("a", 1)])
    (tmp_path / "history").unlink()
    writer.append([row("a", 1)])
    assert read(tmp_path / "history") == [("a", 1, 1.0)]
    writer.close()


# Upkeep


def test_the_parts_of_a_day_that_is_over_are_merged(tmp_path: Path):
    for second in (3, 1, 2):
        write_rows(tmp_path, [row("a", second), row("b", second)])
    write_rows(tmp_path, [row("a", 1, 9.0, created_s=4e9)])
    write_rows(tmp_path, [row("a", 86_401)])
    before = read(tmp_path)
    maintain(tmp_path, day=DAY + timedelta(days=1))
    assert names(tmp_path) == ["merged"]
    assert names(tmp_path, DAY + timedelta(days=1)) == ["part"]
    assert read(tmp_path) == before
    assert before[0] == ("a", 1, 9.0)
    stamps = {path: path.stat().st_mtime_ns for path in files_of(tmp_path, DAY)}
    maintain(tmp_path, day=DAY + timedelta(days=1))
    assert {path: path.stat().st_mtime_ns for path in files_of(tmp_path, DAY)} == stamps  # nothing to do, nothing done


def test_many_parts_of_the_day_that_is_being_written_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkeep, "OPEN_DAY_PARTS", 3)
    for second in range(4):
        write_rows(tmp_path, [row("a", second)])
    maintain(tmp_path, day=DAY)
    assert names(tmp_path) == ["merged"]
    write_rows(tmp_path, [row("a", 5)])
    maintain(tmp_path, day=DAY)
    assert names(tmp_path) == ["merged", "part"]
    assert len(read(tmp_path)) == 5


def test_merged_files_stay_of_a_size_that_fits_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkeep, "MERGED_ROWS", 10)
    for second in range(7):
        write_rows(tmp_path, [row(machine, second) for machine in "abc"])
    write_rows(tmp_path, [row(f"m{number}", 9) for number in range(9)])
    before = read(tmp_path)
    maintain(tmp_path, day=DAY + timedelta(days=1))
    assert sorted(names(tmp_path)) == ["merged", "merged", "part", "part"]
    assert read(tmp_path) == before


def test_days_beyond_the_wanted_are_removed(tmp_path: Path):
    write_rows(tmp_path, [row("a", 86_400 * number) for number in range(-3, 1)])
    maintain(tmp_path, keep_days=2, day=DAY)
    assert History(tmp_path).days() == [DAY - timedelta(days=1), DAY]
    assert [second for _, second, _ in read(tmp_path)] == [-86_400, 0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "_journal",
        "day=2026-01-30",
        "day=2026-01-31",
    ]
    maintain(tmp_path, day=DAY + timedelta(days=400))
    assert len(read(tmp_path)) == 2


def test_what_a_reader_is_at_may_be_merged_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for second in range(3):
        write_rows(tmp_path, [row("a", second)])
    from feature_repo.history import reader
    from feature_repo.history.parquet_files import files_of

    listed = files_of
    tidied = []

    def list_then_merge(folder: Path, day: date) -> list[Path]:
        files = listed(folder, day)
        if not tidied:
            tidied.append(day)
            maintain(tmp_path, day=DAY + timedelta(days=1))
        return files

    monkeypatch.setattr(reader, "files_of", list_then_merge)
    assert [second for _, second, _ in read(tmp_path)] == [0, 1, 2]
    assert tidied


def test_workers_that_write_read_and_tidy_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkeep, "OPEN_DAY_PARTS", 2)
    monkeypatch.setattr("feature_repo.history.writer.UPKEEP_S", 0.0)
    seen: list[int] = []
    done = threading.Event()

    def write(worker: int) -> None:
        writer = HistoryWriter(tmp_path, part_rows=3)
        for second in range(15):
            writer.append([row(f"m{worker}", second)])
        writer.close()

    def watch() -> None:
        while not done.is_set():
            seen.append(len(read(tmp_path)))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    watcher = threading.Thread(target=watch)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert seen == sorted(seen)  # nothing that could be read vanishes while files are merged
    assert len(read(tmp_path)) == 45
