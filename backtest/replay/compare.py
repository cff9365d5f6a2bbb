"""Comparing live answers with those of a replay in process, frame by frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from backtest.judging import NOTHING, Heeded, Judged, judge
from backtest.score_store import ScoreStore
from schemas.errors import ReplayFailed
from stream_app.pipeline import Router
from whirr.settings import Settings
from whirr.topic_reader import read_topic

COMPARED: Final = ("machine_id", "source", "recorded_at", "score", "threshold", "status", "idle_reason", "sensor_fault")
_PAUSE_S: Final = 0.5
_OVERLAP_US: Final = 2_000_000  # records need not be stored in the order of their timestamps


@dataclass(slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        frames: Compared frames.
        missing: Frames without a live score.
        different: Frames whose live answer is another.
        alerts: Alerts expected.
        alerts_missing, alerts_extra: Alerts that were not sent live, and that were but should not have been.
        lines: Each difference, as a JSON object.
    """

    frames: int = 0
    missing: int = 0
    different: int = 0
    alerts: int = 0
    alerts_missing: int = 0
    alerts_extra: int = 0
    late: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether live and in process are the same."""
        return not (self.missing or self.different or self.alerts_missing or self.alerts_extra)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        names = ("frames", "missing", "different", "alerts", "alerts_missing", "alerts_extra")
        return {"equal": self.equal, **{name: getattr(self, name) for name in names}}


_MOST_LINES: Final = 10_000


async def compare(
    store: ScoreStore,
    router: Router,
    settings: Settings,
    since_us: int,
    wait_s: float,
    *,
    answered: Callable[[int], None] = lambda _frames: None,
    heeded: Heeded = NOTHING,
) -> Comparison:
    """Read what a worker answers to the frames in the store, until all is there, and compare.

    Args:
        store: The scored frames.
        router: The alert rule.
        settings: Where Kafka and its topics are.
        since_us: Answers stored before are left out.
        wait_s: How long nothing new may come before the rest counts as missing.
        answered: Called with how many of the frames have been answered.
        heeded: Windows and verdicts.

    Raises:
        ServiceUnavailable: Kafka can't be reached.
        ReplayFailed: There is no scores topic to read: the worker doesn't publish scores.
    """
    store.db.execute("DELETE FROM live")
    store.db.execute("DELETE FROM live_alerts")
    expected = store.db.execute("SELECT count(*) FROM frames").fetchone()[0]
    changed_s, before, from_us = time.monotonic(), (-1, -1), since_us
    while True:
        newest_us = await _read_scores(store, settings, from_us)
        await _read_alerts(store, settings, since_us)
        found = _answered(store), store.db.execute("SELECT count(*) FROM live_alerts").fetchone()[0]
        answered(found[0])
        if found != before:
            changed_s, before = time.monotonic(), found
        elif found[0] == expected or time.monotonic() - changed_s > wait_s:
            # One more look than needed: alerts may be stored a moment after the scores that they came with.
            result = await asyncio.to_thread(_compared, store, router, heeded)
            if result.equal or time.monotonic() - changed_s > wait_s:
                return result
        from_us = max(since_us, newest_us - _OVERLAP_US)
        await asyncio.sleep(_PAUSE_S)


async def _read_scores(store: ScoreStore, settings: Settings, since_us: int) -> int:
    newest_us = since_us
    async for record in read_topic(settings, settings.scores_topic, since_us=since_us, missing_ok=True):
        newest_us = max(newest_us, record.timestamp * 1000)
        score = orjson.loads(record.value or b"{}")
        if score.get("shadow"):
            continue
        # A frame that was delivered twice is late the second time; the first answer counts.
        store.db.execute("INSERT OR IGNORE INTO live VALUES (?, ?)", (score.get("frame_id", ""), record.value))
    return newest_us


async def _read_alerts(store: ScoreStore, settings: Settings, since_us: int) -> None:
    async for record in read_topic(settings, settings.alerts_topic, since_us=since_us, missing_ok=True):
        alert = orjson.loads(record.value or b"{}")
        if alert.get("frame"):  # silence takes a clock, and is told by no frame
            row = (alert["alert_id"], alert["state"], alert["frame"]["frame_id"])
            store.db.execute("INSERT OR IGNORE INTO live_alerts VALUES (?, ?, ?)", row)


def _answered(store: ScoreStore) -> int:
    query = "SELECT count(*) FROM frames WHERE frame_id IN (SELECT frame_id FROM live)"
    return int(store.db.execute(query).fetchone()[0])


def _compared(store: ScoreStore, router: Router, heeded: Heeded) -> Comparison:
    result = Comparison()
    for judged in judge(store, router, heeded=heeded):
        for line in _differences(store, judged, result):
            if len(result.lines) < _MOST_LINES:
                result.lines.append(line)
    return result


def _differences(store: ScoreStore, judged: Judged, result: Comparison) -> Iterator[dict[str, Any]]:
    score = judged.score
    where: dict[str, Any] = {"frame_id": score.frame_id, "machine_id": score.machine_id, "file": judged.ordered.name}
    where |= {"offset": judged.ordered.frame.number, "recorded_at": score.recorded_at}
    result.frames += 1
    row = store.db.execute("SELECT score FROM live WHERE frame_id = ?", (score.frame_id,)).fetchone()
    if row is None:
        result.missing += 1
        yield {"what": "no live score", **where}
    else:
        live = orjson.loads(row[0])
        if changed := _changed(orjson.loads(orjson.dumps(score)), live):
            result.different += 1
            result.late += live.get("status") == "late"
            yield {"what": "another live score", **where, "differences": changed}
    # What closes since its stream was forgotten may have been told by a timer before this frame came.
    expected = {(alert.alert_id, str(alert.state)) for alert in judged.alerts if alert.frame is not None}
    query = "SELECT alert_id, state FROM live_alerts WHERE frame_id = ?"
    sent = set(store.db.execute(query, (score.frame_id,)).fetchall())
    result.alerts += len(expected)
    result.alerts_missing += len(expected - sent)
    result.alerts_extra += len(sent - expected)
    for what, odd in (("alert not sent live", expected - sent), ("alert sent live only", sent - expected)):
        for alert_id, state in sorted(odd):
            yield {"what": what, **where, "alert_id": alert_id, "state": state}


def _changed(ours: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs, as pairs of in process and live."""
    both = {name: (ours.get(name), live.get(name)) for name in COMPARED}
    both["model"] = (ours["model"], live.get("model"))
    return {name: {"replay": pair[0], "live": pair[1]} for name, pair in both.items() if pair[0] != pair[1]}


def check_equal(result: Comparison) -> None:
    """Raise unless live and in process are the same.

    Raises:
        ReplayFailed: They aren't; the message counts the differences.
    """
    if result.equal:
        return
    if result.missing == result.frames:
        raise ReplayFailed("no live score came at all; is a worker running, with publish_scores on?")
    hint = (
        "; live frames are late: their streams had newer ones before, so compare under another --source"
        if result.late
        else ""
    )
    raise ReplayFailed(
        f"live is not as in process: of {result.frames} frames {result.missing} have no live score and "
        f"{result.different} another one; of {result.alerts} alerts {result.alerts_missing} were not sent, and "
        f"{result.alerts_extra} more were{hint}"
    )
