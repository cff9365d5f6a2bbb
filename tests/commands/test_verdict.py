"""`whirr verdict` and `whirr verdicts`: a person's word on an incident, replaced, taken back, and never lost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from commands import run
from recordings.listing import read_spans
from schemas import Alert, Drifted, FrameRecord, Verdict, format_rfc3339
from schemas.errors import ServiceUnavailable, SettingsError, WhirrError
from schemas.times import parse_rfc3339
from schemas.verdict import MAX_BEFORE
from tests.helpers import KafkaUnderTest
from tests.stream_app.worker.fakes import ENCODER, NOW_US, alert_of
from whirr import process, verdicts
from whirr.settings import Settings, verdict_log_topic
from whirr.verdicts import Word

Whirr = Callable[..., Awaitable[tuple[int, str, str]]]
MINUTE_US = 60_000_000
OPENED = alert_of("pump-7", "mic", f"{7:032x}", "machine::opened")
CLOSED = replace(OPENED, alert_id=f"{8:032x}", state="closed", recorded_at=format_rfc3339(NOW_US + 5 * MINUTE_US))
INCIDENT = OPENED.incident_id


async def publish(kafka: KafkaUnderTest, *alerts: Alert) -> Settings:
    settings = kafka.settings()
    await kafka.create_topics(settings.alerts_topic)
    messages = [ENCODER.alert(alert) for alert in alerts]
    records = [FrameRecord(message.key, message.value, message.headers) for message in messages]
    await kafka.produce(settings.alerts_topic, records)
    return settings


async def stored(kafka: KafkaUnderTest, topic: str) -> list[dict[str, Any]]:
    """Return what a topic of verdicts holds, each checked against the schemas."""
    return [orjson.loads(record.value) for record in await kafka.drain(topic)]


@pytest.fixture
def whirr(kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Whirr:
    """Run a command in this process, in a thread: it has an event loop of its own."""
    settings = kafka.settings()
    monkeypatch.setenv("WHIRR_KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap)
    monkeypatch.setenv("WHIRR_ALERTS_TOPIC", settings.alerts_topic)
    monkeypatch.setenv("WHIRR_VERDICTS_TOPIC", settings.verdicts_topic)

    async def call(*args: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


async def test_a_later_verdict_replaces_an_earlier_one_and_the_log_has_all(kafka: KafkaUnderTest) -> None:
    settings = await publish(kafka, OPENED)
    seen = await verdicts.give(settings, INCIDENT, Word(verdict="seen", by="ana"))
    fault = await verdicts.give(settings, INCIDENT[:8], Word(verdict="confirmed", by="ben", fault="bearing"))
    mended = await verdicts.give(settings, INCIDENT, Word(verdict="repaired", by="ben"))
    assert (seen.machine_id, seen.source, seen.began_at, seen.ended_at) == ("pump-7", "mic", OPENED.recorded_at, None)
    assert [one.replaces for one in (seen, fault, mended)] == [None, seen.verdict_id, fault.verdict_id]
    assert mended.fault == "bearing", "who repairs it need not say again what it was"
    assert mended.since == mended.time
    assert [(one.verdict, one.time, one.since) for one in mended.before] == [
        ("seen", seen.time, None),
        ("confirmed", fault.time, None),
    ]
    assert await verdicts.newest(settings) == {INCIDENT: mended}
    assert await verdicts.audit_log(settings) == [seen, fault, mended]
    assert [one["verdict"] for one in await stored(kafka, settings.verdicts_topic)] == ["seen", "confirmed", "repaired"]


async def test_what_was_said_before_is_bounded(kafka: KafkaUnderTest) -> None:
    settings = await publish(kafka, OPENED)
    times = [NOW_US + number * MINUTE_US for number in range(MAX_BEFORE + 3)]
    for now_us in times:
        last = await verdicts.give(settings, INCIDENT, Word(verdict="confirmed", by="ana"), now_us=now_us)
    assert [one.time for one in last.before] == [format_rfc3339(one) for one in times[-MAX_BEFORE - 1 : -1]]


async def test_an_undo_is_a_verdict_of_its_own(kafka: KafkaUnderTest) -> None:
    settings = await publish(kafka, OPENED, CLOSED)
    given = await verdicts.give(settings, INCIDENT, Word(verdict="false_alarm", by="ana"))
    assert given.ended_at == CLOSED.recorded_at
    undone = await verdicts.undo(settings, INCIDENT, by="ben", note="I was at the wrong pump")
    assert (undone.verdict, undone.replaces, undone.by) == ("withdrawn", given.verdict_id, "ben")
    assert (await verdicts.newest(settings))[INCIDENT].verdict == "withdrawn"
    assert [one.verdict for one in await verdicts.audit_log(settings)] == ["false_alarm", "withdrawn"]
    with pytest.raises(WhirrError, match="has no verdict that could be taken back"):
        await verdicts.undo(settings, INCIDENT, by="ben")
    again = await verdicts.give(settings, INCIDENT, Word(verdict="seen", by="ben"))
    assert again.replaces == undone.verdict_id


async def test_an_incident_whose_alerts_are_gone_is_known_by_its_verdict(kafka: KafkaUnderTest) -> None:
    settings = await publish(kafka, OPENED, CLOSED)
    await verdicts.give(settings, INCIDENT, Word(verdict="confirmed", by="ana", fault="bearing"))
    later = kafka.settings(alerts_topic=f"new-{kafka.suffix}")
    mended = await verdicts.give(later, INCIDENT, Word(verdict="repaired", by="ana", since_us=NOW_US + MINUTE_US))
    assert (mended.machine_id, mended.ended_at) == ("pump-7", CLOSED.recorded_at)


async def test_a_verdict_keeps_when_an_incident_began_whose_first_alerts_are_gone(kafka: KafkaUnderTest) -> None:
    settings = await publish(kafka, OPENED)
    await verdicts.give(settings, INCIDENT, Word(verdict="seen", by="ana"))
    later = kafka.settings(alerts_topic=f"left-{kafka.suffix}")
    await kafka.create_topics(later.alerts_topic)
    message = ENCODER.alert(CLOSED)
    await kafka.produce(later.alerts_topic, [FrameRecord(message.key, message.value, message.headers)])
    confirmed = await verdicts.give(later, INCIDENT, Word(verdict="confirmed", by="ana"))
    assert (confirmed.began_at, confirmed.ended_at) == (OPENED.recorded_at, CLOSED.recorded_at)


async def test_what_was_repaired_was_broken_before(kafka: KafkaUnderTest) -> None:
    """Otherwise the fault's frames would have no label, and train."""
    settings = await publish(kafka, OPENED)
    before = parse_rfc3339(OPENED.recorded_at) - MINUTE_US
    with pytest.raises(SettingsError, match=r"of repaired, and the incident began at .*expected a time after that"):
        await verdicts.give(settings, INCIDENT, Word(verdict="repaired", by="ana", since_us=before))
    assert await verdicts.audit_log(settings) == []


async def test_an_incident_lasts_while_a_level_is_left(kafka: KafkaUnderTest) -> None:
    """An alert of a later version: its alarm is over, and an early finding is left, which began before."""
    message = ENCODER.alert(CLOSED)
    shift = {"since": format_rfc3339(NOW_US - 60 * MINUTE_US)}
    value = orjson.dumps({**orjson.loads(message.value or b""), "level": "early", "change": shift})
    settings = await publish(kafka, OPENED)
    await kafka.produce(settings.alerts_topic, [FrameRecord(message.key, value, message.headers)])
    (found,) = (await verdicts.incidents(settings)).values()
    assert (found.began_at, found.ended_at) == (shift["since"], None)


async def test_what_is_no_alert_tells_of_no_incident(kafka: KafkaUnderTest) -> None:
    settings = await publish(kafka, OPENED)
    values = [b"", b"null", b"{}", b'{"incident_id": null}', b'{"incident_id": ["a"]}', b'{"incident_id": "a"}']
    await kafka.produce(settings.alerts_topic, [FrameRecord(b"pump-7", value, []) for value in values])
    assert list(await verdicts.incidents(settings)) == [INCIDENT]


async def test_what_is_no_verdict_replaces_all_the_same(
    kafka: KafkaUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    """A word that only a later version knows must not leave an older one in force."""
    settings = await publish(kafka, OPENED)
    given = await verdicts.give(settings, INCIDENT, Word(verdict="false_alarm", by="ana"))
    unknown = orjson.dumps(replace(given, verdict="postponed"))  # type: ignore[arg-type]
    await kafka.produce(settings.verdicts_topic, [FrameRecord(INCIDENT.encode(), unknown, ())])
    assert await verdicts.newest(settings) == {}
    assert "is no verdict (verdict" in caplog.text


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (Word(verdict="wrong", by="a"), "verdict is 'wrong'; expected one of seen, false_alarm"),
        (Word(verdict="withdrawn", by="a"), "verdict is 'withdrawn'; expected one of"),
        (Word(verdict="seen", by="a", fault="bearing"), "fault is 'bearing' of seen; expected it of confirmed"),
        (Word(verdict="confirmed", by="a", since_us=1), "since is given of confirmed; expected it of repaired"),
        (Word(verdict="repaired", by="a", since_us=9_000_000_000_000_000), "which is yet to come"),
        (Word(verdict="seen", by=" "), "by: "),
        (Word(verdict="seen", by="a", note="x" * 2001), "note: "),
    ],
)
async def test_what_makes_no_sense_is_refused_and_not_written(kafka: KafkaUnderTest, word: Word, told: str) -> None:
    settings = await publish(kafka, OPENED)
    with pytest.raises(SettingsError, match=told):
        await verdicts.give(settings, INCIDENT, word)
    assert await verdicts.audit_log(settings) == []


async def test_seen_does_not_replace_a_word_that_says_more(kafka: KafkaUnderTest) -> None:
    settings = await publish(kafka, OPENED)
    given = await verdicts.give(settings, INCIDENT, Word(verdict="confirmed", by="ana"))
    with pytest.raises(SettingsError, match=r"is confirmed by ana at .*; seen says less"):
        await verdicts.give(settings, INCIDENT, Word(verdict="seen", by="ben"))
    assert await verdicts.newest(settings) == {INCIDENT: given}


async def test_the_log_has_a_verdict_before_it_counts(kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two writes the program dies."""
    settings = await publish(kafka, OPENED)
    real = AIOKafkaProducer.send_and_wait

    async def dies(self: Any, topic: str, *args: Any, **options: Any) -> Any:
        if topic == settings.verdicts_topic:
            raise OSError("power cut")
        return await real(self, topic, *args, **options)

    monkeypatch.setattr(AIOKafkaProducer, "send_and_wait", dies)
    with pytest.raises(ServiceUnavailable, match="may not count; give it again"):
        await verdicts.give(settings, INCIDENT, Word(verdict="false_alarm", by="ana"))
    assert await verdicts.newest(settings) == {}
    assert [one.verdict for one in await verdicts.audit_log(settings)] == ["false_alarm"]
    assert len(await stored(kafka, verdict_log_topic(settings.verdicts_topic))) == 1


async def test_the_commands(kafka: KafkaUnderTest, whirr: Whirr) -> None:
    other = alert_of("fan-1", None, f"{9:032x}", "machine::opened")
    await publish(kafka, OPENED, CLOSED, other)
    code, out, err = await whirr("verdict", INCIDENT[:10], "confirmed", "--by", "ana", "--fault", "bearing")
    assert (code, err) == (0, "")
    first, effect = out.splitlines()
    assert first == f"incident {INCIDENT[:12]} of pump-7/mic is confirmed, bearing (by ana)"
    assert re.fullmatch(r"for what is recorded from \d\d:\d\d:\d\d \(UTC\) on: no reminders", effect)
    code, out, err = await whirr(
        "verdict", INCIDENT, "repaired", "--since", "1h", "--by", "ben", "--note", "new [x]", "--json"
    )
    assert code == 0, err
    said = Verdict(**json.loads(out))
    assert (said.verdict, said.fault, said.by, said.note) == ("repaired", "bearing", "ben", "new [x]")
    await whirr("verdict", other.incident_id, "seen", "--by", "ana")

    code, out, err = await whirr("verdicts")
    assert (code, err) == (0, "")
    assert out.count("repaired") == 1
    assert "confirmed" not in out
    assert "bearing; since" in out
    assert "new [x]" in out
    _, out, _ = await whirr("verdicts", "--all", "--json", "--machine", "pump-*")
    assert [json.loads(line)["verdict"] for line in out.splitlines()] == ["confirmed", "repaired"]
    code, out, _ = await whirr("verdict", INCIDENT, "--undo", "--by", "ana")
    assert (code, out.splitlines()[0]) == (0, f"incident {INCIDENT[:12]} of pump-7/mic is withdrawn (by ana)")
    _, out, _ = await whirr("verdicts", "--json", "--machine", "pump-*")
    assert [json.loads(line)["verdict"] for line in out.splitlines()] == ["withdrawn"]


@pytest.mark.parametrize(
    ("word", "effect"),
    [
        ("false_alarm", "it is no drift: it is told again only if it goes on"),
        ("confirmed", "no reminders; what was recorded since it began is never learnt"),
        ("new_normal", "what is open on the machine ends, and it is learnt anew"),
    ],
)
async def test_a_drift_takes_verdicts_and_began_where_its_days_moved(
    kafka: KafkaUnderTest, whirr: Whirr, word: str, effect: str
) -> None:
    began_at = format_rfc3339(NOW_US - 60 * 24 * MINUTE_US)
    moved = Drifted(name="score", since=began_at, deviations=3.0, per_day=0.1)
    later = Drifted(name="rms_mean", since=OPENED.recorded_at, deviations=3.0, per_day=0.1)
    drift = replace(OPENED, kind="drift", state="changed", source=None, drift=(later, moved))
    settings = await publish(kafka, drift)
    code, out, err = await whirr("verdict", INCIDENT, word, "--by", "ana")
    assert (code, err) == (0, "")
    assert effect in out.splitlines()[-1]
    said = (await verdicts.newest(settings))[INCIDENT]
    assert (said.kind, said.began_at, said.since) == ("drift", began_at, began_at if word == "new_normal" else None)


async def test_verdicts_become_a_file_of_labels(kafka: KafkaUnderTest, whirr: Whirr, tmp_path: Path) -> None:
    """The incident's end is known by an alert that came after the verdict."""
    await publish(kafka, OPENED)
    await whirr("verdict", INCIDENT, "confirmed", "--by", "ana", "--fault", "bearing")
    await publish(kafka, CLOSED)
    file = tmp_path / "labels.csv"
    code, out, err = await whirr("verdicts", "--labels", str(file))
    assert (code, out, err) == (0, f"{file}: 1 times of faults, 0 of normals\n", "")
    (span,) = read_spans(file)
    assert (span.machine, span.label, span.fault) == ("pump-7", "anomaly", "bearing")
    assert (span.from_us, span.until_us) == (NOW_US, NOW_US + 5 * MINUTE_US + 1)
    _, out, _ = await whirr("verdicts", "--labels", str(file), "--machine", "fan-*", "--json")
    assert json.loads(out) == {"file": str(file), "anomalies": 0, "normals": 0}
    assert read_spans(file) == []
    code, _, err = await whirr("verdicts", "--labels", str(file), "--all")
    assert (code, "expected no --all" in err) == (2, True)


async def test_without_verdicts_there_is_nothing_to_list(kafka: KafkaUnderTest, whirr: Whirr) -> None:
    assert await whirr("verdicts") == (0, f"no verdicts on {kafka.settings().verdicts_topic}\n", "")


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["abcdef012345", "seen"], 1, "no incident 'abcdef012345' on topic"),
        (["abc", "seen"], 1, "incident id is 'abc'; expected at least 6"),
        (["abcdef012345"], 2, "no verdict is given; expected one of seen"),
        (["abcdef012345", "seen", "--undo"], 2, "expected no verdict, --fault or --since with it"),
        ([INCIDENT, "repaired", "--since", "monday"], 2, "since is 'monday'"),
    ],
)
async def test_what_can_not_be_is_told(
    kafka: KafkaUnderTest, whirr: Whirr, args: list[str], code: int, told: str
) -> None:
    await publish(kafka, OPENED)
    got, _, err = await whirr("verdict", *args, "--by", "ana")
    assert (got, err.startswith("error: ")) == (code, True), err
    assert told in err


@pytest.mark.parametrize("args", [["verdict", INCIDENT, "seen", "--by", "ana"], ["verdicts"]])
def test_kafka_that_is_away_is_told_in_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*args, "--bootstrap", f"127.0.0.1:{process.free_port()}"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
