"""Vibration as tables of numbers."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from edge_agent.sources import FolderSource
from recordings import is_table, matlab, read_recording, recording_info
from recordings.columns import time_unit_s
from recordings.tables import rate_in_name
from recordings.text import rate_in
from schemas.errors import RecordingError
from tests.helpers import REPOSITORY
from trainer.recording_set import find_recordings

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


@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".TXT"])
def test_a_text_is_read_alike_whatever_its_suffix(tmp_path: Path, suffix: str) -> None:
    rows = "\n".join(f"{index / 4000:.9g}\t{SIGNAL_G[index]:.9g}" for index in range(2000))
    (tmp_path / "normal_1.csv").write_text("t\tx\n" + rows)
    (tmp_path / f"normal_2{suffix}").write_text("t\tx\n" + rows)
    (tmp_path / f"LICENCE{suffix}").write_text("Permission is granted to 1 person, as of 2026, to use 16 files.\n" * 40)
    (tmp_path / f"readme{suffix}").write_text("\n".join(f"{number} {number + 1}" for number in range(40)))
    found = find_recordings(tmp_path)
    assert [one.name for one in found.recordings] == ["normal_1.csv", f"normal_2{suffix}"]
    assert found.problems == ()
    first, second = (_read(one.path)[0] for one in found.recordings)
    np.testing.assert_array_equal(first, second)


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
        (
            {"x": SIGNAL_G, "y": SIGNAL_G[:99], "fs": 1000},
            r"holds x \(4000\), y \(99\); expected signals of one length",
        ),
        ({"fs": 1000}, "holds no signal"),
        ({"x": SIGNAL_G, "fs": 1}, "sample rate is 1 Hz"),
        ({"x": np.full(100, np.nan), "fs": 1000}, "no column|sample 0 of channel 0 is nan"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, variables: dict[str, Any], message: str) -> None:
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


# Tables as programs write them

RATE = 1600
N = 3200
TIMES = np.arange(N) / RATE
X, Y = np.random.default_rng(6).normal(0, 0.5, (2, N)).round(6)
Z = 1 + np.random.default_rng(7).normal(0, 0.01, N).round(6)  # gravity, and its noise
XYZ = {"x": X, "y": Y, "z": Z}
TIMED = {"time": TIMES, **XYZ}


def text_of(
    columns: dict[str, Any], *, mark: str = ",", decimal: str = ".", head: str | None = None, end: str = "\n"
) -> str:
    head = mark.join(columns) if head is None else head
    rows = zip(*columns.values(), strict=True)

    def written(one: object) -> str:
        return one if isinstance(one, str) else f"{one:.9f}".rstrip("0").rstrip(".").replace(".", decimal)

    lines = (mark.join(map(written, row)) for row in rows)
    return (f"{head}\n" if head else "") + end.join(lines) + "\n"


def _with(**more: object) -> dict[str, Any]:
    return {**TIMED, **more}


def in_berlin(seconds: float) -> str:
    """Return a time in the second before or after clocks are set forward."""
    moment = datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC) + timedelta(seconds=seconds)
    return moment.astimezone(ZoneInfo("Europe/Berlin")).isoformat(timespec="microseconds")


WRITTEN: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "plain": (text_of(TIMED), ("x", "y", "z")),
    "pandas with its index": (text_of({"": np.arange(N), **TIMED}), ("x", "y", "z")),
    "index unnamed": (text_of({"Unnamed: 0": np.arange(N)[::-1], **TIMED}), ("x", "y", "z")),
    "german": (text_of(TIMED, mark=";", decimal=","), ("x", "y", "z")),
    "tabs and commas": (text_of(TIMED, mark="\t", decimal=","), ("x", "y", "z")),
    "blanks": (text_of(TIMED, mark="  "), ("x", "y", "z")),
    "blanks and commas": (text_of(TIMED, mark=" ", decimal=","), ("x", "y", "z")),
    "quoted commas": (
        '"time","x"\n' + re.sub(r"[^,\n]+", r'"\g<0>"', text_of({"t": TIMES, "x": X}, head="")).replace(".", ","),
        ("x",),
    ),
    "one column of decimal commas": (
        "# sample_rate_hz: 1600\nx\n" + text_of({"x": X}, decimal=",", head=""),
        ("x",),
    ),
    "Time (s)": (text_of({"Time (s)": TIMES, **XYZ}), ("x", "y", "z")),
    "Time [ms]": (text_of({"Time [ms]": TIMES * 1000, **XYZ}), ("x", "y", "z")),
    "Elapsed Time": (text_of({"Elapsed Time (s)": TIMES, **XYZ}), ("x", "y", "z")),
    "timestamp_us": (text_of({"timestamp_us": TIMES * 1e6, **XYZ}), ("x", "y", "z")),
    "unix": (text_of({"timestamp": 1_706_702_400 + TIMES, **XYZ}), ("x", "y", "z")),
    "unix in ms": (text_of({"timestamp": (1_706_702_400 + TIMES) * 1000, **XYZ}), ("x", "y", "z")),
    "iso": (
        text_of({"when": [f"2026-01-31 12:00:{t:09.6f}+00:00" for t in TIMES], **XYZ}),
        ("x", "y", "z"),
    ),
    "iso with T and Z": (text_of({"t": [f"2026-01-31T12:00:{t:09.6f}Z" for t in TIMES], **XYZ}), ("x", "y", "z")),
    "iso across a change of clocks": (text_of({"when": [in_berlin(t) for t in TIMES], **XYZ}), ("x", "y", "z")),
    "time of day": (text_of({"clock": [f"12:00:{t:09.6f}" for t in TIMES], **XYZ}), ("x", "y", "z")),
    "counter": (text_of(_with(sample=np.arange(N))), ("x", "y", "z")),
    "counter by another name": (text_of(_with(nr=np.arange(N) + 5)), ("x", "y", "z")),
    "counter that wraps": (text_of(_with(byte=np.arange(N) % 256)), ("x", "y", "z")),
    "label": (text_of(_with(label=np.zeros(N))), ("x", "y", "z")),
    "label by another name": (text_of(_with(q=(np.arange(N) > 999).astype(int))), ("x", "y", "z")),
    "temperature": (text_of(_with(**{"Temp (°C)": 20 + Y})), ("x", "y", "z")),
    "constant": (text_of(_with(gain=np.full(N, 3.5))), ("x", "y", "z")),
    "text": (text_of(_with(sensor=["adxl"] * N)), ("x", "y", "z")),
    "empty": (text_of(_with(note=[""] * N)), ("x", "y", "z")),
    "units": (text_of(TIMED, head="time,x,y,z\ns,g,g,g"), ("x", "y", "z")),
    "preamble": (text_of(TIMED, head="Device: rig 4\nSample Rate,1600\n\ntime,x,y,z"), ("x", "y", "z")),
    "comment with a rate": (text_of(XYZ, head="# Sample rate: 1.6 kHz\nx,y,z"), ("x", "y", "z")),
    "names in a comment": (text_of(TIMED, head="#time,x,y,z"), ("x", "y", "z")),
    "trailing commas": (text_of({**TIMED, "": [""] * N}, head="time,x,y,z,"), ("x", "y", "z")),
    "trailing commas but for the names": (text_of({**TIMED, "": [""] * N}, head="time,x,y,z"), ("x", "y", "z")),
    "crlf and bom": ("\ufeff" + text_of(TIMED, end="\r\n"), ("x", "y", "z")),
    "utf-16": (text_of(TIMED).encode("utf-16"), ("x", "y", "z")),
    "utf-16 without a mark": (text_of(TIMED).encode("utf-16-le"), ("x", "y", "z")),
    "latin-1": (text_of({"time": TIMES, "x (m/s²)": X}).encode("latin-1"), ("x (m/s²)",)),
    "cut off": (text_of(TIMED) + "1.99", ("x", "y", "z")),
    "no names": (text_of(XYZ, head="# rate: 1600 Hz"), ("1", "2", "3")),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_tables_as_programs_write_them(tmp_path: Path, name: str) -> None:
    content, channels = WRITTEN[name]
    path = tmp_path / "run.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert is_table(path)
    info = recording_info(path)
    assert (info.rate_hz, info.columns.channels) == (RATE, channels)
    expected = [{**XYZ, "1": X, "2": Y, "3": Z}[channel[0]] for channel in channels]
    np.testing.assert_allclose(read_recording(path).samples * 64, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "left", "why"),
    [
        ("pandas with its index", "1", "only ever rises"),
        ("counter", "sample", "by its name"),
        ("counter by another name", "nr", "only ever rises"),
        ("counter that wraps", "byte", "a counter that begins anew"),
        ("label by another name", "q", "few values that seldom change"),
        ("temperature", "Temp (°C)", "by its name"),
        ("constant", "gain", "constant"),
        ("text", "sensor", "text"),
        ("plain", "time", "the time"),
    ],
)
def test_what_is_left_out_is_told_once_with_how_to_choose(tmp_path: Path, name: str, left: str, why: str) -> None:
    for number in range(5):
        (tmp_path / f"normal_{number}.csv").write_text(str(WRITTEN[name][0]))
    (note,) = find_recordings(tmp_path).notes
    assert note.startswith("normal_0.csv, normal_1.csv, normal_2.csv and 2 more: channels are x, y, z; left out: ")
    assert f"'{left}' ({why}" in note
    assert "--columns" in note


def test_columns_are_taken_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(str(WRITTEN["temperature"][0]))
    info = recording_info(path, ["z", "X", "temp (°C)"])
    assert info.columns.channels == ("z", "x", "Temp (°C)")
    np.testing.assert_allclose(read_recording(path, ["z", "X"]).samples * 64, [Z, X], rtol=1e-5, atol=1e-7)
    with pytest.raises(RecordingError, match="has no column 'q'; expected some of 'time', 'x', 'y', 'z'"):
        recording_info(path, ["q"])
    (tmp_path / "text.csv").write_text(str(WRITTEN["text"][0]))
    with pytest.raises(RecordingError, match="column 'sensor' holds text"):
        recording_info(tmp_path / "text.csv", ["sensor"])


def test_signals_of_a_mat_are_channels_but_for_time_and_counters(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {**XYZ, "t": TIMES, "n": np.arange(N), "fs": RATE})
    info = recording_info(path)
    assert (info.columns.channels, info.rate_hz) == (("x", "y", "z"), RATE)
    savemat(path, {"data": np.c_[TIMES, X, Y], "fs": RATE})
    assert recording_info(path).columns.channels == ("data.2", "data.3")
    np.testing.assert_allclose(read_recording(path, ["data.3"]).samples * 64, [Y], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("columns", "remark"),
    [
        ({name: np.delete(values, slice(1000, 1200)) for name, values in TIMED.items()}, "samples are missing"),
        ({**TIMED, "time": np.cumsum(np.where(np.arange(N) % 3, 1 / RATE, 3 / RATE))}, "times jitter"),
        ({"time": TIMES, "x": np.round(X * 256)}, "whole numbers"),
    ],
)
def test_what_is_odd_about_a_table_is_said(tmp_path: Path, columns: dict[str, Any], remark: str) -> None:
    (tmp_path / "run.csv").write_text(text_of(columns))
    assert any(remark in note for note in find_recordings(tmp_path).notes)


UNUSABLE: dict[str, tuple[str | bytes, str]] = {
    "a gap": (
        text_of({**TIMED, "x": np.where(np.arange(N) == 99, np.nan, X)}),
        "column 'x' is missing or nan in row 100",
    ),
    "milliseconds": (text_of({**TIMED, "time": TIMES * 1000}), r"1\.6 Hz; expected 100.*name the column time_ms"),
    "times backwards": (text_of({**TIMED, "time": TIMES[::-1]}), "times go back after row 1"),
    "two rates": (text_of(TIMED, head="# rate: 800\ntime,x,y,z"), "says 800 Hz, but its times are those of 1600 Hz"),
    "no signal": (
        text_of({"time": TIMES, "n": np.arange(N), "k": np.ones(N)}),
        r"no column looks like a signal.*--columns",
    ),
    "no rate": (text_of(XYZ), "states no sample rate"),
    "a short line": ("time,x\n" + "0,1\n" * 200 + "9\n" + "0,1\n" * 200, "line 202 has 1 columns; expected 2"),
    "a word": (text_of(TIMED) + "2,1,what,3\n", "column 'y' is 'what'; expected a number"),
    "a time alone": (text_of({"time": TIMES}), "holds a time and nothing else"),
    "empty": ("", "no table of numbers"),
    "a page": ("<html>\n" * 50, "no table of numbers"),
    "zeros": (bytes(3000), "no table of numbers"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_tables_that_can_not_be_used_are_told(tmp_path: Path, name: str) -> None:
    content, message = UNUSABLE[name]
    path = tmp_path / "run.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecordingError, match=message) as caught:
        read_recording(path)
    assert str(caught.value).count(str(path)) == 1


@pytest.mark.slow
def test_a_mat_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "bomb.mat"
    savemat(path, {"small": SIGNAL_G, "fs": 1000.0}, do_compression=True)
    inner = struct.pack("<II", 14, 2_000_000_056)
    packer = zlib.compressobj(9)
    packed = packer.compress(inner) + b"".join(packer.compress(bytes(1 << 24)) for _ in range(40)) + packer.flush()
    path.write_bytes(path.read_bytes() + struct.pack("<II", 15, len(packed)) + packed)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(RecordingError, match="unpacks to more than 536870912 bytes"):
        read_recording(path)
    assert tracemalloc.get_traced_memory()[1] < 2 * matlab.MOST_BYTES
    tracemalloc.stop()


def test_a_mat_that_claims_gigabytes_allocates_none(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    for compressed in (False, True):
        savemat(path, {"x": SIGNAL_G, "fs": 1000.0}, do_compression=compressed)
        value = bytearray(path.read_bytes())
        if compressed:
            size = struct.unpack_from("<I", value, 132)[0]
            inner = bytearray(zlib.decompress(value[136 : 136 + size]))
            inner[4:8] = struct.pack("<I", 4_000_000_000)
            packed = zlib.compress(inner)
            value[128 : 136 + size] = struct.pack("<II", 15, len(packed)) + packed
        else:
            value[132:136] = struct.pack("<I", 4_000_000_000)
        path.write_bytes(value)
        with pytest.raises(RecordingError, match="claims 4000000000 bytes"):
            read_recording(path)


def test_hdf5_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(1000))
    with pytest.raises(RecordingError, match=r"MATLAB 7\.3 file.*-v7"):
        read_recording(tmp_path / "x.mat")


def test_a_mat_of_version_4_is_read_and_its_claims_checked(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"x": SIGNAL_G, "fs": 1000.0}, format="4")
    np.testing.assert_allclose(read_recording(path).samples[0] * 64, SIGNAL_G, rtol=1e-6)
    value = bytearray(path.read_bytes())
    value[4:8] = struct.pack("<i", 2_000_000_000)
    path.write_bytes(value)
    with pytest.raises(RecordingError, match=r"claims .* bytes"):
        read_recording(path)


@pytest.mark.parametrize(
    ("place", "change", "told"),
    [
        (144, b"\x06\x08", r"a matrix has 4 elements; expected 5"),  # complex, without an imaginary part
        (144, b"\x05\x00", r"a matrix has 4 elements; expected 6"),  # sparse, without places
        (156, b"\x00", r"dimensions are 0 bytes"),
        (160, b"\xff\xff\xff\x7f", r"claims dimensions of \(2147483647, 64\)"),
        (176, b"\x0e", r"a matrix of numbers holds an element of kind 14"),
        (176, b"\x63", r"an element of kind 99; there is none such"),
        (136, b"\x02", r"a matrix begins with 8 bytes of kind 2, no flags"),
    ],
)
def test_a_mat_that_scipy_would_read_beyond_its_memory_is_refused(
    tmp_path: Path, place: int, change: bytes, told: str
) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"x": SIGNAL_G[:64], "fs": 1000.0})
    value = bytearray(path.read_bytes())
    value[place : place + len(change)] = change
    path.write_bytes(value)
    with pytest.raises(RecordingError, match=told):
        read_recording(path)


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def test_a_mat_with_an_object_of_matlabs_beside_the_signal_is_read(tmp_path: Path) -> None:
    numbers = _element(6, struct.pack("<6I", 0xDD000000, 2, 1, 1, 1, 1))
    flags, size = _element(6, struct.pack("<II", 13, 0)), _element(6, struct.pack("<2i", 6, 1))
    inside = _element(14, flags + size + _element(1, b"") + numbers)
    names = b"".join(_element(1, name) for name in (b"when", b"MCOS", b"datetime"))
    an_object = _element(14, _element(6, struct.pack("<II", 17, 0)) + names + inside)  # has no dimensions
    path = tmp_path / "x.mat"
    savemat(path, {"x": SIGNAL_G, "fs": 1000.0})
    path.write_bytes(path.read_bytes() + an_object)
    np.testing.assert_allclose(read_recording(path).samples[0] * 64, SIGNAL_G, rtol=1e-6)


def _mats() -> list[bytes]:
    made = []
    for settings_ in ({"do_compression": True}, {}, {"format": "4"}):
        file = io.BytesIO()
        savemat(file, {"x": SIGNAL_G[:64], "fs": 1000.0, "name": "rig"}, **settings_)
        made.append(file.getvalue())
    return made


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    base=st.sampled_from([*_mats(), text_of({"time": TIMES[:20], "x": X[:20]}).encode(), b"# sample_rate_hz: 1600\n"]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), max_size=5),
    cut=st.integers(0, 400),
)
def test_whatever_a_table_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, base: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    value = bytearray(base)
    for place, data in changes:
        at = place % len(base)
        value[at : at + len(data)] = data
    value = value[: max(0, len(value) - cut)] if cut < 200 else value
    for suffix in (".mat", ".csv", ".txt"):
        path = tmp_path_factory.mktemp("table") / f"x{suffix}"
        path.write_bytes(value)
        is_table(path)
        try:
            audio = read_recording(path)
        except RecordingError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert np.isfinite(audio.samples).all()


def test_tables_without_a_rate_are_named_beside_others_that_state_theirs(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"a{number}.csv").write_text("# fs: 8000\n" + text_of(XYZ))
        (tmp_path / f"b{number}.csv").write_text(text_of(XYZ))
    (tmp_path / "labels.csv").write_text(text_of({"a": X}, head=""))
    (tmp_path / "README.csv").write_text("what,this\nis,words\n" * 20)
    (tmp_path / "faults.csv").write_text(text_of({"id": np.arange(99), "label": np.arange(99) % 2}))
    (problem,) = find_recordings(tmp_path).problems
    assert (problem.name, problem.count) == ("b0.csv and 3 more", 4)
    assert problem.reason.startswith("hold numbers but state no sample rate; expected one of sr, fs")
    assert FolderSource([tmp_path]).counts()["files_damaged"] == 4
    with pytest.raises(RecordingError, match=r"^4 of the files in .*b0\.csv and 3 more: hold numbers"):
        find_recordings(tmp_path, on_error="fail")


def test_a_rate_beside_that_can_not_be_taken_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text(text_of(XYZ))
    (tmp_path / "sample_rate_hz").write_text("many")
    with pytest.raises(RecordingError, match=r"run\.csv.* is 'many'; expected a number of samples per second"):
        find_recordings(tmp_path)


@pytest.mark.parametrize(
    ("name", "rate_hz"),
    [
        *(
            (name, None)
            for name in ("pump_3k_rpm", "nofs_10k_hours", "p-5k-km", "2k_cycles", "3k_load", "run_4k_n", "8k_h")
        ),
        *(
            (name, None)
            for name in ("rpm_3k", "after_10k", "hours-10k", "load_2k_1", "pump_3k_psi", "10k_units", "x12k")
        ),
        *((name, 12_000) for name in ("12k", "run_12k", "12k_Drive_End_IR007_0", "12k Drive End Bearing Fault Data")),
        *((name, 12_000) for name in ("12k_fan_end", "normal_12k_3", "12kHz", "3k_rpm_12kHz", "12.000kHz", "12,000hz")),
        ("motor_25.6k", 25_600),
    ],
)
def test_a_bare_k_in_a_name_is_a_rate_only_where_nothing_else_is_meant(name: str, rate_hz: float | None) -> None:
    found = rate_in_name(name)
    assert (None if found is None else found[1]) == rate_hz


def test_that_a_rate_comes_from_a_name_is_said_once(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"run_12k_{number}.csv").write_text(text_of(XYZ))
    notes = find_recordings(tmp_path).notes
    (note,) = (note for note in notes if "rate" in note)
    assert note.startswith(
        "run_12k_0.csv, run_12k_1.csv, run_12k_2.csv: the sample rate is taken from a name ('12k' in "
    )


@pytest.mark.parametrize(("name", "factor"), [("ts", 1000), ("ts", 1), ("times", 1), ("unix_timestamp", 1000)])
def test_times_without_a_unit_since_1970_are_told_by_their_size(tmp_path: Path, name: str, factor: int) -> None:
    path = tmp_path / "run.csv"
    path.write_text(text_of({name: (1_706_702_400 + TIMES) * factor, **XYZ}))
    assert recording_info(path).rate_hz == RATE


@pytest.mark.parametrize(
    ("name", "unit_s"),
    [
        *(("t_s", 1), ("t s", 1), ("t(s)", 1), ("time[s]", 1), ("seconds", 1), ("t_ms", 1e-3), ("timems", 1e-3)),
        *(("ts", 0), ("times", 0), ("t", 0), ("s", None), ("axis", None), ("counts", None)),
    ],
)
def test_names_of_times_state_their_unit(name: str, unit_s: float | None) -> None:
    assert time_unit_s(name) == unit_s


@pytest.mark.parametrize(
    ("line", "rate_hz"),
    [
        ("# fs: 25,600 Hz", 25_600),
        ("# fs: 25.600 Hz", 25_600),
        ("# sample rate: 1,024,000", 1_024_000),
        ("# fs: 25,600.5 Hz", 25_600.5),
        ("# fs: 1,600 kHz", 1600),
        ("# fs: 48.000 kHz", 48_000),
        ("# fs: 25,6 kHz", 25_600),
        ("# fs: 8000.000", 8000),
        ("# fs: 1600,5", 1600.5),
    ],
)
def test_a_mark_before_three_digits_is_read_as_what_can_be_a_rate(line: str, rate_hz: float) -> None:
    assert rate_in(line) == rate_hz


@pytest.mark.parametrize("stated", ["192,000", "192.000"])
def test_a_stated_rate_that_may_be_two_is_refused_by_name(tmp_path: Path, stated: str) -> None:
    (tmp_path / "run.csv").write_text(f"# fs: {stated} Hz\n" + text_of(XYZ))
    with pytest.raises(
        RecordingError, match=rf"run\.csv: sample rate is stated as '{stated}', which may be 192 or 192000"
    ):
        find_recordings(tmp_path)


def test_tables_without_a_rate_are_named_where_nothing_else_is_found(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n" + "a.wav,normal\n" * 30)
    with pytest.raises(RecordingError, match="no audio") as caught:
        find_recordings(tmp_path)
    assert "labels.csv" not in str(caught.value)
    (tmp_path / "run.csv").write_text(text_of(XYZ))
    with pytest.raises(RecordingError, match=r"run\.csv: holds numbers but states no sample rate; expected"):
        find_recordings(tmp_path)
    (tmp_path / "sample_rate_hz").write_text("1600")
    assert [one.rate_hz for one in find_recordings(tmp_path).recordings] == [RATE]
