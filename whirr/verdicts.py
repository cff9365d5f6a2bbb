"""People's verdicts on incidents: giving one, taking it back, and reading those that there are.

A verdict is written twice: first to the audit log, a topic that keeps everything for ever, and once the broker has it
there, to the compacted topic, which holds each incident's newest. A crash between the two leaves a line in the log that
had no effect, and never an effect that the log doesn't know. (A transaction would spare that line, and ask for a
right of its own and a broker that has them.) Nothing is deleted from either: an undo is a verdict, ``withdrawn``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic import TypeAdapter, ValidationError

from schemas.alert import MANY_MACHINES
from schemas.errors import ServiceUnavailable, SettingsError, WhirrError
from schemas.times import format_rfc3339, parse_rfc3339
from schemas.verdict import MAX_BEFORE, VERDICT_TYPE, EarlierVerdict, Verdict, VerdictWord, parse_verdict, verdict_id
from whirr.kafka_clients import commands_producer, refusal
from whirr.options import first_wrong
from whirr.settings import Settings, verdict_log_topic
from whirr.topic_reader import read_topic
from whirr.topics import admin_client, create_topics, verdict_topic_specs

log = logging.getLogger(__name__)

WORDS: Final[tuple[VerdictWord, ...]] = ("seen", "false_alarm", "confirmed", "repaired", "new_normal")
_OF_A_FAULT: Final = ("confirmed", "repaired")
_WITH_SINCE: Final = ("repaired", "new_normal")
_SHORTEST_ID: Final = 6
_CHECKED: Final = TypeAdapter(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedIncident:
    """An incident, as its alerts tell it.

    Attributes:
        incident_id: Its id.
        machine_id, source: Whose, and of which sensor.
        kind: ``machine``, ``sensor`` or ``drift``.
        began_at: When the first frame was recorded that tells of it, RFC 3339.
        ended_at: When the frame was recorded that closed it; None while it is open.
    """

    incident_id: str
    machine_id: str
    source: str | None
    kind: str
    began_at: str
    ended_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a person says.

    Attributes:
        verdict: One of :data:`WORDS`.
        by: Who.
        note: In their own words.
        fault: What it was; of ``confirmed`` and ``repaired``.
        since_us: Of ``repaired`` and ``new_normal``: from when, microseconds since the epoch. Default: now for
            ``repaired``, the incident's beginning for ``new_normal``.
    """

    verdict: str
    by: str
    note: str | None = field(default=None)
    fault: str | None = field(default=None)
    since_us: int | None = field(default=None)


async def give(settings: Settings, incident_id: str, word: Word, *, now_us: int | None = None) -> Verdict:
    """Give an incident a verdict, in place of the one that it has; return it once the broker has it.

    Args:
        settings: How to reach Kafka, and the topics.
        incident_id: The incident's id, or its first digits (at least 6).
        word: What is said.
        now_us: When; None for now.

    Raises:
        SettingsError: The verdict makes no sense.
        WhirrError: There is no such incident, or several begin so.
        ServiceUnavailable: Kafka can't be reached, or did not acknowledge.
        AccessRefused: Kafka refuses this user.
    """
    _check(word)
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    incident, before = await _found(settings, incident_id)
    given = before if before is not None and before.verdict != "withdrawn" else None
    if word.verdict == "seen" and given is not None and given.verdict != "seen":
        raise SettingsError(
            f"incident {incident.incident_id[:12]} is {given.verdict} by {given.by} at {given.time}; seen says less, "
            "and would replace it: take it back first (undo)"
        )
    since_us = word.since_us
    if since_us is None and word.verdict in _WITH_SINCE:
        since_us = now_us if word.verdict == "repaired" else parse_rfc3339(incident.began_at)
    if since_us is not None and since_us > now_us:
        raise SettingsError(f"since is {format_rfc3339(since_us)}, which is yet to come; expected a time until now")
    if word.verdict == "repaired" and since_us is not None and since_us <= parse_rfc3339(incident.began_at):
        raise SettingsError(
            f"since is {format_rfc3339(since_us)} of repaired, and the incident began at {incident.began_at}; "
            "expected a time after that: until then the fault was there"
        )
    fault = word.fault
    if fault is None and given is not None and word.verdict in _OF_A_FAULT:
        fault = given.fault  # who repairs it need not say again what it was
    return await _say(settings, incident, before, word, now_us, fault=fault, since_us=since_us)


async def undo(
    settings: Settings, incident_id: str, *, by: str, note: str | None = None, now_us: int | None = None
) -> Verdict:
    """Take an incident's verdict back: none is given then; return the withdrawal once the broker has it.

    Args:
        settings: How to reach Kafka, and the topics.
        incident_id: The incident's id, or its first digits (at least 6).
        by: Who.
        note: Why.
        now_us: When; None for now.

    Raises:
        WhirrError: There is no such incident, or it has no verdict.
        SettingsError, ServiceUnavailable, AccessRefused: As :func:`give`.
    """
    incident, before = await _found(settings, incident_id)
    if before is None or before.verdict == "withdrawn":
        raise WhirrError(f"incident {incident.incident_id[:12]} has no verdict that could be taken back")
    word = Word(verdict="withdrawn", by=by, note=note)
    return await _say(settings, incident, before, word, time.time_ns() // 1000 if now_us is None else now_us)


async def newest(settings: Settings) -> dict[str, Verdict]:
    """Return each incident's newest verdict by its id, ``withdrawn`` among them, in the order given.

    Raises:
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: Kafka refuses this user.
    """
    found: dict[str, Verdict] = {}
    async for record in read_topic(settings, settings.verdicts_topic, missing_ok=True, hidden_ok=False):
        found.pop((record.key or b"").decode(errors="replace"), None)  # also if this version can't read the newer one
        if (verdict := read_verdict(record)) is not None:
            found[verdict.incident_id] = verdict
    return found


def read_verdicts(file: Path) -> list[Verdict]:
    """Return each incident's newest verdict in a file of JSON lines, as ``whirr verdicts --json`` prints them.

    With ``--all`` the file tells what was said before, also by versions that did not write that into a verdict.

    Raises:
        SettingsError: It can't be read, or a line is no verdict.
    """
    found: dict[str, Verdict] = {}
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"{str(file)!r} can't be read ({error.strerror}); expected a file of verdicts") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            verdict = parse_verdict(line)
        except ValueError as error:
            wrong = first_wrong(error) if isinstance(error, ValidationError) else error
            raise SettingsError(
                f"{file}, line {number} is no verdict ({wrong}); expected what `whirr verdicts --json` prints"
            ) from None
        before = found.pop(verdict.incident_id, None)
        if before is not None and not verdict.before:
            verdict = replace(verdict, before=_with_earlier(before))
        found[verdict.incident_id] = verdict
    return list(found.values())


async def audit_log(settings: Settings) -> list[Verdict]:
    """Return every verdict that was ever given, in that order.

    Raises:
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: Kafka refuses this user.
    """
    records = read_topic(settings, verdict_log_topic(settings.verdicts_topic), missing_ok=True, hidden_ok=False)
    return [verdict async for record in records if (verdict := read_verdict(record)) is not None]


async def incidents(settings: Settings, begins: str = "") -> dict[str, ReportedIncident]:
    """Return the incidents that the alerts topic still tells of, by id.

    Args:
        settings: How to reach Kafka, and the topic.
        begins: Only those whose id begins so.

    Raises:
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: Kafka refuses this user.
    """
    alerts: dict[str, list[Mapping[str, Any]]] = {}
    async for record in read_topic(settings, settings.alerts_topic, missing_ok=True, hidden_ok=False):
        try:
            alert = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        named = alert.get("incident_id") if isinstance(alert, dict) else None
        if isinstance(named, str) and named.startswith(begins):
            alerts.setdefault(named, []).append(alert)
    told = {one: _incident(one, own) for one, own in alerts.items()}
    return {one: incident for one, incident in told.items() if incident is not None}


def _incident(incident_id: str, alerts: Iterable[Mapping[str, Any]]) -> ReportedIncident | None:
    """Return what an incident's alerts tell, None if they are no alerts."""
    try:
        ordered = sorted(alerts, key=lambda alert: parse_rfc3339(alert["recorded_at"]))
        first, last = ordered[0], ordered[-1]
        begun = [first["recorded_at"]]
        begun += [alert["change"]["since"] for alert in ordered if isinstance(alert.get("change"), dict)]
        begun += [one["since"] for alert in ordered for one in alert.get("drift") or ()]
        # An early finding may outlast the alarm: what is left then is the alert's level, which 0.2 doesn't know.
        over = last["state"] == "anomalous" or (last["state"] in ("closed", "settled") and last.get("level") is None)
        return ReportedIncident(
            incident_id=incident_id,
            machine_id=first["machine_id"],
            source=first["source"],
            kind=first["kind"],
            began_at=min(begun, key=parse_rfc3339),
            ended_at=last["recorded_at"] if over else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


async def _found(settings: Settings, incident_id: str) -> tuple[ReportedIncident, Verdict | None]:
    """Return the incident whose id begins so, and its newest verdict.

    Raises:
        WhirrError: There is none, or several begin so.
    """
    wanted = incident_id.lower()
    if len(wanted) < _SHORTEST_ID:
        raise WhirrError(f"incident id is {incident_id!r}; expected at least {_SHORTEST_ID} of its digits")
    verdicts = await newest(settings)
    # Alerts are kept for weeks, verdicts for ever: they tell of older incidents.
    known = {one: _of_verdict(verdict) for one, verdict in verdicts.items() if one.startswith(wanted)}
    for one, incident in (await incidents(settings, wanted)).items():
        # Of an incident whose first alerts are gone, the verdict still knows when it began.
        began = min((incident.began_at, known.get(one, incident).began_at), key=parse_rfc3339)
        known[one] = replace(incident, began_at=began)
    if not known:
        raise WhirrError(
            f"no incident {incident_id!r} on topic {settings.alerts_topic!r}, nor a verdict on one; "
            "`whirr alerts --since 30d` lists them"
        )
    if len(known) > 1:
        raise WhirrError(f"{len(known)} incidents begin with {incident_id!r}: {', '.join(sorted(known)[:5])}")
    incident = next(iter(known.values()))
    if incident.machine_id == MANY_MACHINES:
        raise WhirrError(f"incident {incident.incident_id[:12]} is of many machines; a verdict is about one machine's")
    return incident, verdicts.get(incident.incident_id)


def _of_verdict(verdict: Verdict) -> ReportedIncident:
    return ReportedIncident(
        incident_id=verdict.incident_id,
        machine_id=verdict.machine_id,
        source=verdict.source,
        kind=verdict.kind,
        began_at=verdict.began_at,
        ended_at=verdict.ended_at,
    )


def _check(word: Word) -> None:
    if word.verdict not in WORDS:
        raise SettingsError(f"verdict is {word.verdict!r}; expected one of {', '.join(WORDS)}")
    if word.fault is not None and word.verdict not in _OF_A_FAULT:
        raise SettingsError(f"fault is {word.fault!r} of {word.verdict}; expected it of {' and '.join(_OF_A_FAULT)}")
    if word.since_us is not None and word.verdict not in _WITH_SINCE:
        raise SettingsError(f"since is given of {word.verdict}; expected it of {' and '.join(_WITH_SINCE)}")


async def _say(
    settings: Settings,
    incident: ReportedIncident,
    before: Verdict | None,
    word: Word,
    now_us: int,
    *,
    fault: str | None = None,
    since_us: int | None = None,
) -> Verdict:
    now, by = format_rfc3339(now_us), word.by.strip()
    try:
        said = _CHECKED.validate_python(
            {
                "verdict_id": verdict_id(incident.incident_id, word.verdict, by, now),
                "incident_id": incident.incident_id,
                "machine_id": incident.machine_id,
                "source": incident.source,
                "kind": incident.kind,
                "verdict": word.verdict,
                "by": by,
                "time": now,
                "began_at": incident.began_at,
                "ended_at": incident.ended_at,
                "note": word.note,
                "fault": None if fault is None else fault.strip(),
                "since": None if since_us is None else format_rfc3339(since_us),
                "replaces": None if before is None else before.verdict_id,
                "before": () if before is None else _with_earlier(before),
            }
        )
    except (ValidationError, UnicodeEncodeError) as error:
        wrong = first_wrong(error) if isinstance(error, ValidationError) else "text is no UTF-8"
        raise SettingsError(f"verdict on incident {incident.incident_id[:12]}: {wrong}") from None
    await _write(settings, said)
    return said


def _with_earlier(before: Verdict) -> tuple[EarlierVerdict, ...]:
    """Return what was said until now; the oldest goes where it is too much."""
    said = EarlierVerdict(verdict=before.verdict, time=before.time, since=before.since)
    return (*before.before, said)[-MAX_BEFORE:]


async def _write(settings: Settings, said: Verdict) -> None:
    async with admin_client(settings) as admin:
        await create_topics(admin, settings, verdict_topic_specs(settings))
    key, value = said.incident_id.encode(), orjson.dumps(said)
    headers = [(name, text.encode()) for name, text in _headers(said).items()]
    async with commands_producer(settings, "whirr-verdict") as producer:
        topic = verdict_log_topic(settings.verdicts_topic)
        try:
            await producer.send_and_wait(topic, value, key=key, headers=headers)
            topic = settings.verdicts_topic
            await producer.send_and_wait(topic, value, key=key, headers=headers)
        except (KafkaError, OSError, TimeoutError) as error:
            shown = f"{type(error).__name__}: {error}".strip(": ")
            raise refusal(error, settings, "write", f"topic {topic!r}") or ServiceUnavailable(
                f"the verdict on incident {said.incident_id[:12]} was not acknowledged on {topic!r} by Kafka at "
                f"{settings.bootstrap} ({shown}) and may not count; give it again"
            ) from None


def _headers(said: Verdict) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        "ce_type": VERDICT_TYPE,
        "ce_id": said.verdict_id,
        "ce_source": "whirr-verdict",
        "ce_time": said.time,
        "content-type": "application/json",
    }


def read_verdict(record: ConsumerRecord) -> Verdict | None:
    """Return the verdict in a record; None, and a line in the log, where it is none that this version knows."""
    try:
        return parse_verdict(record.value or b"")
    except ValueError as error:
        wrong = first_wrong(error) if isinstance(error, ValidationError) else error
        at = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="seconds")
        log.warning("record %d of %s, stored at %s, is no verdict (%s)", record.offset, record.topic, at, wrong)
        return None
