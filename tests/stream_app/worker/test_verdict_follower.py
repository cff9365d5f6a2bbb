"""Following the topic of verdicts, without a broker: what the worker knows, and what it says of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord

from schemas import Verdict
from schemas.errors import AccessRefused, ServiceUnavailable, SettingsError
from stream_app.pipeline import Verdicts
from stream_app.worker import verdict_follower
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.verdict_follower import VerdictFollower
from tests.helpers import eventually_async
from tests.verdicts import said
from whirr.settings import Settings

A, B = "aa" * 16, "bb" * 16
S = 1_000_000
NOW_S = 1_767_225_600
Looks = Sequence[Sequence[ConsumerRecord] | Exception]


def stored(verdict: Verdict, value: bytes | None = None) -> ConsumerRecord:
    key = verdict.incident_id.encode()
    raw = orjson.dumps(verdict) if value is None else value
    return ConsumerRecord("verdicts", 0, 0, 0, 0, key, raw, 0, len(key), len(raw), ())


class Followed:
    """A follower of a topic whose looks are given; it waits after the last one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *visits: Looks) -> None:
        self.used: list[Verdicts] = []
        self.clock_s = 0.0
        self.visits = iter(visits)
        self.metrics = WorkerMetrics()
        for name in ("_LOOK_FOR_TOPIC_S", "_ASK_AGAIN_S"):
            monkeypatch.setattr(verdict_follower, name, 0.0)
        monkeypatch.setattr(verdict_follower, "_BACKOFF_S", (0.001, 0.001))
        monkeypatch.setattr(verdict_follower, "follow_topic", self._follow)
        self.follower = VerdictFollower(
            Settings(), self.used.append, self.metrics, clock_s=lambda: self.clock_s, now_us=lambda: NOW_S * S
        )

    async def _follow(self, *_: Any) -> AsyncIterator[Sequence[ConsumerRecord]]:
        for look in next(self.visits, ()):
            if isinstance(look, Exception):
                raise look
            yield look
        await asyncio.Event().wait()

    def says(self, incident_id: str) -> str | None:
        told = self.used[-1].of("pump-1") if self.used else None
        return None if told is None else told.verdict(incident_id, NOW_S * S + 3600 * S)

    async def until(self, holds: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.follower.run())
        await eventually_async(holds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_new_verdict_makes_others_and_a_newer_one_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    at = NOW_S * S
    first, second = said(A, ("seen", at)), said(A, ("seen", at), ("false_alarm", at + S))
    other = said(B, ("confirmed", at))
    one = Followed(monkeypatch, [[stored(first)], [], [stored(second), stored(other)]])
    await one.until(lambda: len(one.used) == 2)
    assert one.follower.first_read.is_set()
    assert (one.says(A), one.says(B)) == ("false_alarm", "confirmed")
    assert one.used[0].of("pump-1").verdict(A, at + 3600 * S) == "seen", "what was handed over does not change"  # type: ignore[union-attr]
    assert b"whirr_verdicts 2.0" in one.metrics.text()


async def test_what_this_version_does_not_know_takes_the_one_before_away(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = said(A, ("false_alarm", NOW_S * S))
    one = Followed(monkeypatch, [[stored(verdict)], [stored(verdict, b"{}")]])
    await one.until(lambda: len(one.used) == 2)
    assert one.says(A) is None
    assert b"whirr_verdicts 0.0" in one.metrics.text()


async def test_a_verdict_that_is_known_too_late_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old, in_time, late = (said(f"{n:032x}", ("seen", (NOW_S - age) * S)) for n, age in enumerate((999, 29, 31)))
    away = ServiceUnavailable("away")
    looks = [stored(old)], [stored(in_time)], [stored(late)]
    one = Followed(monkeypatch, [*looks, away], looks)  # after an outage all of it is read again
    await one.until(lambda: len(one.used) == 6)
    (told,) = [record.message for record in caplog.records if "frames between were judged" in record.message]
    assert f"incident {late.incident_id[:12]} of machine pump-1 was read 31 s after it was given" in told
    assert b"whirr_verdicts_late_total 1.0" in one.metrics.text()


@pytest.mark.parametrize(
    ("error", "state", "warnings"),
    [(SettingsError("no such topic"), "no topic", 0), (AccessRefused("may not read topic 'verdicts'"), "refused", 1)],
)
async def test_a_worker_goes_on_without_verdicts_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, state: str, warnings: int
) -> None:
    one = Followed(monkeypatch, [error], [error], [error], [[stored(said(A, ("seen", NOW_S * S)))]])
    states: list[str] = []

    def use(verdicts: Verdicts) -> None:
        states.append(one.follower.state)
        one.used.append(verdicts)

    one.follower._use = use
    await one.until(lambda: bool(one.used))
    assert states == [state]
    assert one.follower.state == "following", "the first verdict made it, or the right was given"
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == warnings


async def test_what_may_be_unknown_is_told_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Followed(monkeypatch, [[], []])
    states = [one.follower.state]
    await one.until(one.follower.first_read.is_set)
    for one.clock_s in (0.0, 29.0, 30.0):
        states.append(one.follower.state)
        assert one.follower.age_s == one.clock_s
    assert states == ["behind", "following", "following", "behind"]


async def test_frames_do_not_wait_for_ever_for_the_first_look(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verdict_follower, "FIRST_READ_S", 0.01)
    one = Followed(monkeypatch, [ServiceUnavailable("away")])
    await one.follower.wait_for_first_read()
    assert "going on without the verdicts" in caplog.text


async def test_whatever_fails_the_worker_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = Followed(monkeypatch, [RuntimeError("odd")], [[stored(said(A, ("seen", NOW_S * S)))]])
    await one.until(lambda: bool(one.used))
    assert "RuntimeError: odd" in caplog.text
