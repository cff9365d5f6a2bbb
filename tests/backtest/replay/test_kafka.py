"""Replay through Kafka and from it, with a worker as a program of its own."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from backtest.replay.finding import Finder
from backtest.replay.publish import in_time_order, publish
from backtest.replay.replay_options import ReplayConfig
from backtest.score_store import opened
from commands import run
from schemas import FrameRecord
from schemas.errors import AccessRefused
from stream_app.worker.champions import Champions
from tests.backtest.replay.results import alerts, lines, scores
from tests.helpers import KafkaUnderTest
from tests.models import NORMAL_RMS, encoded, noise, record
from tests.stream_app.worker.worker_process import WorkerProcess, environment
from whirr.settings import Route, Settings, load_settings


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """Two machines' recordings at the same time, two seconds each; both fail in the end."""
    folder = tmp_path / "plant"
    for machine in ("fan-1", "pump-2"):
        (folder / machine).mkdir(parents=True)
        for number in range(8):
            label, level = ("normal", 1) if number < 4 else ("anomaly", 10)
            value = encoded(noise(2.0, rms=NORMAL_RMS * level, seed=number), kind="FLAC")
            (folder / machine / f"{label}_20260131T1200{2 * number:02}.flac").write_bytes(value)
    return folder


def whirr(*args: object) -> int:
    return run([str(arg) for arg in args])


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_frames_of_all_recordings_come_in_the_order_of_time(plant: Path, tmp_path: Path, champions: Champions):
    with opened(tmp_path / "out", {}) as store:
        Finder(ReplayConfig(folder=plant, out=tmp_path / "out"), store, champions.router, lambda _: None).find()
        found = [(due.recorded_us, due.part.machine) for due in in_time_order(store, str(plant))]
    assert found == sorted(found)
    assert len(found) == 2 * 16


async def test_frames_are_published_the_way_that_the_given_settings_say(
    plant: Path, tmp_path: Path, champions: Champions, monkeypatch: pytest.MonkeyPatch
):
    """Not as those in force say: a file that is named with --routes may hold another broker's access."""
    told: list[Settings | None] = []

    class Refusing:
        def __init__(self, _bootstrap: str, _topic: str, settings: Settings | None = None) -> None:
            told.append(settings)

        async def open(self) -> None:
            raise AccessRefused("by the test")

        async def close(self) -> None:
            pass

    monkeypatch.setattr("backtest.replay.publish.KafkaSink", Refusing)
    settings = load_settings(kafka_bootstrap_servers="broker.example:9093", kafka_security_protocol="SSL")
    with opened(tmp_path / "out", {}) as store:
        Finder(ReplayConfig(folder=plant, out=tmp_path / "out"), store, champions.router, lambda _: None).find()
        with pytest.raises(AccessRefused):
            await publish(store, str(plant), settings, speed=1.0)
    assert told == [settings]


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        (("plant", "--to", "kafka", "--speed", "10"), "`whirr publish DIR`"),
        (("plant", "--to=kafka", "--compare"), "`whirr compare DIR`"),
        (("--from", "kafka", "--since", "2h"), "`whirr rescore`"),
    ],
)
def test_what_became_a_command_of_its_own_is_named(
    options: tuple[str, ...], instead: str, capsys: pytest.CaptureFixture[str]
):
    assert whirr("replay", *options) == 2
    assert instead in capsys.readouterr().err


def test_published_compared_rescored_recorded_and_listened_to(
    kafka: KafkaUnderTest,
    plant: Path,
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    settings = kafka.settings(route=(Route(model=str(model)),))
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        again = ("compare", plant, "--model", model, "--json")
        assert whirr(*again, "--out", out) == 0
        told = printed(capsys)
        assert told["comparison"] == {
            "equal": True,
            "frames": 32,
            "missing": 0,
            "different": 0,
            "alerts": 2,
            "alerts_missing": 0,
            "alerts_extra": 0,
        }
        # Once more: the streams have heard newer frames than these, and so the answers differ.
        assert whirr(*again, "--out", tmp_path / "late", "--wait-s", 1, "--frame-s", 2) == 6
        captured = capsys.readouterr()
        assert "--source" in captured.err
        assert not json.loads(captured.out.splitlines()[-1])["comparison"]["equal"]
        assert lines(tmp_path / "late" / "differences.jsonl")

    # What is retained, scored again: both rounds, of which the second is late.
    assert whirr("rescore", "--model", model, "--out", tmp_path / "from", "--jobs", 1, "--json") == 0
    told = printed(capsys)
    assert (told["frames"], told["late"], told["incidents"]) == (32 + 16, 16, 2)
    known = {row["frame_id"]: row["score"] for row in scores(out)}
    retained = {row["frame_id"]: row["score"] for row in scores(tmp_path / "from")}
    assert known.items() <= retained.items()
    assert {alert["alert_id"] for alert in alerts(tmp_path / "from")} == {alert["alert_id"] for alert in alerts(out)}
    ended = ("rescore", "--until", "2020-01-01T00:00:00Z", "--model", model, "--jobs", 1)
    assert whirr(*ended, "--out", tmp_path / "from") == 0  # what was there of the topic is replaced
    assert scores(tmp_path / "from") == []
    assert whirr(*ended, "--out", out) == 2  # but not what came of a folder
    assert "--restart" in capsys.readouterr().err

    # Recorded, it is what was sent, and a replay gives it the identities that it had.
    recorded = tmp_path / "recorded"
    assert whirr("record", "--machine", "pump-*", "--out", recorded, "--label", "normal", "--json") == 0
    assert printed(capsys)["machines"] == {"pump-2": 24}
    assert whirr("record", "--machine", "pump-*", "--out", recorded, "--label", "normal", "--json") == 0
    assert printed(capsys)["already_there"] == 24
    with (recorded / "recordings.csv").open(newline="") as file:
        assert {row["frame_id"] for row in csv.DictReader(file)} <= set(retained)
    assert whirr("replay", recorded, "--model", model, "--out", tmp_path / "again", "--frame-s", 2, "--json") == 0
    assert printed(capsys)["normal_frames"] == 24
    assert {row["frame_id"]: row["score"] for row in scores(tmp_path / "again")}.items() <= retained.items()

    alert = alerts(out)[0]
    heard = tmp_path / "heard.wav"
    assert whirr("alerts", "audio", alert["alert_id"][:12], "--out", heard, "--json") == 0
    assert printed(capsys)["alert"]["frame"]["frame_id"] == alert["frame"]["frame_id"]
    assert heard.read_bytes()[:4] == b"RIFF"
    assert whirr("alerts", "audio", "0" * 32) == 1
    assert "no alert" in capsys.readouterr().err


def test_an_alert_whose_frame_is_gone_says_so(
    kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    settings = kafka.settings()
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    frame = record(encoded(noise()))
    told = {"alert_id": "ab" * 16, "machine_id": "pump-1", "recorded_at": "2026-01-01T00:00:00.000000Z"}
    where = {"topic": settings.frames_topic, "partition": 0, "offset": 7, "frame_id": "0" * 32}
    alert = json.dumps({**told, "frame": where}).encode()

    async def prepare() -> None:
        await kafka.create_topics(partitions=1)
        await kafka.produce(settings.frames_topic, [frame])
        await kafka.produce(settings.alerts_topic, [FrameRecord(b"pump-1", alert)])

    asyncio.run(prepare())
    assert whirr("alerts", "audio", "abababab") == 1
    assert "no longer has the frame" in capsys.readouterr().err
