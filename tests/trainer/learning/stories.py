"""Alerts, verdicts and scores of one machine, timed in hours after noon of 31 January 2026."""

from __future__ import annotations

from typing import Any, cast

from schemas import Alert, Score
from schemas.alert import AlertModel, Change
from schemas.score import ModelRef
from schemas.times import format_rfc3339
from schemas.verdict import Verdict, VerdictWord, verdict_id

HOUR_US = 3_600_000_000
NOW_US = 1_769_860_800_000_000  # 2026-01-31T12:00:00Z
MACHINE = "pump-1"
INCIDENT = "a" * 32


def time(hours: float) -> str:
    """RFC 3339."""
    return format_rfc3339(NOW_US + round(hours * HOUR_US))


def alert(
    state: str, hours: float, *, level: str | None = None, since_h: float | None = None, incident: str = INCIDENT
) -> Alert:
    """An alert of the machine's incident; ``level`` is what is left of a closed one."""
    change = None
    if since_h is not None:
        change = Change(since=time(since_h), frames=5, score=2.0, normal_score=1.0, evidence=1.0, data_hash="0" * 64)
    begins = state not in ("closed", "settled")
    values: dict[str, Any] = {
        "alert_id": incident if begins else "f" * 32,
        "incident_id": incident,
        "kind": "machine",
        "sensor_fault": None,
        "machine_id": MACHINE,
        "source": None,
        "state": state,
        "severity": "early" if state in ("changed", "settled") else "warning",
        "score": 2.0,
        "threshold": 1.0,
        "ratio": 2.0,
        "recorded_at": time(hours),
        "scored_at": time(hours),
        "frame": None,
        "model": AlertModel(name="m", version="1", run_id=None),
        "bands": (),
        "statistics": {},
        "level": level or ("warning" if begins else None),
        "change": change,
    }
    return Alert(**values)


def verdict(word: str, hours: float, *, since_h: float | None = None, incident: str = INCIDENT) -> Verdict:
    """What a person said of the incident, which began at five."""
    said = cast("VerdictWord", word)
    return Verdict(
        verdict_id=verdict_id(incident, word, "somebody", time(hours)),
        incident_id=incident,
        machine_id=MACHINE,
        source=None,
        kind="machine",
        verdict=said,
        by="somebody",
        time=time(hours),
        began_at=time(5),
        since=None if since_h is None else time(since_h),
    )


def score(
    hours: float, value: float = 0.5, *, version: str = "1", shadow: bool = False, learning: bool = False
) -> Score:
    """A frame's score; the alert threshold is 1."""
    return Score(
        frame_id=f"{round(hours * 3600):032x}",
        machine_id=MACHINE,
        source=None,
        recorded_at=time(hours),
        scored_at=time(hours),
        score=value,
        threshold=1.0,
        status="idle" if learning else "scored",
        idle_reason="learning" if learning else None,
        sensor_fault=None,
        level_dbfs=-20.0,
        missing_before=0,
        model=ModelRef(name="m", version=version),
        topic="vibration-frames",
        partition=0,
        offset=0,
        shadow=shadow,
    )
