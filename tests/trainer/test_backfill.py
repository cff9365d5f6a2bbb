"""Recordings made before, in the feature store's history: their times, and the means that a worker would have had."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from commands import run
from feature_repo import fields
from feature_repo.history import History
from recordings.name_times import time_in
from schemas.errors import RecordingError, SettingsError
from stream_app.pipeline.rolling import RollingMean
from stream_app.pipeline.statistics import STATISTICS
from tests.trainer.conftest import vibration, write
from trainer.backfill import backfill, recording_times
from trainer.extraction import PARQUET, Extracted, extract_features
from trainer.recording_set import Recording
from trainer.train_options import ExtractConfig

START = "2026-01-31T12:00:00Z"
START_US = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write(folder / "pump-1" / "9.wav", vibration(3, 1))
    write(folder / "pump-1" / "10.wav", vibration(2.5, 2))
    write(folder / "pump-2" / "1.wav", vibration(2, 3))
    return folder


@pytest.fixture(scope="module")
def extracted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Extracted:
    return extract_features(ExtractConfig(folder=folder, out=tmp_path_factory.mktemp("out")))


def recording(name: str, seconds: float = 1.0, machine: str | None = "m") -> Recording:
    samples, start = round(10 * seconds), time_in(Path(name).stem, UTC)
    return Recording(path=Path(name), name=name, machine=machine, rate_hz=10, channels=1, samples=samples, start=start)


def test_recordings_follow_each_other_from_the_start_of_each_machine():
    recordings = [recording("a/1.wav", 2.5), recording("a/2.wav"), recording("b/1.wav", machine="n")]
    assert recording_times(recordings, 100) == {"a/1.wav": 100, "a/2.wav": 2_500_100, "b/1.wav": 100}


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("a/2026-01-31T12-00-00.wav", START_US),
        ("a/pump7_20260131_120000_001.flac", START_US + 1000),
        ("a/20260131120000.wav", START_US),
        ("a/2026-01-31 12.00.00,25.ogg", START_US + 250_000),
        ("2025-01-01_00-00-00/99999999-20260131T120000Z.wav", START_US),
    ],
)
def test_names_say_times(name: str, at: int):
    assert recording_times([recording(name)]) == {name: at}


@pytest.mark.parametrize("name", ["a/1.wav", "a/20261331T120000.wav", "2026-01-31T12-00-00/1.wav"])
def test_a_name_without_a_time_asks_for_a_start(name: str):
    with pytest.raises(SettingsError, match=r"its name says no time such as .*; give --start"):
        recording_times([recording(name)])


def test_a_recording_that_is_nobodys_is_refused():
    with pytest.raises(RecordingError, match=r"loose.wav: no folder says whose it is; give --machine"):
        recording_times([recording("loose.wav", machine=None)], 0)


def test_each_frame_becomes_a_row_with_the_means_of_a_worker(extracted: Extracted, tmp_path: Path):
    import pyarrow.parquet as pq

    done = backfill(extracted, tmp_path / "history", START_US)
    assert (done.rows, done.machines, done.late) == (3 + 2 + 2, ("pump-1", "pump-2"), 0)
    assert (done.first_us, done.last_us) == (START_US, START_US + 4_000_000)
    rows = History(tmp_path / "history").rows(machines=["pump-1"]).to_pylist()
    assert [row[fields.EVENT_TIMESTAMP].timestamp() * 1e6 - START_US for row in rows] == [0, 1e6, 2e6, 3e6, 4e6]
    assert [row["frames_seen"] for row in rows] == [1, 2, 3, 4, 5]
    assert {row["score_mean"] for row in rows} == {row["alert_state"] for row in rows} == {None}
    table = [row for row in pq.read_table(extracted.out / PARQUET).to_pylist() if row["machine"] == "pump-1"]
    rolling = RollingMean(0.0, np.zeros(len(STATISTICS)))
    for number, (row, frame) in enumerate(zip(rows, table, strict=True)):
        rolling = rolling.updated(np.array([frame[name] for name in STATISTICS]), 1_000_000 if number else 0)
        np.testing.assert_allclose([row[name] for name in STATISTICS], rolling.mean, rtol=1e-12)


def test_repeating_a_backfill_changes_nothing(extracted: Extracted, tmp_path: Path):
    backfill(extracted, tmp_path, START_US)
    before = History(tmp_path).rows().drop_columns([fields.CREATED_TIMESTAMP])
    backfill(extracted, tmp_path, START_US)
    assert History(tmp_path).rows().drop_columns([fields.CREATED_TIMESTAMP]).equals(before)


def test_recordings_that_overlap_are_written_once_and_counted(tmp_path: Path):
    write(tmp_path / "in" / "20260131T120000.wav", vibration(3, 1))
    write(tmp_path / "in" / "20260131T120001.wav", vibration(3, 2))
    found = extract_features(ExtractConfig(folder=tmp_path / "in", out=tmp_path / "out", machine="m"))
    done = backfill(found, tmp_path / "history")
    assert (done.rows, done.late) == (4, 2)


def test_the_command_writes_history_and_no_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(fields.HISTORY_VARIABLE, str(tmp_path / "history"))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert run(["features", str(folder), "--to-feast"]) == 2
    assert "give --start" in capsys.readouterr().err
    assert run(["features", str(folder), "--to-feast", "--start", START]) == 0
    printed = capsys.readouterr()
    assert "history    7 rows of 2 machines, 2026-01-31T12:00:00Z to 2026-01-31T12:00:04Z" in printed.out
    assert "a worker keeps 30 days of history" in printed.err
    assert set(tmp_path.iterdir()) - before == {tmp_path / "history"}
    assert run(["features", str(folder), "--to-feast", "--start", START, "--machine", "pump-3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["history"]["machines"] == ["pump-3"]
    assert run(["features", str(folder)]) == 2
    assert "neither --out nor --to-feast is given" in capsys.readouterr().err
