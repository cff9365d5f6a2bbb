"""`whirr maintenance`: the windows, when they are on, and the log of what they suppressed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from commands import run
from schemas import FrameRecord, Score, format_rfc3339
from schemas.errors import SettingsError
from stream_app.pipeline import Model, backtest
from tests.helpers import KafkaUnderTest
from tests.models import SECOND_US, START_US, course, encoded, noise, record, tiny_model
from tests.stream_app.worker.fakes import ENCODER
from whirr.maintenance import MaintenanceWindow
from whirr.settings import Route

LOUD = 10.0
GREASING = MaintenanceWindow(
    match="pump-*", start="2026-01-01T00:00:02Z", duration="3s", note="greasing",
    rule="FREQ=DAILY;BYHOUR=0;BYMINUTE=0;BYSECOND=2,12;COUNT=2",
)  # fmt: skip
TABLE = f"""
[[maintenance]]
match = "pump-*"
start = 2026-01-01T00:00:02Z
duration = "3s"
note = "greasing"
rule = "{GREASING.rule}"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "whirr.toml"
    path.touch()
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(path))
    return path


def lines(text: str) -> list[dict]:
    return [orjson.loads(line) for line in text.splitlines()]


# The windows


def test_windows_are_listed_with_what_is_on_and_what_comes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now_us = time.time_ns() // 1000
    begun, ahead = (format_rfc3339(now_us + hours * 3_600_000_000)[:19] + "Z" for hours in (-1, 1))
    file.write_text(
        f'[[maintenance]]\nmatch = "pump-*"\nstart = {begun}\nduration = "2h"\nrule = "FREQ=DAILY"\nnote = "greasing"\n'
        f'[[maintenance]]\nmatch = "fan-2"\nstart = {ahead}\nduration = "2h"\n'
        f'[[maintenance]]\nmatch = "fan-3"\nstart = 2026-01-01T00:00:00Z\nduration = "2h"\n'
    )
    assert run(["maintenance", "--json", "--next", "4"]) == 0
    daily, once, past = lines(capsys.readouterr().out)
    assert [(one["match"], one["on"], len(one["occurrences"])) for one in (daily, once, past)] == [
        ("pump-*", True, 4),
        ("fan-2", False, 1),
        ("fan-3", False, 0),
    ]
    assert daily["occurrences"][0]["begin"][:19] == begun[:19]
    assert run(["maintenance", "--machine", "pump-7"]) == 0
    out = capsys.readouterr().out
    assert "pump-*  on until " in out
    assert "2h; FREQ=DAILY; next " in out
    assert "greasing" in out
    assert "fan" not in out
    assert run(["maintenance", "--machine", "motor"]) == 0
    assert "no [[maintenance]] windows that fit" in capsys.readouterr().out


def test_a_window_that_cant_be_used_and_an_option_of_the_log(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["maintenance"]) == 0
    assert capsys.readouterr().out == "no [[maintenance]] windows\n"
    assert run(["maintenance", "--since", "7d"]) == SettingsError.exit_code
    file.write_text(TABLE.replace("COUNT=2", "COUNT=0"))
    assert run(["maintenance"]) == SettingsError.exit_code
    assert "line 7: maintenance.0.rule" in capsys.readouterr().err


# The log


def scores(tmp_path: Path) -> list[Score]:
    """A worker's scores: three streams through two occurrences, and one that no window is for."""
    model = Model.load(tiny_model(tmp_path / "tiny.onnx"))
    levels = [1, 1, 1, LOUD, LOUD, *[1] * 7, LOUD, 1, 1, LOUD]
    flat = [record(encoded(np.zeros((1, 16000))), "pump-2", START_US + at * SECOND_US) for at in range(4)]
    clipped = [record(encoded(noise(rms=3.0)), "pump-2", START_US + 4 * SECOND_US)]
    frames = [*course(levels, "pump-1", "mic"), *course(levels, "pump-1"), *flat, *clipped, *course(levels, "fan-1")]
    answers = backtest(frames, {"m": model}, [Route(model="m")], maintenance=[GREASING])
    return [answer for answer in answers if isinstance(answer, Score)]


@pytest.fixture
async def whirr(
    kafka: KafkaUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable:
    settings = kafka.settings()
    await kafka.create_topics(settings.scores_topic)
    messages = [ENCODER.score(score) for score in scores(tmp_path)]
    odd = [FrameRecord(b"pump-1", value) for value in (None, b"{", b"[]", b'{"idle_reason": "maintenance"}')]
    sent = [FrameRecord(one.key, one.value, one.headers) for one in messages if one is not None]
    # A worker that crashed before it wrote its states answers twice.
    await kafka.produce(settings.scores_topic, [*sent, *odd, *sent])
    monkeypatch.setenv("WHIRR_KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap)
    monkeypatch.setenv("WHIRR_SCORES_TOPIC", settings.scores_topic)

    async def call(*args: str) -> str:
        assert await asyncio.to_thread(run, args) == 0
        return capsys.readouterr().out

    return call


async def test_the_log_says_by_stream_and_occurrence_what_was_suppressed(file: Path, whirr: Callable) -> None:
    file.write_text(TABLE)
    found = lines(await whirr("maintenance", "--log", "--json"))
    first, second = "2026-01-01T00:00:02.000000Z", "2026-01-01T00:00:12.000000Z"
    assert [(one["machine_id"], one["source"], one["begin"], one["frames"], one["above"]) for one in found] == [
        ("pump-1", None, first, 3, 2),
        ("pump-1", "mic", first, 3, 2),
        ("pump-2", None, first, 3, 3),
        ("pump-1", None, second, 3, 1),
        ("pump-1", "mic", second, 3, 1),
    ]
    assert {(one["match"], one["note"]) for one in found} == {("pump-*", "greasing")}
    assert found[0]["first_at"] == first
    assert found[0]["last_at"] == "2026-01-01T00:00:04.000000Z"
    assert found[0]["end"] == "2026-01-01T00:00:05.000000Z"
    assert found[0]["highest_ratio"] == pytest.approx(4.6, abs=0.3)
    assert [one["sensor_faults"] for one in found] == [{}, {}, {"flat": 2, "clipped": 1}, {}, {}]
    told = await whirr("maintenance", "--log", "--machine", "pump-2")
    assert "00:00 to 2026-01-01 00:00  pump-2  3 frames, 3 above the threshold, highest " in told
    assert "times it, 2 flat, 1 clipped  greasing" in told
    assert "pump-1" not in told
    assert "nothing was recorded in a maintenance window" in await whirr("maintenance", "--log", "--machine", "fan-*")


async def test_what_windows_suppressed_that_are_no_more_is_told_without_them(file: Path, whirr: Callable) -> None:
    found = lines(await whirr("maintenance", "--log", "--json", "--machine", "pump-1"))
    assert [(one["match"], one["begin"], one["frames"], one["above"]) for one in found] == [(None, None, 6, 3)] * 2
    assert "in no window that is set now" in await whirr("maintenance", "--log")
