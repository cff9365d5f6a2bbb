"""A verdict: a person's word on an incident."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from schemas.alert import AlertKind
from schemas.frame import MACHINE_ID
from schemas.score import Identity, Timestamp
from schemas.times import parse_rfc3339

VERDICT_TYPE: Final = "whirr.verdict.v1"
VerdictWord = Literal["seen", "false_alarm", "confirmed", "repaired", "new_normal", "withdrawn"]
MAX_NOTE_CHARS: Final = 2000
MAX_NAME_CHARS: Final = 128
MAX_BEFORE: Final = 32
VERDICT_DELAY_S: Final = (
    30.0  # a verdict counts for frames recorded from so long after it on: workers have read it then
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierVerdict:
    """What was said of the incident before; attributes as in a verdict."""

    verdict: VerdictWord
    time: Timestamp
    since: Timestamp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a person says of an incident; the newest of an incident counts.

    Attributes:
        verdict_id: The same when it is sent again.
        incident_id: What it is about; the record's key.
        machine_id, source: Whose incident it is, and of which sensor.
        kind: As in the incident's alerts.
        verdict: ``seen``, ``false_alarm``, ``confirmed`` (a fault), ``repaired``, ``new_normal`` (the machine has
            changed and is well), or ``withdrawn``: the one before was a mistake, and none is given.
        by: Who says so.
        time: When.
        began_at: The incident's beginning: when the first frame was recorded that tells of it.
        ended_at: Its end: when the frame was recorded that closed it; None: it was open when this was said.
        note: In their own words.
        fault: What it was; faults of one name are one group of labels.
        since: Of ``repaired`` and ``new_normal``: from when.
        replaces: The ``verdict_id`` of the one before, if there was one.
        before: What was said of the incident before, oldest first; the latest 32. With it, one record of a compacted
            topic tells what counted when.
    """

    verdict_id: Identity
    incident_id: Identity
    machine_id: Annotated[str, Field(pattern=f"^{MACHINE_ID.pattern}$")]
    source: str | None
    kind: AlertKind
    verdict: VerdictWord
    by: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    time: Timestamp
    began_at: Timestamp
    ended_at: Timestamp | None = None
    note: Annotated[str, Field(max_length=MAX_NOTE_CHARS)] | None = None
    fault: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)] | None = None
    since: Timestamp | None = None
    replaces: Identity | None = None
    before: Annotated[tuple[EarlierVerdict, ...], Field(max_length=MAX_BEFORE)] = ()


_VERDICT: Final = TypeAdapter(Verdict)


def verdict_id(incident_id: str, word: str, by: str, time: str) -> str:
    """Return a verdict's identity: the first 16 bytes, in hex, of SHA-256 over its parts, joined by NUL."""
    return hashlib.sha256("\0".join((incident_id, word, by, time)).encode()).hexdigest()[:32]


def parse_verdict(value: bytes) -> Verdict:
    """Return the verdict in a record's value; properties that this version doesn't know are left aside.

    Raises:
        ValueError: It is none, or one that this version doesn't know.
    """
    verdict = _VERDICT.validate_json(value)
    times = [verdict.time, verdict.began_at, verdict.ended_at, verdict.since]
    times += [time for earlier in verdict.before for time in (earlier.time, earlier.since)]
    for time in times:
        if time is not None:
            parse_rfc3339(time)
    return verdict
