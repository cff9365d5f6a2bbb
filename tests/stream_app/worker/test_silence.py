"""Many streams: how they fall silent together, are forgotten, and are kept from being too many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from schemas import FrameRecord
from schemas.alert import MANY_MACHINES
from stream_app.pipeline import StreamState, state_header
from stream_app.worker.messages import Message
from stream_app.worker.processor import StreamLimits
from stream_app.worker.silence import LOOKS
from stream_app.worker.states import state_key
from tests.helpers import KafkaUnderTest, eventually_async, validate_message
from tests.models import encoded, noise, tiny_model
from tests.stream_app.worker.fakes import FORGET_US, NOW_US, Bench, alert_of, frame_record
from tests.stream_app.worker.worker_process import WorkerProcess
from whirr.settings import Route, changelog_topic

SILENT_US = 20_000_000
HEARD = {0: 0}
FEW = StreamLimits(summary_from=20)


def frames(machines: Iterable[int], second: int = 0) -> list[FrameRecord]:
    return [frame_record(f"pump-{number}", second, offset=number) for number in machines]


def alerts(bench: Bench) -> list[dict]:
    found = [orjson.loads(message.value or b"") for message in bench.sender.to("alerts")]
    return [alert for alert in found if alert["sensor_fault"] == "silent"]


def alerts_of(bench: Bench) -> list[tuple[str, str, int | None]]:
    return [(alert["machine_id"], alert["state"], alert["streams"]) for alert in alerts(bench)]


def states_written(bench: Bench) -> dict[bytes | None, Message]:
    return {message.key: message for message in bench.sender.to("changelog")}


async def silent(bench: Bench, count: int) -> None:
    """Let ``count`` streams be heard once, and then be looked at when they have fallen silent."""
    await bench.finish(frames(range(count)))
    bench.sender.sent.clear()
    bench.now_us += SILENT_US
    await bench.processor.check_silence(HEARD, 10.0)


async def test_a_few_silent_streams_are_told_one_by_one() -> None:
    bench = Bench(FEW)
    await silent(bench, 19)
    assert Counter(alerts_of(bench)) == Counter((f"pump-{number}", "opened", None) for number in range(19))


@pytest.mark.slow
async def test_very_many_are_told_by_one_alert() -> None:
    bench = Bench(FEW)
    await silent(bench, 500)
    assert alerts_of(bench) == [(MANY_MACHINES, "opened", 500)]
    (alert,) = alerts(bench)
    assert (alert["kind"], alert["source"], alert["incident_id"]) == ("sensor", None, alert["alert_id"])
    assert len(alert["machines"]) == 20
    assert len(states_written(bench)) == 500
    for message in states_written(bench).values():
        assert state_header(message.value or b"").silent_id == alert["alert_id"]
    await bench.processor.check_silence(HEARD, 10.0)
    bench.now_us += 3600 * 1_000_000
    await bench.processor.check_silence(HEARD, 10.0)
    assert len(alerts_of(bench)) == 1, "and once"


async def test_they_close_together_and_those_still_silent_are_told_then() -> None:
    bench = Bench(FEW)
    await silent(bench, 100)
    (opened,) = alerts(bench)
    bench.sender.sent.clear()
    await bench.finish(frames(range(90), 30))
    assert alerts_of(bench) == [], "ten are silent still, more than a few"
    await bench.finish(frames(range(90, 98), 30))
    assert alerts_of(bench) == [(MANY_MACHINES, "closed", 2)]
    (closed,) = alerts(bench)
    assert closed["incident_id"] == opened["incident_id"] != closed["alert_id"]
    assert sorted(closed["machines"]) == ["pump-98", "pump-99"]
    bench.sender.sent.clear()
    bench.now_us += 61_000_000
    await bench.finish(frames(range(98), 90))
    bench.sender.sent.clear()
    await bench.processor.check_silence({0: bench.now_us - 1}, 10.0)
    assert sorted(alerts_of(bench)) == [("pump-98", "opened", None), ("pump-99", "opened", None)]


async def test_a_closing_alert_that_was_not_followed_by_its_states_has_the_same_identity_again() -> None:
    bench = Bench(FEW)
    await silent(bench, 50)
    bench.sender.sent.clear()
    bench.sender.failing = "changelog"
    with pytest.raises(ConnectionError):
        await bench.finish(frames(range(50), 30))
    (first,) = alerts(bench)
    after = Bench(FEW)
    for number in range(50):
        key = state_key((f"pump-{number}", ""))
        kept = bench.states.peek(0, key)
        assert isinstance(kept, bytes)
        after.states.restore(0, key, kept)
    await after.finish(frames(range(50), 30))
    assert [alert["alert_id"] for alert in alerts(after)] == [first["alert_id"]]


async def test_others_that_fall_silent_a_moment_later_join() -> None:
    bench = Bench(FEW)
    await bench.finish(frames(range(50)))
    bench.now_us += 5_000_000
    await bench.finish(frames(range(50, 90), 5))
    await bench.finish(frames(range(90, 91), 5))
    bench.sender.sent.clear()
    bench.now_us = NOW_US + 12_000_000
    await bench.processor.check_silence(HEARD, 10.0)
    bench.now_us = NOW_US + 17_000_000
    await bench.processor.check_silence(HEARD, 10.0)
    assert alerts_of(bench) == [(MANY_MACHINES, "opened", 50), (MANY_MACHINES, "updated", 91)]
    assert len({alert["incident_id"] for alert in alerts(bench)}) == 1


async def test_one_machine_that_falls_silent_days_later_has_an_alert_of_its_own() -> None:
    bench = Bench(FEW)
    await bench.finish(frames([1000]))
    await silent(bench, 100)
    await bench.finish(frames([1000], 86_400))
    bench.sender.sent.clear()
    bench.now_us += 86_400_000_000
    await bench.processor.check_silence({0: bench.now_us - 11_000_000}, 10.0)
    assert ("pump-1000", "opened", None) in alerts_of(bench)


async def test_no_look_holds_the_event_loop_for_long() -> None:
    bench = Bench()
    raw = StreamState(newest_us=NOW_US, seen_us=NOW_US, frames=1, frame_id="ab" * 16).to_bytes()
    for number in range(10 * LOOKS):
        bench.states.restore(0, state_key((f"pump-{number}", "")), raw)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    await asyncio.sleep(0)
    turns = 0
    await bench.processor.check_silence(HEARD, 10.0)
    assert turns >= 9, "others have a turn after every few streams"
    beside.cancel()
    for number in range(10 * LOOKS):
        assert isinstance(bench.states.peek(0, state_key((f"pump-{number}", ""))), bytes), "and nothing is unpacked"


async def test_a_stream_is_looked_at_again_only_when_it_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(FEW)
    await bench.finish(frames(range(10)))
    looked: list[int] = []
    due = bench.engine.silence_due_us

    def noting(machine_id: str, seen_us: int, watched_since_us: int) -> int:
        looked.append(1)
        return due(machine_id, seen_us, watched_since_us)

    monkeypatch.setattr(bench.engine, "silence_due_us", noting)
    peeks: Counter[str] = Counter()
    peek = bench.states.peek
    monkeypatch.setattr(bench.states, "peek", lambda *of: peeks.update(["peek"]) or peek(*of))
    monkeypatch.setattr(bench.processor._silent, "to_forget", lambda *_: [])
    for second in range(9):
        bench.now_us = NOW_US + second * 1_000_000
        await bench.processor.check_silence({0: NOW_US}, 10.0)
    assert peeks["peek"] == 10, "when it is first met"
    assert not looked
    bench.now_us = NOW_US + 12_000_000
    await bench.processor.check_silence({0: NOW_US}, 10.0)
    assert len(looked) >= 10


# Forgetting


async def test_a_stream_that_is_silent_for_long_is_forgotten() -> None:
    bench = Bench()
    await bench.finish(frames([1, 2]))
    bench.now_us = NOW_US + FORGET_US - 1_000_000
    await bench.finish(frames([2], FORGET_US // 1_000_000 - 1))
    bench.sender.sent.clear()
    bench.log.clear()
    bench.now_us = NOW_US + FORGET_US + 1_000_000
    await bench.processor.check_silence({0: NOW_US}, None)
    (tombstone,) = bench.sender.to("changelog")
    assert (tombstone.key, tombstone.value, tombstone.partition) == (b"pump-1\0", None, 0)
    assert bench.log == ["send alerts", "send changelog"], "what is open in it is told to be closed, first"
    assert bench.states.get(0, b"pump-1\0") is None
    assert bench.states.get(0, b"pump-2\0") is not None
    assert bench.metrics.registry.get_sample_value("whirr_streams_forgotten_total", {"reason": "silent"}) == 1
    assert bench.metrics.registry.get_sample_value("whirr_streams") == 1


async def test_a_tombstone_that_is_not_acknowledged_forgets_nothing() -> None:
    bench = Bench()
    await bench.finish(frames([1]))
    bench.now_us = NOW_US + 2 * FORGET_US
    bench.sender.failing = "changelog"
    with pytest.raises(ConnectionError):
        await bench.processor.check_silence({0: NOW_US}, None)
    assert bench.states.get(0, b"pump-1\0") is not None


async def test_nothing_is_forgotten_while_frames_may_wait() -> None:
    bench = Bench()
    await bench.finish(frames([1]))
    bench.now_us = NOW_US + 2 * FORGET_US
    await bench.processor.check_silence({0: bench.now_us}, None)
    assert bench.states.get(0, b"pump-1\0") is not None


# Too many


async def test_new_streams_beyond_the_limit_are_dead_letters_and_known_ones_go_on() -> None:
    bench = Bench(StreamLimits(streams=3, new_per_min=100))
    await bench.finish(frames(range(5)))
    letters = bench.sender.to("dlq")
    assert [message.key for message in letters] == [b"pump-3", b"pump-4"]
    assert dict(letters[0].headers)["whirr_error"] == b"too_many_streams"
    assert b"max_streams" in dict(letters[0].headers)["whirr_detail"]
    await bench.finish(frames(range(3), 1))
    assert len(bench.sender.to("scores")) == 6
    assert len(bench.sender.to("dlq")) == 2
    assert bench.acked == [0, 1, 2, 3, 4, 0, 1, 2], "a dead letter is an answer, too"
    counted = bench.metrics.registry.get_sample_value("whirr_dead_letters_total", {"code": "too_many_streams"})
    assert counted == 2


async def test_too_many_new_streams_in_a_minute_wait_as_dead_letters() -> None:
    bench = Bench(StreamLimits(new_per_min=60))
    await bench.finish(frames(range(100)))
    assert len(bench.sender.to("dlq")) == 40
    detail = dict(bench.sender.to("dlq")[0].headers)["whirr_detail"]
    assert b"max_new_streams_per_min" in detail
    bench.now_us += 10_000_000
    await bench.finish(frames(range(100), 10))
    assert len(bench.sender.to("dlq")) == 40 + 30, "ten seconds later ten more are taken"
    bench.now_us += 60_000_000
    await bench.finish(frames(range(100), 70))
    assert len(bench.sender.to("dlq")) == 70
    assert bench.metrics.registry.get_sample_value("whirr_new_streams_total") == 100


async def test_many_frames_of_one_new_stream_count_once() -> None:
    bench = Bench(StreamLimits(new_per_min=1))
    await bench.finish([replace(frame_record(second=second), offset=second) for second in range(5)])
    assert bench.sender.to("dlq") == []


async def test_where_there_is_no_room_short_lived_streams_make_it() -> None:
    """Ids that somebody made up must not keep new machines out until they are forgotten, months later."""
    bench = Bench(StreamLimits(streams=3))
    monthly = [replace(frame_record("pump-9", second), offset=second) for second in range(20)]
    await bench.finish([*monthly, *frames([0, 1])])
    bench.engine.forget_due_us = lambda *_: None  # type: ignore[method-assign,assignment,return-value]
    bench.now_us = NOW_US + 3_500_000_000
    await bench.processor.check_silence({0: NOW_US}, None)
    assert len(bench.states) == 3
    bench.now_us = NOW_US + 3_700_000_000
    await bench.processor.check_silence({0: NOW_US}, None)
    assert bench.states.keys(0) == [b"pump-9\0"], "one of many frames is no short-lived one"
    assert bench.metrics.registry.get_sample_value("whirr_streams_forgotten_total", {"reason": "full"}) == 2


async def test_a_worker_forgets_and_refuses_on_kafka(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")), silent_after_s=None, forget_after_h=0.0005)
    settings = kafka.settings(route=(route,), max_streams=2)
    await kafka.create_topics()
    records = [FrameRecord(f"pump-{number}".encode(), encoded(noise())) for number in range(3)]
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, records[:2])
        await eventually_async(lambda: worker.metric("whirr_new_streams_total") == 2)
        await kafka.produce(settings.frames_topic, records[2:])
        await eventually_async(lambda: worker.metric("whirr_dead_letters_total", code="too_many_streams") == 1)
        await eventually_async(lambda: worker.metric("whirr_streams_forgotten_total", reason="silent") == 2)
        await eventually_async(lambda: worker.metric("whirr_streams") == 0)
        assert worker.stop() == 0, worker.log
    changelog = await kafka.drain(changelog_topic(settings.worker_id))
    assert {record.key for record in changelog if record.value is None} == {b"pump-0\0", b"pump-1\0"}


def test_an_alert_about_many_fits_the_contract() -> None:
    alert = replace(alert_of(MANY_MACHINES, None, "ab" * 16, "silent"), streams=500, machines=("pump-1",))
    validate_message("alert", orjson.dumps(alert))
