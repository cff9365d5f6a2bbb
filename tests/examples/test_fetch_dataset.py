"""Data sets: from a server laid out as the publishers' are, over connections that break."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import soundfile
from scipy.io import savemat
from typer.testing import CliRunner

from backtest.evaluation.labelled import find_labelled
from examples.datasets import cwru
from examples.datasets.__main__ import app
from examples.datasets.download import Download, fetch
from schemas.errors import RecordingError, ServiceUnavailable
from trainer.recording_set import find_recordings

RNG = np.random.default_rng(3)


class Publisher(ThreadingHTTPServer):
    """Serves files from memory, in ranges, and breaks connections as told.

    Attributes:
        files: Content by path.
        breaks: After how many bytes each of the next answers ends.
        ranges: Whether a range can be had.
        asked: Path and range of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    server = Publisher()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _nothing(_have: int, _total: int | None) -> None:
    """Show no progress."""


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_the_connection_broke(publisher: Publisher, tmp_path: Path, ranges: bool) -> None:
    content = RNG.bytes(300_000)
    publisher.files["/a.zip"], publisher.breaks, publisher.ranges = content, [100_000, 150_000], ranges
    checksum = "md5:" + hashlib.md5(content).hexdigest()
    shown: list[tuple[int, int | None]] = []
    download = Download("a.zip", f"{publisher.url}/a.zip", len(content), checksum)
    path = fetch(download, tmp_path, lambda have, total: shown.append((have, total)), pause_s=0)
    assert path.read_bytes() == content
    assert [wanted for _, wanted in publisher.asked] == [
        None,
        "bytes=100000-",
        f"bytes={250_000 if ranges else 150_000}-",
    ]
    assert shown[-1] == (300_000, 300_000)
    assert fetch(download, tmp_path, _nothing) == path  # it is there
    assert len(publisher.asked) == 3


def test_what_arrived_is_kept_for_the_next_run(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["/a.zip"] = b"0123456789"
    publisher.breaks = [4, 0, 0, 0, 0, 0]
    download = Download("a.zip", f"{publisher.url}/a.zip", 10)
    with pytest.raises(ServiceUnavailable, match=r"4 bytes are kept in .*a\.zip\.part: run this again"):
        fetch(download, tmp_path, _nothing, pause_s=0)
    assert fetch(download, tmp_path, _nothing, pause_s=0).read_bytes() == b"0123456789"
    assert publisher.asked[-1][1] == "bytes=4-"


@pytest.mark.parametrize(
    ("size", "checksum", "message"),
    [
        (10, "md5:" + "0" * 32, "md5 781e5e245d69b566979b86e28d23f2c7; published is 0000"),
        (9, None, "10 bytes; published are 9"),
    ],
)
def test_a_damaged_download_is_removed(
    publisher: Publisher, tmp_path: Path, size: int, checksum: str | None, message: str
) -> None:
    publisher.files["/a.zip"] = b"0123456789"
    with pytest.raises(RecordingError, match=message):
        fetch(Download("a.zip", f"{publisher.url}/a.zip", size, checksum), tmp_path, _nothing)
    assert list(tmp_path.glob("a.zip*")) == []


def test_an_absent_publisher_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match=r"http://127\.0\.0\.1:9/a can't be reached"):
        fetch(Download("a", "http://127.0.0.1:9/a"), tmp_path, _nothing, pause_s=0)


def test_a_file_that_is_not_there_is_no_reason_to_try_again(publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="/gone answers 404"):
        fetch(Download("gone", f"{publisher.url}/gone"), tmp_path, _nothing)
    assert len(publisher.asked) == 1


def _mimii(publisher: Publisher) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for unit, label, count in (
            ("00", "normal", 5),
            ("00", "abnormal", 2),
            ("02", "normal", 2),
            ("02", "abnormal", 1),
        ):
            for number in range(count):
                wav = io.BytesIO()
                samples = RNG.integers(-3000, 3000, (16_000, 8), dtype=np.int16)
                soundfile.write(wav, samples, 16_000, format="WAV", subtype="PCM_16")
                file.writestr(f"fan/id_{unit}/{label}/{number:08}.wav", wav.getvalue())
        file.writestr("fan/readme.txt", "no recording")
    content = archive.getvalue()
    publisher.files["/archive"] = content
    one = {
        "key": "-6_dB_fan.zip",
        "size": len(content),
        "checksum": "md5:" + hashlib.md5(content).hexdigest(),
        "links": {"self": f"{publisher.url}/archive"},
    }
    publisher.files["/api/records/3384388"] = orjson.dumps({"files": [one]})


def test_mimii_is_laid_out_for_training_and_replay(publisher: Publisher, tmp_path: Path) -> None:
    _mimii(publisher)
    arguments = [
        "mimii",
        "--kind",
        "fan",
        "--noise",
        "-6",
        "--out",
        str(tmp_path),
        "--publisher",
        publisher.url,
        "--json",
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert orjson.loads(done.stdout) == {"recordings": 10, "out": str(tmp_path)}
    assert "CC BY-SA 4.0" in done.stderr
    assert "CC BY-SA 4.0" in (tmp_path / "LICENCE.txt").read_text()
    assert find_recordings(tmp_path).machines == {"fan-id_00": 3, "fan-id_02": 1}
    labelled = find_labelled(tmp_path)
    assert {machine: [one.label for one in own] for machine, own in labelled.by_machine.items()} == {
        "fan-id_00": ["normal", "normal", "anomaly", "anomaly"],
        "fan-id_02": ["normal", "anomaly"],
    }
    assert {one.channels for one in labelled.recordings} == {1}
    # Again: nothing is downloaded or written twice.
    asked = len(publisher.asked)
    kept = tmp_path / "fan-id_00" / "train" / "normal_00000000.wav"
    before = kept.stat().st_mtime_ns
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert [path for path, _ in publisher.asked[asked:]] == ["/api/records/3384388"]
    assert kept.stat().st_mtime_ns == before


def test_an_archive_that_the_publisher_does_not_list(publisher: Publisher, tmp_path: Path) -> None:
    _mimii(publisher)
    arguments = ["mimii", "--kind", "pump", "--out", str(tmp_path), "--publisher", publisher.url]
    with pytest.raises(RecordingError, match=r"lists no 6_dB_pump\.zip .*'-6_dB_fan\.zip'"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_cwru_is_laid_out_at_one_rate(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run for run in cwru.RUNS if run.number in (97, 105)]
    monkeypatch.setattr(cwru, "RUNS", runs)
    for number, rate_hz in ((97, 48_000), (105, 12_000)):
        file = io.BytesIO()
        time_s = np.arange(4.5 * rate_hz) / rate_hz
        savemat(file, {f"X{number:03}_DE_time": 2 * np.sin(2 * np.pi * 1000 * time_s)}, oned_as="column")
        publisher.files[f"/sites/default/files/{number}.mat"] = file.getvalue()
    arguments = ["cwru", "--out", str(tmp_path), "--publisher", publisher.url, "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert orjson.loads(done.stdout)["recordings"] == 8
    assert find_recordings(tmp_path).machines == {"cwru-drive-end": 2}
    names = [one.name.split("/")[-1] for one in find_labelled(tmp_path).recordings]
    assert names[:3] == ["normal_load_0_002.wav", "normal_load_0_003.wav", "anomaly_inner_007_load_0_000.wav"]
    for one in find_labelled(tmp_path).recordings:
        samples, rate_hz = soundfile.read(one.path)
        assert (rate_hz, len(samples)) == (12_000, 12_000)
        assert np.argmax(np.abs(np.fft.rfft(samples))) == 1000  # the tone's place is right at both rates
        assert np.abs(samples[100:-100]).max() == pytest.approx(2 / 64, rel=0.02)
