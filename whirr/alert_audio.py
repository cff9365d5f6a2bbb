"""The audio behind an alert: the frame that caused it, while Kafka still has it."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from schemas.errors import FrameRejected, WhirrError
from schemas.frame import FrameRecord, parse_frame
from whirr.settings import Settings
from whirr.topic_reader import read_record, read_topic

SHORTEST_ID = 6


class AlertAudio(NamedTuple):
    """An alert, and the audio file that its frame carried."""

    alert: dict[str, Any]
    value: bytes


async def fetch(settings: Settings, alert_id: str) -> AlertAudio:
    """Return the audio of the frame that caused an alert.

    Args:
        settings: Where Kafka and the alerts topic are.
        alert_id: The alert's id, or its first digits.

    Raises:
        WhirrError: There is no such alert, several begin so, it has no frame, or Kafka has let go of the frame.
        ServiceUnavailable: Kafka can't be reached.
    """
    alert = await find(settings, alert_id)
    frame = alert["frame"]
    shown = f"alert {alert['alert_id'][:12]} of machine {alert['machine_id']}"
    if frame is None:
        raise WhirrError(f"{shown} has no frame: it reports that none came")
    where = f"offset {frame['offset']} of partition {frame['partition']} of topic {frame['topic']!r}"
    record = await read_record(settings, frame["topic"], frame["partition"], frame["offset"])
    if record is None:
        raise WhirrError(
            f"Kafka no longer has the frame of {shown} ({where}, recorded at {alert['recorded_at']}): the topic's "
            "retention has let go of it. `whirr record` keeps frames for longer"
        )
    found = FrameRecord(record.key, record.value, tuple(record.headers), record.timestamp)
    if _identity(found) != frame["frame_id"]:
        raise WhirrError(f"{where} holds another frame than the one of {shown}: the topic was made anew since")
    return AlertAudio(alert, record.value)


async def find(settings: Settings, alert_id: str) -> dict[str, Any]:
    """Return the alert whose id begins so.

    Raises:
        WhirrError: There is none, or several begin so.
    """
    wanted = alert_id.lower()
    if len(wanted) < SHORTEST_ID:
        raise WhirrError(f"alert id is {alert_id!r}; expected at least {SHORTEST_ID} of its digits")
    found: dict[str, dict[str, Any]] = {}
    async for record in read_topic(settings, settings.alerts_topic):
        try:
            alert = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        if isinstance(alert, dict) and str(alert.get("alert_id", "")).startswith(wanted):
            found[alert["alert_id"]] = alert
    if not found:
        raise WhirrError(f"no alert {alert_id!r} on topic {settings.alerts_topic!r}; `whirr alerts --json` lists them")
    if len(found) > 1:
        raise WhirrError(f"{len(found)} alerts begin with {alert_id!r}: {', '.join(sorted(found)[:5])}")
    return next(iter(found.values()))


def _identity(record: FrameRecord) -> str | None:
    try:
        return parse_frame(record).frame_id
    except FrameRejected:
        return None
