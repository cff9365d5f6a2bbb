"""Vibration as tables of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.helpers import REPOSITORY
from whirr.errors import RecordingError
from whirr.recordings import is_table, read_recording, recording_info

RNG = np.random.default_rng(5)
SIGNAL_G = RNG.normal(0, 3, 4000)
MFPT = REPOSITORY.parent / "shared" / "data" / "mfpt"


def _read(path: Path) -> tuple[np.ndarray, int]:
    audio = read_recording(path)
    info = recording_info(path)
    assert (info.channels, info.samples, info.rate_hz) == (*audio.samples.shape, audio.rate_hz)
    return audio.samples * 64, audio.rate_hz


def test_a_bearing_of_mfpt(tmp_path: Path) -> None:
    path = tmp_path / "InnerRaceFault_vload_1.mat"
    bearing = {"sr": 48_828, "rate": 25, "load": "0", "gs": SIGNAL_G[:, np.newaxis]}
    savemat(path, {"bearing": bearing, "BPFO": 81.12})
    samples, rate_hz = _read(path)
    assert rate_hz == 48_828
    np.testing.assert_allclose(samples, SIGNAL_G[np.newaxis], rtol=1e-6)


@pytest.mark.skipif(not MFPT.is_dir(), reason="the recordings are not here")
@pytest.mark.parametrize("name", ["InnerRaceFault_vload_1", "OuterRaceFault_vload_1"])
def test_bearings_as_mfpt_published_them(name: str) -> None:
    samples, rate_hz = _read(MFPT / f"{name}.mat")
    assert (samples.shape, rate_hz) == ((1, 146_484), 48_828)
    assert 0.5 < samples.std() < 10  # g


@pytest.mark.parametrize("folder", ["12k_drive_end", "12kHz", "fault at 12000 Hz/", "cwru-12000hz/OR"])
def test_a_bearing_of_cwru_whose_folder_states_the_rate(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder.replace("12000 Hz", "12000Hz") / "99.mat"
    path.parent.mkdir(parents=True)
    # The published file holds its neighbour's recording too.
    others = {"X098_DE_time": SIGNAL_G * 2, "X099_FE_time": SIGNAL_G * 3, "X099RPM": 1750}
    savemat(path, {**others, "X099_DE_time": SIGNAL_G}, oned_as="column")
    samples, rate_hz = _read(path)
    assert rate_hz == 12_000
    np.testing.assert_allclose(samples, SIGNAL_G[np.newaxis], rtol=1e-6)


def test_a_file_beside_states_the_rate(tmp_path: Path) -> None:
    savemat(tmp_path / "run_48k.mat", {"vibration": SIGNAL_G.reshape(-1, 2)})
    (tmp_path / "sample_rate_hz").write_text("25600\n")
    samples, rate_hz = _read(tmp_path / "run_48k.mat")
    assert (samples.shape, rate_hz) == ((2, 2000), 25_600)


@pytest.mark.parametrize(
    ("text", "rate_hz"),
    [
        ("# sample_rate_hz: 2000\n{x}", 2000),
        ("# rig 4\n# sample_rate_hz = 2000\nx;y\n{x;y}", 2000),
        ("time_s,x,y\n{t,x,y}", 4000),
        ("t\tx\n{t\tx}", 4000),
    ],
)
def test_a_csv_states_its_rate_in_itself(tmp_path: Path, text: str, rate_hz: int) -> None:
    head, _, columns = text.partition("{")
    columns = columns.rstrip("}")
    mark = next((mark for mark in ",;\t" if mark in columns), ",")
    names = columns.split(mark)
    values = {"t": np.arange(2000) / 4000, "x": SIGNAL_G[:2000], "y": SIGNAL_G[2000:]}
    rows = [mark.join(f"{values[name][index]:.9g}" for name in names) for index in range(2000)]
    (tmp_path / "run.csv").write_text(head + "\n".join(rows))
    assert is_table(tmp_path / "run.csv")
    samples, found_hz = _read(tmp_path / "run.csv")
    assert found_hz == rate_hz
    np.testing.assert_allclose(samples, [values[name] for name in names if name != "t"], rtol=1e-5)


def test_other_tables_beside_recordings_are_not_taken_for_signals(tmp_path: Path) -> None:
    texts = {
        "labels": "path,label\na.wav,normal\n",
        "statistics": "recording,time,rms_mean\na.wav,0,0.5\n",
        "numbers": "1,2\n3,4\n",  # of no stated rate
        "empty": "",
        "words": "# sample_rate_hz: many\n1\n2\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
        assert not is_table(tmp_path / f"{name}.csv"), name
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    assert not is_table(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"x": SIGNAL_G}, "states no sample rate"),
        ({"x": SIGNAL_G, "y": SIGNAL_G, "fs": 1000}, "holds x, y; expected one signal"),
        ({"fs": 1000}, "holds no signal"),
        ({"x": SIGNAL_G, "fs": 1}, "sample rate is 1 Hz"),
        ({"x": np.full(100, np.nan), "fs": 1000}, "sample 0 of channel 0 is nan"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, variables: dict[str, object], message: str) -> None:
    savemat(tmp_path / "x.mat", variables, oned_as="column")
    with pytest.raises(RecordingError, match=message) as caught:
        read_recording(tmp_path / "x.mat")
    assert str(tmp_path / "x.mat") in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no MATLAB file", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", b"\x00" * 200]
)
def test_bytes_that_are_no_mat_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(RecordingError, match=r"x\.mat: "):
        read_recording(tmp_path / "x.mat")


def test_uneven_times_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("time,x\n0,1\n0.1,2\n0.2,3\n5,4\n")
    with pytest.raises(RecordingError, match="not evenly spaced"):
        read_recording(tmp_path / "x.csv")
