"""Whose recordings are, when they began, and how they are labelled; gates on what came of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from backtest.replay.finding import Finder
from backtest.replay.gates import failures, parse_gate
from backtest.replay.replay_options import ReplayConfig
from backtest.score_store import opened
from recordings.pattern import Pattern
from schemas.errors import RecordingError, SettingsError
from schemas.times import format_rfc3339
from stream_app.worker.champions import Champions
from tests.models import encoded, noise

SECOND = encoded(noise())


def found(folder: Path, tmp_path: Path, champions: Champions, **options) -> list[tuple]:
    """Return machine, source, name, start and label of each recording that can be used, in order."""
    config = ReplayConfig(folder=folder, out=tmp_path / "out", **options)
    with opened(tmp_path / "out", {}, restart=True) as store:
        Finder(config, store, champions.router, lambda _: None).find()
        rows = store.db.execute(
            "SELECT s.machine, s.source, f.name, f.start_us, f.label FROM files f JOIN streams s ON s.id = f.stream "
            "WHERE f.problem IS NULL ORDER BY s.machine, s.source, f.start_us, f.sort_key"
        ).fetchall()
    return [(*row[:3], format_rfc3339(row[3])[:19], row[4]) for row in rows]


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SECOND)
    return folder


def test_recordings_without_times_follow_one_another_normals_first(tmp_path: Path, champions: Champions):
    folder = write(tmp_path / "data", *(f"fan/test/{n}.wav" for n in ("anomaly_1", "normal_10", "normal_9")))
    write(folder, "fan/train/normal_1.wav", "fan/.hidden.wav")
    names = [(row[2], row[3], row[4]) for row in found(folder, tmp_path, champions)]
    assert names == [
        ("fan/test/normal_9.wav", "2026-01-01T00:00:00", "normal"),
        ("fan/test/normal_10.wav", "2026-01-01T00:00:01", "normal"),
        ("fan/test/anomaly_1.wav", "2026-01-01T00:00:02", "anomaly"),
    ]
    by_number = found(folder, tmp_path, champions, order="number", every_s=10.0, start_us=0, include_train=True)
    assert [(row[2][4:], row[3]) for row in by_number] == [
        ("test/anomaly_1.wav", "1970-01-01T00:00:00"),
        ("test/normal_9.wav", "1970-01-01T00:00:10"),
        ("test/normal_10.wav", "1970-01-01T00:00:20"),
        ("train/normal_1.wav", "1970-01-01T00:00:30"),
    ]


def test_a_pattern_says_where_machine_sensor_and_time_are(tmp_path: Path, champions: Champions):
    folder = write(tmp_path / "data", "hall/p7/x_20260131120000.wav", "hall/p7/y_20260131120000.wav", "odd.wav")
    rows = found(folder, tmp_path, champions, pattern="hall/{machine}/{source}_{time}", zone="Europe/Berlin")
    assert [row[:2] + row[3:4] for row in rows] == [
        ("p7", "x", "2026-01-31T11:00:00"),
        ("p7", "y", "2026-01-31T11:00:00"),
    ]
    for template in ("{machine}_{machine}", "{speed}", "a{b"):
        with pytest.raises(SettingsError, match="can't stand there"):
            Pattern(template)


def test_a_csv_file_gives_times_machines_and_sensors(tmp_path: Path, champions: Champions):
    folder = write(tmp_path / "data", "a.wav", "b.wav", "c.wav")
    table = tmp_path / "times.csv"
    table.write_text("path,time,machine,source\na.wav,2026-01-31T12:00:00Z,fan-1,x\nb.wav,2026-01-31T11:00:00Z,,\n")
    rows = found(folder, tmp_path, champions, times=str(table))
    assert [row[:4] for row in rows] == [
        ("data", "", "b.wav", "2026-01-31T11:00:00"),
        ("fan-1", "x", "a.wav", "2026-01-31T12:00:00"),
    ]
    table.write_text("path,time\na.wav,noon\n")
    with pytest.raises(RecordingError, match=r"line 2: time is 'noon'"):
        found(folder, tmp_path, champions, times=str(table))


def test_a_files_time_is_when_its_recording_ended(tmp_path: Path, champions: Champions):
    folder = write(tmp_path / "data", "a.wav")
    os.utime(folder / "a.wav", (1_769_861_000, 1_769_861_000))
    assert found(folder, tmp_path, champions, times="files")[0][3] == "2026-01-31T12:03:19"


def test_a_folder_without_recordings_is_refused(tmp_path: Path, champions: Champions):
    folder = write(tmp_path / "data", "train/normal_1.wav")
    with pytest.raises(RecordingError, match="but for 1 in folders named 'train'"):
        found(folder, tmp_path, champions)
    with pytest.raises(RecordingError, match="is no folder"):
        found(tmp_path / "nowhere", tmp_path, champions)


def test_gates_fail_say_why_and_refuse_what_cannot_be_told():
    summary = {"recall": 0.5, "false_alerts": 2, "auc": None, "normal_frames": 3, "anomalous_frames": 0}
    summary["faults_found"] = 0
    gates = [parse_gate(text) for text in ("recall<0.9", "false_alerts > 2", "false_alerts>=2")]
    assert failures(gates, summary) == ["recall is 0.5: recall<0.9", "false_alerts is 2: false_alerts>=2"]
    with pytest.raises(SettingsError, match="there is no auc; 3 frames are labelled normal and 0 anomaly"):
        failures([parse_gate("auc<0.9")], summary)
    for text in ("recall", "recall<high", "speed<3", "recall=1"):
        with pytest.raises(SettingsError, match="expected such as"):
            parse_gate(text)


def notes(folder: Path, tmp_path: Path, champions: Champions, **options) -> tuple[str, list[str]]:
    """Return where times come from, and what is said."""
    config = ReplayConfig(folder=folder, out=tmp_path / "out", **options)
    with opened(tmp_path / "out", {}, restart=True) as store:
        told = Finder(config, store, champions.router, lambda _: None).find()
    return told.times, list(told.notes)


@pytest.mark.parametrize(
    ("names", "zone", "said"),
    [
        (("20261025_021000", "20261025_031000"), "Europe/Berlin", r"1 of 2 names .*comes twice in Europe/Berlin"),
        (("05.01.2026 120000", "06.01.2026 120000"), "UTC", r"day and month .*--pattern"),
        (("20260131_120000", "clip"), "UTC", r"1 of 2 names .*clip\.wav: its name holds none"),
        (("20251105123456_1", "20251105123456_2"), "UTC", r"would both begin at 2025-11-05T12:34:56"),
    ],
)
def test_names_that_are_no_times_are_not_taken_and_it_says_why(
    names: tuple[str, ...], zone: str, said: str, tmp_path: Path, champions: Champions
):
    folder = write(tmp_path / "data", *(f"p/{name}.wav" for name in names))
    times, told = notes(folder, tmp_path, champions, zone=zone)
    assert times == "pace"
    assert re.search(said, "\n".join(told))


def test_a_stated_form_of_times_is_taken(tmp_path: Path, champions: Champions):
    folder = write(tmp_path / "data", "p/05.01.2026 120000.wav", "p/04.02.2026 120000.wav")
    rows = found(folder, tmp_path, champions, pattern="{machine}/{time:%d.%m.%Y %H%M%S}")
    assert [row[3] for row in rows] == ["2026-01-05T12:00:00", "2026-02-04T12:00:00"]


def test_unclear_labels_and_what_is_no_recording_are_named_and_not_used(tmp_path: Path, champions: Champions):
    folder = write(tmp_path / "data", "Pump 7/test/normal_1.wav", "Pump 7/test/unnormal_2.wav")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "x.wav")
    (folder / os.fsdecode(b"\xff.wav")).write_bytes(SECOND)
    rows = found(folder, tmp_path, champions)
    assert [row[:3] for row in rows] == [("Pump-7", "", "Pump 7/test/normal_1.wav")]
    _, told = notes(folder, tmp_path, champions)
    assert "3 files or folders are passed" in told[1]
    assert "1 recording is not used, such as Pump 7/test/unnormal_2.wav" in told[2]
    assert told[0] == "machine Pump-7 is the folder 'Pump 7'"
