"""`whirr dlq`: listing, showing and replaying what could not be used."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from commands import dlq, run
from recordings.frames import container
from schemas import DeadLetter, FrameRecord, frame_headers, parse_frame
from schemas.errors import SettingsError
from stream_app.worker.processor import StreamLimits
from tests.helpers import KafkaUnderTest
from tests.stream_app.worker.fakes import Bench, frame_record
from whirr import process
from whirr.dead_letter_replay import REPLAYED_FROM, plan, replay
from whirr.dead_letters import StoredDeadLetter, letter_of, parse_place, read_letters
from whirr.settings import Settings

Whirr = Callable[..., Awaitable[tuple[int, str, str]]]
RECORDED_MS = 1_750_000_000_000


def audio(file_format: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(800) / 5).astype(np.float32), 1000, format=file_format, subtype="PCM_16")
    return file.getvalue()


def letters(topic: str) -> list[DeadLetter]:
    """A frame with ce_time and without, something that is no audio, and a value that had to be cut."""
    flac, wav = audio(), audio("WAV")
    whole = tuple(frame_headers("pump-1", "mic", RECORDED_MS * 1000, flac, 5))
    plain = FrameRecord(b"pump-2", wav, (), RECORDED_MS, topic, partition=3, offset=8)
    return [
        DeadLetter(
            code="no_route", detail="no route [x]", record=FrameRecord(b"pump-1", flac, whole, 1, topic, offset=7)
        ),
        DeadLetter(code="no_route", detail="no route", record=plain),
        DeadLetter(
            code="not_audio", detail="'hello'", record=FrameRecord(b"fan 1", b"hello", (), RECORDED_MS, topic, offset=9)
        ),
        DeadLetter(
            code="value_too_large",
            detail="3000000 bytes",
            record=FrameRecord(b"fan-2", bytes(1000), (), RECORDED_MS, topic, offset=10),
        ),
    ]


async def filled(kafka: KafkaUnderTest) -> Settings:
    await kafka.create_topics()
    settings = kafka.settings()
    records = [FrameRecord(letter.key, letter.value, letter.headers()) for letter in letters(settings.frames_topic)]
    records[-1] = replace(records[-1], headers=[*records[-1].headers, ("whirr_value_bytes", b"3000000")])
    await kafka.produce(settings.dead_letter_topic, records)
    return settings


async def found(settings: Settings, **options: Any) -> list[StoredDeadLetter]:
    return [letter async for letter in read_letters(settings, **options)]


@pytest.fixture
def whirr(kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Whirr:
    """Run ``whirr dlq`` in this process, in a thread: it has an event loop of its own."""
    settings = kafka.settings()
    monkeypatch.setenv("WHIRR_KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap)
    monkeypatch.setenv("WHIRR_DEAD_LETTER_TOPIC", settings.dead_letter_topic)
    monkeypatch.setenv("WHIRR_FRAMES_TOPIC", settings.frames_topic)

    async def call(*args: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, ["dlq", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


async def test_letters_are_read_as_they_were_written(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    by_machine = {letter.machine: letter for letter in await found(settings)}
    wanted = letters(settings.frames_topic)
    assert by_machine.keys() == {"pump-1", "pump-2", "fan 1", "fan-2"}
    pump = by_machine["pump-1"]
    assert (pump.value, list(pump.headers)) == (wanted[0].value, list(wanted[0].record.headers))
    assert (pump.code, pump.detail, pump.topic, pump.original_offset) == (
        "no_route", "no route [x]", settings.frames_topic, 7,
    )  # fmt: skip
    assert {machine: container(letter.value or b"") for machine, letter in by_machine.items()} == {
        "pump-1": "flac", "pump-2": "wav", "fan 1": "bin", "fan-2": "bin",
    }  # fmt: skip
    assert [one.machine for one in await found(settings, reason="not_audio")] == ["fan 1"]
    assert {one.machine for one in await found(settings, machine="pump-*")} == {"pump-1", "pump-2"}
    assert await found(settings, since_us=4_000_000_000_000_000) == []


async def test_a_replay_sends_what_came_once(kafka: KafkaUnderTest) -> None:
    settings = await filled(kafka)
    planned = await plan(settings, await found(settings))
    assert [one.machine for one in planned.send] == ["pump-1", "fan 1", "pump-2"]  # by partition and offset
    assert [(one.machine, why) for one, why in planned.unfit] == [("fan-2", "its value was cut from 3000000 bytes")]
    assert len([one async for one in replay(settings, planned.send)]) == 3
    records = {record.key: record for record in await kafka.consume(settings.frames_topic, 3)}
    wanted = {letter.key: letter.record for letter in letters(settings.frames_topic)}
    pump = records[b"pump-1"]
    assert pump.value == wanted[b"pump-1"].value
    assert list(pump.headers)[:-1] == list(wanted[b"pump-1"].headers)
    assert pump.headers[-1][0] == REPLAYED_FROM
    # Without ce_time the recording time was the record's; identity and time stay what they were.
    other = records[b"pump-2"]
    again = parse_frame(FrameRecord(other.key, other.value, other.headers, other.timestamp))
    assert again.frame_id == parse_frame(wanted[b"pump-2"]).frame_id
    assert again.recorded_us == RECORDED_MS * 1000
    assert other.partition == 3
    # A second one finds nothing to do, unless it is asked to.
    second = await plan(settings, await found(settings))
    assert (len(second.send), len(second.again)) == (0, 3)
    assert len((await plan(settings, await found(settings), again=True)).send) == 3
    assert len(await kafka.drain(settings.frames_topic)) == 3


async def test_the_commands(kafka: KafkaUnderTest, whirr: Whirr, tmp_path: Path) -> None:
    await filled(kafka)
    code, out, err = await whirr("list", "--json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert sorted(line["error"] for line in lines) == ["no_route", "no_route", "not_audio", "value_too_large"]
    place = next(line["place"] for line in lines if line["machine_id"] == "pump-1")
    _, table, _ = await whirr("list", "--reason", "no_route")
    assert place in table
    assert "pump-1/mic" in table
    assert "2 (2 no_route)" in table

    code, out, err = await whirr("show", place, "--out", str(tmp_path / "frame"))
    assert code == 0, err
    assert "no route's pattern matches the machine id" in out
    assert "no route [x]" in out
    assert "ce_sequence: 5" in out
    assert soundfile.info(tmp_path / "frame.flac").frames == 800
    code, _, err = await whirr("show", place, "--out", str(tmp_path / "frame.flac"))
    assert (code, "exists" in err) == (2, True)

    assert (await whirr("replay"))[0] == 2  # nobody to ask
    dry = json.loads((await whirr("replay", "--dry-run", "--json"))[1])
    assert (dry["found"], dry["to_send"], dry["sent"], len(dry["unfit"])) == (4, 3, 0, 1)
    _, out, err = await whirr("replay", "--reason", "no_route", "--yes")
    assert "sent 2 records" in out, err
    after = json.loads((await whirr("replay", place, "--yes", "--json"))[1])
    assert (after["replayed_before"], after["sent"]) == (1, 0)
    assert len(await kafka.drain(kafka.settings().frames_topic)) == 2


async def test_a_frame_of_a_stream_too_many_is_scored_once_it_is_replayed_and_there_is_room(
    kafka: KafkaUnderTest, whirr: Whirr
) -> None:
    await kafka.create_topics()
    settings = kafka.settings()
    frames = [replace(frame_record(f"pump-{number}", offset=number), topic=settings.frames_topic) for number in (0, 1)]
    full = Bench(StreamLimits(streams=1))
    await full.finish(frames)
    (letter,) = full.sender.to("dlq")
    assert letter.value is not None
    await kafka.produce(settings.dead_letter_topic, [FrameRecord(letter.key, letter.value, letter.headers)])
    code, out, err = await whirr("replay", "--reason", "too_many_streams", "--yes", "--json")
    assert (code, json.loads(out)["sent"]) == (0, 1), err
    (again,) = await kafka.consume(settings.frames_topic, 1)
    roomy = Bench(StreamLimits(streams=2))
    await roomy.finish(
        [frames[0], FrameRecord(again.key, again.value, tuple(again.headers), again.timestamp, offset=again.offset)]
    )
    assert roomy.sender.to("dlq") == []
    scores = [json.loads(message.value or b"") for message in roomy.sender.to("scores")]
    assert [score["frame_id"] for score in scores] == [parse_frame(frame).frame_id for frame in frames]


async def test_no_topic_means_no_dead_letters(whirr: Whirr) -> None:
    code, out, _ = await whirr("list", "--machine", "fan-1")
    assert code == 0
    assert "no dead letters on" in out
    assert "with machine fan-1" in out


def test_what_the_headers_say_is_not_believed() -> None:
    class Record:
        partition, offset, timestamp, key, value = 0, 1, 2, None, None
        headers = (("whirr_offset", b"many"), ("whirr_error", b"\xff"), ("whirr_detail", None))

    letter = letter_of(Record())  # type: ignore[arg-type]
    assert (letter.original_offset, letter.machine, letter.detail) == (None, "", "")


def test_a_long_name_leaves_the_other_columns_their_room() -> None:
    class Record:
        partition, offset, timestamp, key, value = 0, 1, 1_750_000_000_000, b"k" * 5000, None
        headers = (("ce_source", b"s" * 5000), ("whirr_error", b"header_invalid"), ("whirr_detail", b"d" * 5000))

    console = Console(file=io.StringIO(), width=80)
    console.print(dlq._table([letter_of(Record())]))  # type: ignore[arg-type]
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[1].startswith("0:1")
    assert "2025-06-15 15:06:40" in lines[1]
    assert "header_invalid" in lines[1]
    assert len(lines) < 20


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:1", "-1:2", "1:2:3"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError, match="expected PARTITION:OFFSET"):
        parse_place(text)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("list", "--reason", "noise"), 2, "reason is 'noise'"),
        (("list", "--since", "yesterday"), 2, "since is 'yesterday'"),
        (("replay", "0:1", "--machine", "a", "--yes"), 2, "named one by one"),
        (("list",), 3, "can't be reached"),
        (("show", "0:1"), 3, "can't be reached"),
        (("replay", "--yes"), 3, "can't be reached"),
    ],
)
def test_what_is_refused(args: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *rest = args
    assert run(["dlq", command, *rest, "--bootstrap", f"127.0.0.1:{process.free_port()}"]) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
