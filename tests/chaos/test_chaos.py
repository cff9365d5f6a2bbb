"""The chaos harness's own parts: that it would tell a loss, and that it does what it says. The whole runs in CI."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent import EdgeAgent, EdgeConfig
from edge_agent.sources import FolderSource
from schemas import DeadLetter, FrameRecord
from stream_app.pipeline import Model, backtest
from tests.chaos.comparison import ChaosResult, Phase, compare, table
from tests.chaos.disk import small_disk
from tests.chaos.faults import schedule
from tests.chaos.gateway import Pace, PacedTimes
from tests.chaos.hostile import Sent, batches
from tests.chaos.link import Link
from tests.chaos.observer import ObservedAlert, Tally
from tests.chaos.plant import SOURCE, Expected, ExpectedAlert, PlantFrame, frames_of, start_us, write_plant
from tests.chaos.poison import poison
from tests.edge_agent.fakes import FakeSink
from tests.models import tiny_model
from whirr.settings import Route, load_settings

FRAMES = {f"{number:032x}": PlantFrame("pump-1", number) for number in range(10)}
EXPECTED = Expected(FRAMES, {"a1": ExpectedAlert("opened", "a1", "machine opened", PlantFrame("pump-1", 4))})
PHASES = [Phase(2, "worker killed"), Phase(6, "poison")]
POISON = {"poison-1": "not_audio"}


def all_well() -> Tally:
    tally = Tally(
        scored=Counter(dict.fromkeys(FRAMES, 1)), dead_lettered=Counter(dict.fromkeys(POISON, 1)), reasons=dict(POISON)
    )
    tally.alerts["a1"] = [ObservedAlert("opened", "a1", "machine opened", 4)]
    tally.places = {name: f"topic/0 at offset {n}" for n, name in enumerate([*FRAMES, *POISON, "a1", "a2", "f"])}
    return tally


def result(tally: Tally, seen: dict[str, str] | None = None) -> ChaosResult:
    return compare(7, EXPECTED, POISON, tally, PHASES, seen or {})


def test_a_run_without_loss_has_no_failures_and_each_fault_its_frames() -> None:
    found = result(all_well())
    assert found.failures == []
    figures = found.as_dict()
    assert (figures["published"], figures["scored"], figures["missing_frames"]) == (11, 11, 0)
    assert (figures["alerts_expected"], figures["alerts_received"], figures["missing_alerts"]) == (1, 1, 0)
    assert figures["faults"] == {"worker killed": 1, "poison": 1}
    assert found.rows["worker killed"].published == 4
    assert found.rows["worker killed"].alerts_received == 1
    assert table(found).row_count == 4


def _lose_a_frame(tally: Tally) -> None:
    del tally.scored[f"{3:032x}"]


def _lose_poison(tally: Tally) -> None:
    tally.dead_lettered.clear()


def _lose_an_alert(tally: Tally) -> None:
    tally.alerts.clear()


def _open_twice(tally: Tally) -> None:
    tally.alerts["a2"] = [ObservedAlert("opened", "a2", "machine opened", 5)]


def _forget_the_incident(tally: Tally) -> None:
    tally.alerts["a1"] = [ObservedAlert("opened", "a0", "machine opened", 4)]


def _dead_letter_a_good_frame(tally: Tally) -> None:
    tally.dead_lettered[f"{3:032x}"] += 1
    tally.reasons[f"{3:032x}"] = "processing_failed"


def _call_it_late(tally: Tally) -> None:
    tally.late[f"{3:032x}"] = 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (_lose_a_frame, f"frame {3:032x} (number 3 of pump-1) has no score; last seen: frames/1 at offset 9"),
        (_lose_poison, "poison-1 has no dead letter; last seen: never on the topic"),
        (_lose_an_alert, "alert a1 (machine opened, by frame 4 of pump-1) never came"),
        (_open_twice, "alert a2 (machine opened) is none of the oracle's; incident a2, topic/0 at offset 12"),
        (_forget_the_incident, "alert a1 (machine opened, by frame 4 of pump-1) never came"),
        (_dead_letter_a_good_frame, f"frame {3:032x} (number 3 of pump-1) is a dead letter: processing_failed"),
        (_call_it_late, f"frame {3:032x} (number 3 of pump-1) was late each time"),
    ],
)
def test_whatever_is_wrong_is_named_with_where_it_was_last_seen(wrong: Any, words: str) -> None:
    tally = all_well()
    wrong(tally)
    failures = result(tally, {f"{3:032x}": "frames/1 at offset 9"}).failures
    assert any(line.startswith(words) for line in failures), failures


def test_repeats_with_the_same_id_are_counted_and_no_failure() -> None:
    tally = all_well()
    tally.scored[f"{3:032x}"] += 1
    tally.alerts["a1"] *= 2
    found = result(tally)
    assert found.failures == []
    assert found.as_dict()["scored_twice"] == 1
    assert found.as_dict()["redelivered_alerts"] == 1


def test_a_seed_gives_one_order_of_faults_and_each_comes_as_often() -> None:
    kinds = [[fault.kind for fault in schedule(Random(seed), 3, 2)] for seed in ("1", "1", "2")]
    assert kinds[0] == kinds[1] != kinds[2]
    counts = Counter(kinds[0])
    assert counts.pop("broker killed") == 6
    assert set(counts.values()) == {2}


async def test_an_edge_agent_publishes_just_what_the_oracle_is_given(tmp_path: Path) -> None:
    began_us = start_us(6)
    plant = write_plant(tmp_path, machines=1, frames=6, seed=3)
    sink, pace = FakeSink(), Pace()
    machine = plant[0]
    config = EdgeConfig(machine_id=machine.machine_id, bootstrap="127.0.0.1:1", source=SOURCE)
    agent = EdgeAgent(config, FolderSource([machine.recording]), PacedTimes(pace, began_us), sink=sink)
    running = asyncio.create_task(agent.run())
    reader = asyncio.StreamReader()
    reader.feed_data(b"4\n6\n")
    reader.feed_eof()
    await pace.follow(reader)
    await asyncio.wait_for(running, 10)
    sent = [(frame.key, frame.value, frame.headers) for frame in sink.frames]
    assert sent == [(record.key, record.value, record.headers) for record in frames_of(plant, began_us)]


def test_poison_ends_for_the_reasons_that_are_expected(tmp_path: Path) -> None:
    records = list(poison(Random(5), ["pump-1"], 60))
    assert len({one.identity for one in records}) == 60
    model = Model.load(tiny_model(tmp_path / "tiny.onnx"))
    frames = [FrameRecord(one.key, one.value, (("ce_id", one.identity.encode()),), 1) for one in records]
    answers = list(backtest(frames, {"tiny": model}, [Route(model="tiny")]))
    codes = [answer.code if isinstance(answer, DeadLetter) else None for answer in answers]
    assert codes == [one.reason for one in records]


def test_a_disk_that_is_filled_takes_nothing_until_it_is_cleared(tmp_path: Path) -> None:
    with small_disk(tmp_path / "spool") as disk:
        if disk is None:
            pytest.skip("this user may mount no file system")
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.folder / "frame").write_bytes(bytes(5000))
        disk.clear()
        (disk.folder / "frame").write_bytes(bytes(5000))
    assert list((tmp_path / "spool").iterdir()) == []


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"ping")
    return await asyncio.wait_for(reader.read(100), 5)


async def test_a_link_that_is_cut_refuses_until_it_is_mended() -> None:
    async with echo() as port:
        link = Link(1)
        await link.open([port])
        reader, writer = await asyncio.open_connection("127.0.0.1", link.ports[0])
        assert await _ask(reader, writer) == b"ping"
        await link.cut("refused")
        with pytest.raises((ConnectionError, AssertionError)):
            assert await _ask(reader, writer)
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection("127.0.0.1", link.ports[0])
        await link.mend()
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", link.ports[0])
        assert await _ask(reader, writer) == b"ping"
        writer.close()
        link.close()


async def test_a_link_that_stalls_delivers_once_it_is_mended() -> None:
    async with echo() as port:
        link = Link(1)
        await link.open([port])
        reader, writer = await asyncio.open_connection("127.0.0.1", link.ports[0])
        await link.cut("stalled")
        asked = asyncio.create_task(_ask(reader, writer))
        await asyncio.wait({asked}, timeout=0.2)
        assert not asked.done()
        await link.mend()
        assert await asked == b"ping"
        writer.close()
        link.close()


HOSTILE = [Sent(0, 7, "a frame in lz4"), Sent(0, 8, "noise"), Sent(0, 9, "noise"), Sent(3, 1, "a costly frame")]


def _message(topic: str, value: bytes | None, headers: dict[str, bytes]) -> Any:
    return SimpleNamespace(topic=topic, value=value, headers=tuple(headers.items()), partition=0, offset=0)


def test_each_hostile_record_needs_an_answer_and_one_letter_may_answer_for_several() -> None:
    tally, settings = all_well(), load_settings()
    score = b'{"machine_id": "hostile-1", "partition": 0, "offset": 7}'
    tally.take(_message(settings.scores_topic, score, {}), settings)
    where = {
        "whirr_partition": b"0",
        "whirr_first_offset": b"8",
        "whirr_offset": b"9",
        "whirr_error": b"batch_unreadable",
    }
    tally.take(_message(settings.dead_letter_topic, None, where), settings)
    found = compare(7, EXPECTED, POISON, tally, PHASES, {}, hostile=HOSTILE)
    assert found.failures == ["a hostile record has no answer: a costly frame, partition 3, offset 1"]
    assert (found.rows["hostile gateway"].published, found.rows["hostile gateway"].scored) == (4, 3)


@pytest.mark.slow
def test_a_hostile_gateway_sends_every_codec_and_what_none_can_read() -> None:
    made = list(batches(Random(1)))
    kinds = {one.what for one in made}
    assert {f"a frame in {codec}" for codec in ("gzip", "snappy", "lz4", "zstd")} <= kinds
    assert {"a bomb in gzip", "a bomb in zstd", "a header's name in no encoding", "a record of noise"} <= kinds
    largest = max(one.data for one in made if "bomb" in one.what)
    assert len(largest) < 1_000_000
