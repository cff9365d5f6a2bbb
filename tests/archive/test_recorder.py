"""The recorder: at least once, each frame once in the archive, whatever is away or dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

import archive
from archive.archive import Archive, configured_archive
from archive.places import FolderLocation
from archive.quotas import Keep
from archive.recorder import Recorder
from commands import run
from recordings import decode
from schemas.errors import ServiceUnavailable, SettingsError
from schemas.frame import FrameRecord, parse_frame
from tests.archive.kept import MACHINE, frame
from tests.conftest import LateKafka
from tests.helpers import KafkaUnderTest, eventually, eventually_async
from tests.models import START_US, record
from tests.stream_app.worker.worker_process import environment
from whirr.settings import Settings, load_settings

NEVER = Keep(all_h=1e6, days=None, gb=None, machine_gb=None)


def settings_of(kafka: KafkaUnderTest, **values: object) -> Settings:
    return kafka.settings(recordings_group=f"recorder-{kafka.suffix}", **values)


def ids(records: Sequence[FrameRecord]) -> set[str]:
    return {parse_frame(one).frame_id for one in records}


def kept_ids(kept: Archive, *machines: str) -> list[str]:
    return [one.frame_id for machine in machines or (MACHINE,) for one in kept.entries(machine)]


class AwayLocation(FolderLocation):
    """A folder that is away while ``away`` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.away = threading.Event()
        self.refused = 0

    def write(self, files: Mapping[str, bytes]) -> None:
        if self.away.is_set():
            self.refused += 1
            raise ServiceUnavailable("the archive is away")
        super().write(files)


@asynccontextmanager
async def recording(settings: Settings, kept: Archive, machine: str = "*") -> AsyncIterator[Recorder]:
    recorder = Recorder(settings, kept, machine, flush_s=0.1, prune_s=0.1)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        recorder.stop()
        await asyncio.wait_for(task, 30)


async def committed(settings: Settings) -> int:
    """Return how many records of the frames topic the group has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=settings.recordings_group)
    async with consumer:
        places = [TopicPartition(settings.frames_topic, number) for number in range(settings.topic_partitions)]
        return sum([await consumer.committed(place) or 0 for place in places])


@pytest.mark.slow
async def test_frames_are_kept_and_committed_and_the_next_recorder_goes_on(kafka: KafkaUnderTest, tmp_path: Path):
    settings, kept = settings_of(kafka), Archive(FolderLocation(tmp_path / "kept"), NEVER)
    await kafka.create_topics()
    first = [frame(n, source="mic") for n in range(5)]
    unusable = [record(b"no audio", MACHINE, START_US), FrameRecord(None, b"x", (), START_US // 1000)]
    await kafka.produce(settings.frames_topic, [*first, *unusable, frame(3, "pump-2")])
    async with recording(settings, kept) as recorder:
        await eventually_async(lambda: len(kept_ids(kept, MACHINE, "pump-2")) == 6, 30)
        await kafka.produce(settings.frames_topic, [frame(9)])
        await eventually_async(lambda: len(kept_ids(kept)) == 6, 30)
    told = recorder.summary()
    assert (told["kept"], told["machines"]) == (7, {MACHINE: 6, "pump-2": 1})
    assert told["skipped"] == {"not_audio": 1, "key_missing": 1}
    assert told["audio_s"] == 3.5
    assert await committed(settings) == 9
    for one, sent in zip(kept.entries(MACHINE), first, strict=False):
        value = kept.place.read(one.path) or b""
        assert (decode(value).samples == decode(sent.value or b"").samples).all()

    await kafka.produce(settings.frames_topic, [frame(10)])
    async with recording(settings, kept) as recorder:
        await eventually_async(lambda: len(kept_ids(kept)) == 7, 30)
    assert recorder.summary()["kept"] == 1


@pytest.mark.slow
async def test_a_recorder_takes_the_machines_that_it_is_told_and_prunes(kafka: KafkaUnderTest, tmp_path: Path):
    keep = Keep(all_h=1.0, a_day=3, days=None, gb=None, machine_gb=None)
    settings, kept = settings_of(kafka), Archive(FolderLocation(tmp_path / "kept"), keep)
    await kafka.create_topics()
    await kafka.produce(settings.frames_topic, [frame(n, machine) for n in range(8) for machine in (MACHINE, "fan-1")])
    async with recording(settings, kept, "pump-*"):
        await eventually_async(lambda: len(kept_ids(kept)) == 3, 30)
        assert kept.machines() == [MACHINE]


@pytest.mark.slow
async def test_an_archive_that_is_away_is_waited_for_and_nothing_is_committed(
    kafka: KafkaUnderTest, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("archive.recorder._RETRY_S", 0.05)
    monkeypatch.setattr("archive.recorder._GIVE_UP_S", 0.5)
    location = AwayLocation(tmp_path / "kept")
    settings, kept = settings_of(kafka), Archive(location, NEVER)
    await kafka.create_topics()
    records = [frame(n) for n in range(4)]
    await kafka.produce(settings.frames_topic, records)
    location.away.set()
    with caplog.at_level(logging.WARNING, "archive.recorder"):
        async with recording(settings, kept):
            await eventually_async(lambda: location.refused > 2, 30)
        # It was stopped while it waited: nothing is lost, since nothing was committed.
        assert await committed(settings) == 0
        async with recording(settings, kept):
            await eventually_async(lambda: location.refused > 4, 30)
            location.away.clear()
            await eventually_async(lambda: len(kept_ids(kept)) == 4, 30)
    assert "the archive is away; frames wait in Kafka" in caplog.text
    assert await committed(settings) == 4


async def test_kafka_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    settings = load_settings(kafka_bootstrap_servers="127.0.0.1:9")
    with caplog.at_level(logging.WARNING, "archive.recorder"):
        async with recording(settings, Archive(FolderLocation(tmp_path), NEVER)):
            await eventually_async(lambda: "127.0.0.1:9 can't be reached" in caplog.text, 30)
    assert "trying again in" in caplog.text


@pytest.mark.slow
async def test_a_kafka_that_goes_and_comes_back_is_told_and_waited_for(
    late_kafka: LateKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("archive.recorder.PROBE_S", 1.0)
    monkeypatch.setattr("archive.recorder._ANSWER_S", 2.0)
    kept = Archive(FolderLocation(tmp_path / "kept"), NEVER)
    settings = load_settings(kafka_bootstrap_servers=late_kafka.bootstrap, frames_topic="frames")
    with caplog.at_level(logging.WARNING, "archive.recorder"):
        with late_kafka.started() as kafka:
            await kafka.create_topics("frames")
            await kafka.produce("frames", [frame(0)])
            recorder = Recorder(settings, kept, flush_s=0.1)
            task = asyncio.create_task(recorder.run())
            await eventually_async(lambda: len(kept_ids(kept)) == 1, 30)
        told = f"Kafka at {late_kafka.bootstrap} does not answer; connecting"
        await eventually_async(lambda: told in caplog.text, 30)
        with late_kafka.started() as kafka:
            await kafka.create_topics("frames")
            await kafka.produce("frames", [frame(1)])
            await eventually_async(lambda: len(kept_ids(kept)) == 2, 60)
    recorder.stop()
    await asyncio.wait_for(task, 30)


@pytest.mark.slow
async def test_two_recorders_share_and_each_frame_is_kept_once(kafka: KafkaUnderTest, tmp_path: Path):
    settings = settings_of(kafka, topic_partitions=4)
    kept = Archive(FolderLocation(tmp_path / "kept"), NEVER)
    machines = [f"pump-{number}" for number in range(8)]
    await kafka.create_topics(partitions=4)
    sent = [frame(n, machine) for n in range(20) for machine in machines]
    await kafka.produce(settings.frames_topic, sent[:80])
    async with recording(settings, kept) as one:
        await eventually_async(lambda: one.summary()["kept"] > 0, 30)
        async with recording(settings, kept) as other:
            await kafka.produce(settings.frames_topic, sent[80:])
            await eventually_async(lambda: set(kept_ids(kept, *machines)) == ids(sent), 60)
        assert one.summary()["kept"] + other.summary()["kept"] >= 160
    found = kept_ids(kept, *machines)
    assert len(found) == len(set(found)) == 160


class RecordProcess:
    """``whirr record --follow`` as a program of its own."""

    def __init__(self, settings: Settings, folder: Path, url: str) -> None:
        self.log = folder / "record.log"
        command = [sys.executable, "-m", "commands", "record", "--follow", "--json", "--out", url]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment(settings))

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode()


@pytest.mark.slow
def test_a_recorder_that_is_killed_loses_and_repeats_nothing(kafka: KafkaUnderTest, tmp_path: Path):
    settings = settings_of(kafka, recordings_keep_all_h=1e6, recordings_keep_days=0)
    kept = archive.open(str(tmp_path / "kept"))
    sent = [frame(n) for n in range(60)]
    asyncio.run(kafka.create_topics())
    asyncio.run(kafka.produce(settings.frames_topic, sent[:30]))

    def files() -> int:
        return len([name for name in kept.place.names("") if name.endswith(".flac")])

    def ran(until: Callable[[], bool], number: signal.Signals) -> tuple[int, str]:
        program = RecordProcess(settings, tmp_path, str(tmp_path / "kept"))
        try:
            eventually(until, 120)
        finally:
            ended = program.end(number)
        return ended

    ran(lambda: files() > 0, signal.SIGKILL)  # with files that the index does not tell of
    asyncio.run(kafka.produce(settings.frames_topic, sent[30:]))
    code, out = ran(lambda: files() == 60, signal.SIGTERM)
    assert code == 0, (tmp_path / "record.log").read_text()
    told = json.loads(out)
    assert told["archive"] == str(tmp_path / "kept")
    found = kept_ids(kept)
    assert len(found) == len(set(found)) == 60
    assert set(found) == ids(sent)
    assert asyncio.run(committed(settings)) == 60
    assert kept.mend() == archive.Mended(0, 0, 0)


# The commands


def test_options_that_do_not_go_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for args, words in (
        (("record",), "--out is not given"),
        (("record", "--out", "s3://b/x"), "--follow for an archive at a URL"),
        (("record", "--follow"), "recordings_url is not set"),
        (("record", "--follow", "--out", str(tmp_path), "--since", "1h"), "--since is of what Kafka retains"),
        (("record", "--follow", "--out", "nosuch://x"), "nosuch://x"),
        (("recordings", "list"), "recordings_url is not set"),
    ):
        assert run(list(args)) == 2, args
        assert words in capsys.readouterr().err


def test_a_setting_says_where_and_how_long():
    settings = load_settings(recordings_url="memory://x", recordings_keep_gb=0, recordings_keep_machine_frames=7)
    kept = configured_archive(settings)
    assert kept.url == "memory://x"
    assert kept.keep == Keep(machine_frames=7, gb=None)
    assert configured_archive(settings, "memory://y").url == "memory://y"
    assert configured_archive(load_settings(), "memory://y").keep == Keep(), "the settings' defaults are the rules'"
    with pytest.raises(SettingsError, match="recordings_group and worker_id are both 'x'"):
        load_settings(recordings_group="x", worker_id="x")
