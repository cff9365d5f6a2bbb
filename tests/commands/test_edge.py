"""`whirr edge` and `whirr simulate` as programs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from commands import run
from schemas import FrameRecord, parse_frame, parse_rfc3339
from tests.helpers import KafkaUnderTest, run_whirr

WORKERS_PACKAGES = "faust feast mlflow torch lightning scipy soxr onnxruntime sklearn librosa stream_app trainer"
BARE = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {WORKERS_PACKAGES.split()!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
sys.meta_path.insert(0, Blocker())
from commands import main
main()
"""


def _environment(kafka: KafkaUnderTest) -> dict[str, str]:
    settings = kafka.settings()
    return {
        "WHIRR_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "WHIRR_FRAMES_TOPIC": settings.frames_topic,
    }


def _bare(kafka: KafkaUnderTest, *args: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", BARE, *args],
        env={**os.environ, **_environment(kafka)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


async def test_the_agent_needs_none_of_the_workers_packages(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    await kafka.create_topics()
    tone = (0.2 * np.sin(np.arange(16_000 * 5) / 3)).astype(np.float32)
    (tmp_path / "pump-7").mkdir()
    soundfile.write(tmp_path / "pump-7" / "a.wav", tone, 16_000, subtype="PCM_16")
    agent = _bare(kafka, "edge", str(tmp_path / "pump-7"), "--speed", "max", "--give-up-s", "30", "--json")
    out, err = agent.communicate(timeout=60)
    assert agent.returncode == 0, err
    assert json.loads(out)["frames_sent"] == 5
    records = await kafka.consume(kafka.settings().frames_topic, 5)
    assert {record.key for record in records} == {b"pump-7"}


async def test_neither_does_the_simulator(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    options = ("--seconds", "10", "--speed", "max", "--give-up-s", "30", "--json")
    agent = _bare(kafka, "edge", "--simulate", "pump-1", *options)
    out, err = agent.communicate(timeout=60)
    assert agent.returncode == 0, err
    assert json.loads(out)["frames_sent"] == 10
    assert len(await kafka.drain(kafka.settings().frames_topic)) == 10


async def test_standard_input_until_it_is_told_to_stop(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    await kafka.create_topics()
    options = ["--rate", "1000", "--machine", "fan-2", "--spool-dir", str(tmp_path), "--json"]
    agent = _bare(kafka, "edge", "--stdin", *options, stdin=subprocess.PIPE)
    assert agent.stdin is not None
    agent.stdin.write(np.arange(1700, dtype="<i2").tobytes())
    agent.stdin.flush()
    await kafka.consume(kafka.settings().frames_topic, 1)
    agent.send_signal(signal.SIGTERM)
    out, err = agent.communicate(timeout=60)
    assert agent.returncode == 0, err
    summary = json.loads(out)
    assert (summary["frames_sent"], summary["frames_unsent"]) == (2, 0)
    records = await kafka.consume(kafka.settings().frames_topic, 2)
    first, second = (parse_frame(FrameRecord(r.key, r.value, r.headers, r.timestamp)) for r in records)
    assert 990_000 <= second.recorded_us - first.recorded_us <= 1_000_000 + 1_000_000
    assert parse_rfc3339(summary["recorded_until"]) > second.recorded_us


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "0 sources are given"),
        (("--stdin", "--simulate", "fan-1"), "2 sources are given"),
        (("--stdin", "--rate", "16000"), "need --machine"),
        (("--stdin", "--machine", "a"), "--stdin needs --rate"),
        (("--stdin", "--machine", "a", "--rate", "16000", "--speed", "2"), "live signal is now"),
        (("--stdin", "--machine", "a b", "--rate", "16000"), "machine id is 'a b'"),
        (("--stdin", "--machine", "a", "--rate", "48000", "--frame-s", "60"), "shorten the frames to 10.35 s"),
        (("--simulate", "fan-9"), "plant 'default' has no machine 'fan-9'"),
        (("--simulate", "fan-1", "--speed", "fast"), "--speed is 'fast'"),
        (("--simulate", "fan-1", "--start", "yesterday"), "--start: 'yesterday' is no RFC 3339 time"),
        (("--simulate", "fan-1", "--start", "2999-01-01T00:00:00Z"), "expected a past"),
        (("--simulate", "fan-1", "--loop", "--speed", "5"), "only from a past start"),
        (("--simulate", "fan-1", "--topic", "my frames"), "topic is 'my frames'"),
        (("nowhere",), "nowhere does not exist"),
    ],
)
def test_options_that_make_no_sense(
    args: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["edge", *args]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_no_broker_ends_with_a_summary_and_exit_code_3() -> None:
    ended = run_whirr(
        "edge", "--simulate", "fan-1", "--seconds", "10", "--speed", "max", "--give-up-s", "0", "--json",
        "--bootstrap", "127.0.0.1:1",
    )  # fmt: skip
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    assert "no Kafka answers at 127.0.0.1:1" in ended.stderr
    assert json.loads(ended.stdout)["frames_sent"] == 0


# whirr simulate

SHORT = ("--seconds", "20", "--train-seconds", "4", "--recording-s", "4", "--rate", "2000")


@pytest.mark.slow
def test_simulate_writes_the_same_bytes_for_the_same_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert run(["simulate", "--out", str(tmp_path / name), "--seed", seed, *SHORT, "--json"]) == 0
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert contents[0].keys() == contents[2].keys()
    assert contents[0]["pump-1/test/normal_00000.wav"] != contents[2]["pump-1/test/normal_00000.wav"]
    said = json.loads(capsys.readouterr().out.splitlines()[0])
    assert said["faulty"] == {"pump-2": "cavitation", "motor-1": "outer_race"}
    assert said["recordings"] == len(contents[0]) - 2 == 7 * 6


def test_simulate_writes_the_truth_beside_the_audio(tmp_path: Path) -> None:
    out = tmp_path / "plant"
    assert run(["simulate", "--out", str(out), *SHORT, "--format", "flac"]) == 0
    truth = json.loads((out / "truth.json").read_text())
    assert (truth["seed"], truth["rate_hz"], truth["recording_s"]) == (0, 2000, 4.0)
    motor = truth["machines"]["motor-1"]
    assert motor["faults"][0]["kind"] == "outer_race"
    assert motor["faults"][0]["onset_s"] == 8.0
    assert motor["faults"][0]["severity"][0] == [0.0, 0.0]
    assert motor["faults"][0]["severity"][-1] == [20.0, 1.0]
    assert motor["frequencies_hz"]["bpfo"] == pytest.approx(3.585 * motor["frequencies_hz"]["shaft"], rel=1e-3)
    assert truth["machines"]["fan-1"]["off"] == [[9.0, 12.0]]
    with (out / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {p.relative_to(out).as_posix() for p in out.rglob("*.flac")}
    labels = [row["label"] for row in rows if row["machine_id"] == "motor-1" and row["part"] == "test"]
    assert labels == ["normal", "normal", "anomaly", "anomaly", "anomaly"]
    assert all(row["label"] in row["file"] for row in rows)
    assert {row["label"] for row in rows if row["part"] == "train" or row["machine_id"] == "fan-1"} == {"normal"}
    off = {row["file"]: float(row["off_s"]) for row in rows if row["machine_id"] == "fan-1"}
    assert off["fan-1/test/normal_00000.flac"] == 0
    assert off["fan-1/test/normal_00002.flac"] == pytest.approx(3, abs=0.1)
    info = soundfile.info(out / "motor-1" / "test" / "anomaly_00004.flac")
    assert (info.samplerate, info.duration, info.subtype) == (2000, 4.0, "PCM_16")


def test_simulate_does_not_write_over_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.wav").touch()
    assert run(["simulate", "--out", str(tmp_path), *SHORT]) == 2
    assert "is not empty" in capsys.readouterr().err
