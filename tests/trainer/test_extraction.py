"""Features as a step of its own: what the files hold, what is said of files that can't be used."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import soundfile

from commands import run
from schemas import FeatureConfig
from schemas.errors import RecordingError, SettingsError
from stream_app.pipeline import STATISTICS, Features, resample
from tests.trainer.conftest import vibration, write
from trainer.extraction import CSV, INDEX, PARQUET, SPECTROGRAMS, ExtractionObserver, extract_features
from trainer.feature_files import TABLE_COLUMNS, growing_array
from trainer.train_options import ExtractConfig, FeatureOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine with normal and anomalous recordings, of which one ends in half a frame; and one that nobody owns."""
    folder = tmp_path_factory.mktemp("recordings")
    write(folder / "pump-1" / "train" / "9.wav", vibration(3, 1))
    write(folder / "pump-1" / "train" / "10.wav", vibration(2.5, 2))
    write(folder / "pump-1" / "test" / "anomaly_1.wav", vibration(2, 3, fault=0.3))
    write(folder / "test" / "loose.wav", vibration(2, 4))
    return folder


def _extract(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return extract_features(ExtractConfig(folder=folder, out=out, **changes)).summary()


def test_each_frame_has_the_features_that_a_worker_computes(folder: Path, tmp_path: Path) -> None:
    summary = _extract(folder, tmp_path)
    features = Features(FeatureConfig(**summary["features"]))
    array = np.load(tmp_path / SPECTROGRAMS, mmap_mode="r")
    rows = pq.read_table(tmp_path / PARQUET).to_pylist()
    assert summary["frames"] == len(rows) == 3 + 2 + 2 + 2
    for row in rows:
        samples, rate_hz = soundfile.read(folder / row["recording"], dtype="float32", always_2d=True)
        start = round(row["start_s"] * rate_hz)
        frame = np.ascontiguousarray(samples[start : start + round(row["duration_s"] * rate_hz)].T)
        (log_mel,), (statistics,) = features.log_mel_and_statistics(frame[np.newaxis])
        own = array[row["first_column"] : row["first_column"] + row["columns"]].transpose(1, 2, 0)
        np.testing.assert_array_equal(own, log_mel)
        np.testing.assert_array_equal([row[name] for name in STATISTICS], statistics)
    assert len(array) == sum(row["columns"] for row in rows)


def test_the_table_says_whose_each_frame_is_in_the_recordings_order(folder: Path, tmp_path: Path) -> None:
    _extract(folder, tmp_path)
    rows = pq.read_table(tmp_path / PARQUET).to_pylist()
    assert [(row["machine"], row["recording"], row["frame"], row["start_s"], row["duration_s"]) for row in rows] == [
        ("pump-1", "pump-1/test/anomaly_1.wav", 0, 0, 1),
        ("pump-1", "pump-1/test/anomaly_1.wav", 1, 1, 1),
        ("pump-1", "pump-1/train/9.wav", 0, 0, 1),
        ("pump-1", "pump-1/train/9.wav", 1, 1, 1),
        ("pump-1", "pump-1/train/9.wav", 2, 2, 1),
        ("pump-1", "pump-1/train/10.wav", 0, 0, 1),
        ("pump-1", "pump-1/train/10.wav", 1, 1, 1),
        (None, "test/loose.wav", 0, 0, 1),
        (None, "test/loose.wav", 1, 1, 1),
    ]


def test_the_csv_says_what_the_parquet_says(folder: Path, tmp_path: Path) -> None:
    _extract(folder, tmp_path)
    table = pq.read_table(tmp_path / PARQUET)
    assert tuple(table.column_names) == TABLE_COLUMNS
    with (tmp_path / CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for read, row in zip(rows, table.to_pylist(), strict=True):
        for name, value in row.items():
            assert (read[name] or None) == value if isinstance(value, str | None) else float(read[name]) == value


def test_the_summary_counts_and_is_kept_beside_the_files(folder: Path, tmp_path: Path) -> None:
    summary = _extract(folder, tmp_path / "deep" / "out")
    assert (summary["files"], summary["used"], summary["not_used"]) == (4, 4, [])
    assert (summary["audio_s"], summary["left_over_s"], summary["frame_s"]) == (9.0, 0.5, 1.0)
    assert (summary["machines"], summary["rates_hz"]) == (["pump-1"], {"200": 4})
    assert {Path(path).name for path in summary["out"].values()} == {
        path.name for path in (tmp_path / "deep" / "out").iterdir()
    }
    kept = orjson.loads((tmp_path / "deep" / "out" / INDEX).read_bytes())
    assert kept == orjson.loads(orjson.dumps(summary))


def test_features_and_frames_are_as_asked(folder: Path, tmp_path: Path) -> None:
    options = FeatureOptions(bands=8, n_fft=32, hop=16, window_s=0.5)
    summary = _extract(folder, tmp_path, frame_s=0.5, features=options, machine="press")
    assert np.load(tmp_path / SPECTROGRAMS, mmap_mode="r").shape == tuple(summary["spectrograms_shape"])
    assert summary["spectrograms_shape"][1:] == (3, 8)
    assert (summary["frames"], summary["left_over_s"], summary["machines"]) == (19, 0.0, ["press"])
    with pytest.raises(SettingsError, match="shorter than a window"):
        _extract(folder, tmp_path, frame_s=0.4, features=options)


def test_mixed_rates_and_channels_are_counted_and_brought_to_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stereo = write(tmp_path / "in" / "1.wav", rng.normal(0, 0.1, (32_000, 2)), 16_000)
    write(tmp_path / "in" / "2.flac", rng.normal(0, 0.1, (22_050, 1)), 22_050)
    write(tmp_path / "in" / "3.ogg", rng.normal(0, 0.1, (16_000, 1)), 16_000)
    summary = _extract(tmp_path / "in", tmp_path / "out")
    assert summary["rates_hz"] == {"16000": 2, "22050": 1}
    rows = pq.read_table(tmp_path / "out" / PARQUET).to_pylist()
    assert [(row["recording"], row["signals"]) for row in rows] == [("1.wav", 2)] * 2 + [("2.flac", 1), ("3.ogg", 1)]
    array = np.load(tmp_path / "out" / SPECTROGRAMS, mmap_mode="r")
    features = Features(FeatureConfig(**summary["features"]))
    row = rows[1]
    end = row["first_column"] + row["signals"] * row["columns"]
    both = array[row["first_column"] : end].reshape(row["signals"], row["columns"], 1, -1)
    samples = soundfile.read(stereo, dtype="float32")[0].T[:, 16_000:]
    for signal, channel in zip(both, samples, strict=True):
        expected = features.log_mel(resample(channel[np.newaxis], 16_000, features.config.sample_rate_hz))
        np.testing.assert_array_equal(signal.transpose(1, 2, 0), expected)


def test_frames_that_are_no_signal_are_marked_counted_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = vibration(4, 0)
    faulty[200:400] = 0.0
    faulty[400:600] = 1.0 * np.sign(faulty[400:600])
    write(tmp_path / "in" / "1.wav", vibration(2, 1))
    write(tmp_path / "in" / "2.wav", faulty)
    assert run(["features", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]) == 0
    printed = capsys.readouterr()
    assert orjson.loads(printed.out)["sensor_faults"] == {"flat": 1, "clipped": 1}
    told = "2 of 6 frames have a sensor fault (1 clipped, 1 flat), the first in 2.wav at 1 s"
    assert told in " ".join(printed.err.split())
    rows = pq.read_table(tmp_path / "out" / PARQUET).to_pylist()
    assert [row["sensor_fault"] for row in rows] == [None, None, None, "flat", "clipped", None]


def test_each_table_without_a_rate_counts_as_a_file(tmp_path: Path) -> None:
    write(tmp_path / "in" / "1.wav", vibration(2, 1))
    for number in range(3):
        (tmp_path / "in" / f"{number}.csv").write_text("\n".join(map(str, vibration(1, number)[:, 0])))
    summary = _extract(tmp_path / "in", tmp_path / "out")
    assert (summary["files"], summary["used"], len(summary["not_used"])) == (4, 1, 1)


def test_files_that_cannot_be_used_are_named_and_skipped_or_fatal(tmp_path: Path) -> None:
    write(tmp_path / "in" / "good.wav", vibration(2, 0))
    write(tmp_path / "in" / "flat.wav", np.zeros((400, 3), np.float32))
    torn = write(tmp_path / "in" / "torn.flac", vibration(60, 0))
    torn.write_bytes(torn.read_bytes()[:5000])  # the header promises what the file doesn't hold
    (tmp_path / "in" / "noise.wav").write_bytes(b"no audio at all")
    heard: list[int] = []
    observer = ExtractionObserver()
    observer.on_recording = heard.append  # type: ignore[assignment,method-assign]
    config = ExtractConfig(folder=tmp_path / "in", out=tmp_path / "out")
    summary: Any = extract_features(config, observer).summary()
    assert (summary["files"], summary["used"], summary["frames"]) == (4, 1, 2)
    assert {problem["name"] for problem in summary["not_used"]} == {"flat.wav", "torn.flac", "noise.wav"}
    assert all(problem["reason"] for problem in summary["not_used"])
    assert heard
    assert max(heard) <= 2  # of the two that could be opened
    (tmp_path / "in" / "noise.wav").unlink()
    torn.unlink()
    with pytest.raises(RecordingError, match=r"1 of the files.*flat\.wav: flat"):
        _extract(tmp_path / "in", tmp_path / "fatal", on_error="fail")
    assert list((tmp_path / "fatal").iterdir()) == []


def test_a_folder_without_usable_audio_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(RecordingError, match=r"no audio in .*\.wav \.flac"):
        _extract(tmp_path / "in", tmp_path / "out")
    write(tmp_path / "in" / "flat.wav", np.zeros((400, 3), np.float32))
    with pytest.raises(RecordingError, match=r"no usable recording; .*flat\.wav"):
        _extract(tmp_path / "in", tmp_path / "out")


def test_an_earlier_extraction_is_replaced_by_a_complete_one_alone(folder: Path, tmp_path: Path) -> None:
    _extract(folder, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path / "other" / "flat.wav", np.zeros((400, 3), np.float32))
    with pytest.raises(RecordingError):
        _extract(tmp_path / "other", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    _extract(folder, tmp_path, frame_s=2.0)
    assert (tmp_path / CSV).read_bytes() != before[CSV]


def test_an_array_grows_beyond_any_digit_of_its_length(tmp_path: Path) -> None:
    with growing_array(tmp_path / "a.npy", 2, 3) as array:
        for _ in range(12):
            array.append(np.ones((100, 2, 3), np.float32))
        with pytest.raises(ValueError, match=r"shape \(1, 3, 2\); expected \(n, 2, 3\)"):
            array.append(np.ones((1, 3, 2), np.float32))
    assert np.load(tmp_path / "a.npy", mmap_mode="r").shape == (1200, 2, 3)
    with growing_array(tmp_path / "empty.npy", 4):
        pass
    assert np.load(tmp_path / "empty.npy").shape == (0, 4)


def test_the_command_prints_one_json_object(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = run(["features", str(folder), "--out", str(tmp_path), "--frame-s", "1", "--bands", "16", "--json"])
    printed = capfd.readouterr()
    assert (code, printed.err) == (0, "note: 1 recording has no machine, others have one: test/loose.wav\n")
    (line,) = printed.out.splitlines()
    summary = orjson.loads(line)
    assert (summary["frames"], summary["features"]["bands"]) == (9, 16)
    assert all(Path(path).is_file() for path in summary["out"].values())


def test_the_command_tells_people_what_it_did(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["features", str(folder), "--out", str(tmp_path)]) == 0
    printed = capfd.readouterr().out
    expected = (
        "4 recordings of 1 machine",
        "200 Hz, 3 channels",
        "9 frames, 9 s of audio from 4 of 4 files",
        PARQUET,
    )
    for text in (*expected, "0.5 s at the ends"):
        assert text in printed
    assert run(["features", str(folder), "--out", str(tmp_path / "file")]) == 2
    assert "expected a folder" in capfd.readouterr().err
