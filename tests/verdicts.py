"""Verdicts for tests."""

from __future__ import annotations

from schemas import EarlierVerdict, Verdict, format_rfc3339
from schemas.verdict import VerdictWord, verdict_id

Word = tuple[VerdictWord, int] | tuple[VerdictWord, int, int]
BEGAN_US = 1_767_225_600_000_000


def said(
    incident_id: str,
    *words: Word,
    machine_id: str = "pump-1",
    source: str | None = None,
    kind: str = "machine",
    began_us: int = BEGAN_US,
) -> Verdict:
    """A verdict with what was said before it: each word with when, and since when; microseconds since the epoch."""
    each = [
        EarlierVerdict(verdict=word, time=format_rfc3339(at_us), since=format_rfc3339(since[0]) if since else None)
        for word, at_us, *since in words
    ]
    last = each[-1]
    return Verdict(
        verdict_id=verdict_id(incident_id, last.verdict, "ana", last.time),
        incident_id=incident_id,
        machine_id=machine_id,
        source=source,
        kind=kind,  # type: ignore[arg-type]
        verdict=last.verdict,
        by="ana",
        time=last.time,
        began_at=format_rfc3339(began_us),
        since=last.since,
        before=tuple(each[:-1]),
    )
