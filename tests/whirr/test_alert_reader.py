"""Reading alerts: each once, from the time asked for, and patient with a broker that is away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from commands.alerts import alert_line
from schemas import Alert, FrameRecord
from schemas.errors import SettingsError
from tests.conftest import LateKafka
from tests.helpers import KafkaUnderTest, eventually, eventually_async, run_whirr
from tests.stream_app.worker.fakes import ENCODER, alert_of
from whirr import process
from whirr.alert_reader import AlertReader, parse_since

NOW_US = 1_767_225_600_000_000


def alerts(*numbers: int, machine_id: str = "pump-1") -> list[Alert]:
    return [alert_of(machine_id, "mic", f"{number:032x}", "machine::opened") for number in numbers]


async def publish(kafka: KafkaUnderTest, wanted: Sequence[Alert], at_ms: int = 0) -> None:
    messages = [ENCODER.alert(alert) for alert in wanted]
    records = [FrameRecord(message.key, message.value, message.headers, at_ms) for message in messages]
    await kafka.produce(kafka.settings().alerts_topic, records)


def reader(kafka: KafkaUnderTest, **options: object) -> AlertReader:
    return AlertReader(kafka.bootstrap, kafka.settings().alerts_topic, **options)  # type: ignore[arg-type]


async def read(kafka: KafkaUnderTest, **options: object) -> list[str]:
    return [received.alert["alert_id"] async for received in reader(kafka, **options).read()]


@pytest.mark.parametrize(("text", "ago_s"), [("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604_800)])
def test_since_takes_durations(text: str, ago_s: int) -> None:
    assert parse_since(text, NOW_US) == NOW_US - ago_s * 1_000_000


def test_since_takes_times() -> None:
    assert parse_since("2026-01-01T01:00:00+01:00", 0) == NOW_US


def test_a_duration_that_reaches_beyond_the_clock_is_refused():
    with pytest.raises(SettingsError, match="'999999999d', which is before 1970"):
        parse_since("999999999d", NOW_US)


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "yesterday", "2026-01-01"])
def test_since_refuses_the_rest_with_examples(text: str) -> None:
    with pytest.raises(SettingsError, match=r"10m or a time such as 2026-"):
        parse_since(text, NOW_US)


async def test_each_alert_is_read_once(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    first, second, third = alerts(1, 2, 3)
    await publish(kafka, [first, second, first, second, third, first])
    assert await read(kafka) == [first.alert_id, second.alert_id, third.alert_id]


async def test_no_topic_yet_means_no_alerts(kafka: KafkaUnderTest) -> None:
    assert await read(kafka) == []


async def test_an_empty_topic_ends_at_once(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    assert await read(kafka) == []


async def test_since_leaves_older_ones_out(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    old, new = alerts(1, 2)
    now_ms = time.time_ns() // 1_000_000
    await publish(kafka, [old], now_ms - 3_600_000)
    await publish(kafka, [new], now_ms)
    assert await read(kafka, since_us=(now_ms - 60_000) * 1000) == [new.alert_id]
    assert await read(kafka, since_us=(now_ms - 7_200_000) * 1000) == [old.alert_id, new.alert_id]


async def test_machines_are_picked_by_pattern(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    (pump,), (fan,) = alerts(1), alerts(2, machine_id="fan-1")
    await publish(kafka, [pump, fan])
    assert await read(kafka, machine="fan-*") == [fan.alert_id]


async def test_what_is_no_alert_is_said_and_skipped(kafka: KafkaUnderTest) -> None:
    topic = f"plain-{kafka.suffix}"
    await kafka.create_topics(topic)
    (alert,) = alerts(1)
    good = ENCODER.alert(alert)
    whole = orjson.loads(good.value or b"")
    wrong: list[dict[str, Any]] = [
        {"ratio": "2.5"},
        {"recorded_at": 1_767_225_600},
        {"source": ["mic"]},
        {"state": None},
        {"bands": None},
        {"bands": [{"from_hz": 1.0}]},
        {"frame": {}},
        {"frame": "0"},
    ]
    values = [b"{}", b"not json", None, b"[]", b'{"alert_id":"x","machine_id":"y"}']
    values += [orjson.dumps({**whole, **part}) for part in wrong]
    values += [good.value]
    await kafka.produce(topic, [FrameRecord(b"pump-1", value) for value in values])
    told: list[str] = []
    found = [received.value async for received in AlertReader(kafka.bootstrap, topic, tell=told.append).read()]
    assert found == [good.value]
    assert len(told) == len(values) - 1
    assert all("is no alert" in message for message in told)


async def test_following_goes_on_with_each_as_it_comes(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    found: list[str] = []

    async def follow() -> None:
        async for received in reader(kafka).follow():
            found.append(received.alert["alert_id"])  # noqa: PERF401 - one by one, as they come

    wanted = alerts(1, 2, 3)
    await publish(kafka, wanted[:1])
    following = asyncio.create_task(follow())
    for count in (1, 2, 3):
        await eventually_async(lambda count=count: len(found) == count)  # type: ignore[misc]
        await publish(kafka, wanted[count : count + 1])
    assert found == [alert.alert_id for alert in wanted]
    following.cancel()


async def test_following_waits_for_kafka(late_kafka: LateKafka) -> None:
    told: list[str] = []
    found: list[str] = []

    async def follow() -> None:
        async for received in AlertReader(late_kafka.bootstrap, "anomalies", tell=told.append).follow():
            found.append(received.alert["alert_id"])  # noqa: PERF401 - one by one, as they come

    following = asyncio.create_task(follow())
    await eventually_async(lambda: told)
    with late_kafka.started() as kafka:
        await eventually_async(lambda: len(told) == 2, 60)
        await kafka.create_topics("anomalies")
        (alert,) = alerts(1)
        message = ENCODER.alert(alert)
        await kafka.produce("anomalies", [FrameRecord(message.key, message.value)])
        await eventually_async(lambda: found == [alert.alert_id], 30)
    assert "can't be reached" in told[0]
    following.cancel()


# The command


async def test_the_command_prints_json_lines(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics()
    wanted = alerts(1, 2)
    await publish(kafka, [*wanted, *wanted])
    env = {"WHIRR_ALERTS_TOPIC": kafka.settings().alerts_topic}
    shown = await asyncio.to_thread(run_whirr, "alerts", "--json", "--bootstrap", kafka.bootstrap, env=env)
    assert shown.returncode == 0, shown.stderr
    assert [json.loads(line) for line in shown.stdout.splitlines()] == [
        orjson.loads(orjson.dumps(alert)) for alert in wanted
    ]


async def test_the_command_goes_on_after_what_is_no_alert(kafka: KafkaUnderTest) -> None:
    await kafka.create_topics(topic := f"plain-{kafka.suffix}")
    message = ENCODER.alert(alerts(1)[0])
    values = [b'{"alert_id":"x","machine_id":"pump-1"}', message.value]
    await kafka.produce(topic, [FrameRecord(b"pump-1", value) for value in values])
    env = {"WHIRR_ALERTS_TOPIC": topic}
    shown = await asyncio.to_thread(run_whirr, "alerts", "--bootstrap", kafka.bootstrap, env=env)
    assert shown.returncode == 0, shown.stderr
    assert "is no alert (source: expected, but not there)" in " ".join(shown.stderr.split())
    assert shown.stdout.count("machine opened") == 1


def test_words_and_parts_that_are_not_known_are_shown_all_the_same() -> None:
    told: list[str] = []
    alert = orjson.loads(orjson.dumps(alerts(1)[0])) | {"state": "muted", "new": 1, "ratio": 2, "score": None}
    record = SimpleNamespace(value=orjson.dumps(alert), timestamp=0, offset=0, partition=0)
    received = AlertReader("nowhere:1", "anomalies", tell=told.append)._take(record)
    assert received is not None
    assert "machine muted" in alert_line(received.alert).plain
    assert told == []


@pytest.mark.slow
def test_the_command_says_that_kafka_is_away() -> None:
    shown = run_whirr("alerts", "--bootstrap", f"127.0.0.1:{process.free_port()}")
    assert shown.returncode == 3
    assert "can't be reached" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.slow
def test_following_ends_quietly_when_interrupted() -> None:
    command = [sys.executable, "-c", "from commands import main; main()", "alerts", "--follow", "--bootstrap"]
    with subprocess.Popen(
        [*command, f"127.0.0.1:{process.free_port()}"], stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stderr is not None
        eventually(lambda: "can't be reached" in following.stderr.readline())  # type: ignore[union-attr]
        following.send_signal(2)
        _, rest = following.communicate(timeout=20)
    assert "Traceback" not in rest


def test_a_line_says_what_one_wants_to_know() -> None:
    alert = orjson.loads(orjson.dumps(alerts(1)[0]))
    alert |= {"ratio": 2.5, "severity": "critical", "bands": [{"from_hz": 3000.0, "to_hz": 3400.0, "share": 0.42}]}
    line = alert_line(alert).plain
    for part in ("2026-01-01 00:00:00", "pump-1/mic", "machine opened", "critical", "2.50", "3000 to 3400 Hz (42%)"):
        assert part in line


def test_a_line_says_since_when_a_machine_has_changed_and_that_it_stays_so() -> None:
    alert = orjson.loads(orjson.dumps(alerts(1)[0]))
    since = {"since": "2025-12-31T23:00:00.000000Z"}
    early = alert_line({**alert, "state": "changed", "severity": "early", "level": "early", "change": since}).plain
    assert "machine changed  early" in early
    assert "since 2025-12-31 23:00:00" in early
    assert "it stays changed" in alert_line({**alert, "state": "closed", "level": "early", "change": since}).plain
    assert "it stays changed" not in alert_line({**alert, "state": "closed", "level": None}).plain


def test_a_line_says_what_of_a_machine_has_drifted_how_far_how_fast_and_since_when() -> None:
    moved = {"name": "rms_mean", "since": "2025-12-20T00:00:00.000000Z", "deviations": 4.04, "per_day": -0.5}
    alert = orjson.loads(orjson.dumps(alerts(1)[0]))
    drift = {"kind": "drift", "state": "changed", "severity": "early", "ratio": None, "frame": None}
    line = alert_line({**alert, **drift, "drift": [moved]}).plain
    assert "drift changed  early" in line
    assert "rms_mean +4.0 deviations, -0.50 a day, since 2025-12-20" in line
    assert "incident" in line
    strange = alert_line({**alert, **drift, "drift": [{"name": "rms_mean"}, "score", moved]}).plain
    assert "rms_mean +4.0" in strange, "what another version words in another way hides nothing else"


@pytest.mark.slow
def test_the_reader_needs_no_worker_installed() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['faust', 'onnxruntime', 'scipy', 'soxr', 'prometheus_client']));"
        "import whirr.alert_reader, commands.alerts"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_sensors_alert_says_that_its_machine_is_learning() -> None:
    alert = orjson.loads(orjson.dumps(alert_of("pump-1", None, "ab" * 16, "sensor:flat:opened")))
    assert "learning" not in alert_line(alert).plain
    nothing = {"score": None, "threshold": None, "ratio": None}
    assert "the machine is learning" in alert_line({**alert, **nothing, "learning": True}).plain
    del alert["learning"]
    assert "learning" not in alert_line(alert).plain, "an alert of 0.1 doesn't say"


def test_an_alert_about_many_machines_reads_as_one() -> None:
    alert = {
        **orjson.loads(orjson.dumps(alert_of("(many)", None, "ab" * 16, "sensor:silent:opened"))),
        "streams": 412,
        "machines": [f"pump-{number}" for number in range(9)],
    }
    text = alert_line(alert).plain
    assert "(many)  sensor silent opened" in text
    assert "412 streams, such as pump-0, pump-1, pump-2, pump-3, pump-4" in text
    del alert["streams"], alert["machines"]
    assert "(many)" in alert_line(alert).plain, "an alert of 0.1 has neither"


def test_an_alert_about_many_machines_fits_every_pattern() -> None:
    reading = AlertReader("localhost:9092", "anomalies", machine="pump-*")
    value = orjson.dumps(alert_of("(many)", None, "ab" * 16, "sensor:silent:opened"))
    record = SimpleNamespace(value=value, timestamp=0, offset=0, partition=0)
    assert reading._take(record) is not None
