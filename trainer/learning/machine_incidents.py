"""What a machine's incidents and the verdicts on them mean for learning: what may be learnt, what never."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from schemas import Alert
from schemas.times import parse_rfc3339
from schemas.verdict import Verdict
from trainer.learning.spans import Span, merged

Why = Literal["incident", "fault", "before_repair", "before_new_normal"]
Asked = Literal["repaired", "new_normal"]
_SAYS_NOTHING: Final = ("seen", "withdrawn")
_BEFORE: Final[dict[str, Why]] = {"repaired": "before_repair", "new_normal": "before_new_normal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardIncident:
    """An incident of a machine, or of one of its signals, as its alerts tell it.

    Attributes:
        incident_id: Its id.
        source: Of which sensor.
        kind: ``machine``, ``sensor`` or ``drift``.
        since_us: When what it tells of began: its shift's or drift's beginning, if it has one, else its first alert.
        opened_us: When its first alert came.
        until_us: When it ended; None while it is open.
        alarm: Whether it was an alarm at any time, not an early finding alone.
        verdict: The newest one on it, None without.
    """

    incident_id: str
    source: str | None
    kind: str
    since_us: int
    opened_us: int
    until_us: int | None = None
    alarm: bool = False
    verdict: Verdict | None = None

    @property
    def word(self) -> str | None:
        """What was said of it, as far as that says what it was."""
        verdict = self.verdict
        return None if verdict is None or verdict.verdict in _SAYS_NOTHING else verdict.verdict


class Unlearnable(NamedTuple):
    """A span of time of which nothing may be learnt, and why."""

    span: Span
    why: Why


class MachineIncidents:
    """The incidents of one machine, with what was said of them; the order in which alerts and verdicts come is free."""

    def __init__(self) -> None:
        self._incidents: dict[str, HeardIncident] = {}
        self._verdicts: dict[str, Verdict] = {}

    def __iter__(self) -> Iterator[HeardIncident]:
        return iter(self._incidents.values())

    def hear(self, alert: Alert) -> None:
        """Take note of an alert; one that comes again changes nothing."""
        at_us = parse_rfc3339(alert.recorded_at)
        begun = [alert.change.since] if alert.change is not None else [one.since for one in alert.drift]
        since_us = min([at_us, *map(parse_rfc3339, begun)])
        over = alert.state == "anomalous" or (alert.state in ("closed", "settled") and alert.level is None)
        is_alarm = alert.kind == "machine" and alert.state in ("opened", "updated", "closed", "anomalous")
        known = self._incidents.get(alert.incident_id)
        if known is None:
            known = HeardIncident(
                incident_id=alert.incident_id,
                source=alert.source,
                kind=alert.kind,
                since_us=since_us,
                opened_us=at_us,
                verdict=self._verdicts.get(alert.incident_id),
            )
        self._incidents[alert.incident_id] = replace(
            known,
            since_us=min(known.since_us, since_us),
            opened_us=min(known.opened_us, at_us),
            until_us=max(at_us, known.until_us or at_us) if over else known.until_us,
            alarm=known.alarm or is_alarm,
        )

    def say(self, verdict: Verdict) -> None:
        """Take note of a verdict, in place of an earlier one on the same incident."""
        before = self._verdicts.get(verdict.incident_id)
        if before is not None and parse_rfc3339(before.time) > parse_rfc3339(verdict.time):
            return
        self._verdicts[verdict.incident_id] = verdict
        known = self._incidents.get(verdict.incident_id)
        if known is None:  # its alerts are gone, or still to come
            known = HeardIncident(
                incident_id=verdict.incident_id,
                source=verdict.source,
                kind=verdict.kind,
                since_us=parse_rfc3339(verdict.began_at),
                opened_us=parse_rfc3339(verdict.began_at),
                until_us=None if verdict.ended_at is None else parse_rfc3339(verdict.ended_at),
                alarm=verdict.kind == "machine",
            )
        self._incidents[verdict.incident_id] = replace(known, verdict=verdict)

    @property
    def open(self) -> list[HeardIncident]:
        """Those that have not ended and of which nobody has said anything that ends them."""
        return [one for one in self._incidents.values() if one.until_us is None and one.word is None]

    def asked(self) -> tuple[int, Asked] | None:
        """Return when the newest baseline begins that a person asked for, and by which word; None: nobody did."""
        found: list[tuple[int, Asked]] = []
        for one in self._incidents.values():
            since_us = _baseline_since(one)
            if one.kind != "sensor" and since_us is not None:
                found.append((since_us, "repaired" if one.word == "repaired" else "new_normal"))
        return max(found, default=None)

    def unlearnable(self, margin_us: int) -> list[Unlearnable]:
        """Return what may not be learnt: frames in or near an incident, until somebody says that all was well.

        A confirmed fault is never learnt, nor is what came before a repair since the fault began. A drift that nobody
        has answered is no reason: what has left the anchor is not learnt in any case.

        Args:
            margin_us: So near an incident is in it: a fault that grows begins before it is found.
        """
        found = []
        for one in self._incidents.values():
            if one.word == "false_alarm" or (one.kind == "drift" and one.word is None):
                continue
            from_us, since_us = one.since_us - margin_us, _baseline_since(one)
            if since_us is not None:
                found.append(Unlearnable(Span(from_us, since_us), _BEFORE[one.word or ""]))
            else:
                until_us = None if one.until_us is None else one.until_us + margin_us
                found.append(Unlearnable(Span(from_us, until_us), "fault" if one.word == "confirmed" else "incident"))
        return found

    def faults(self) -> list[tuple[Span, str | None]]:
        """Return the confirmed faults' spans, with what they were: the labelled test of whatever is learnt."""
        found = []
        for one in self._incidents.values():
            if one.word in ("confirmed", "repaired"):
                until_us = one.until_us if one.word == "confirmed" else _baseline_since(one)
                found.append((_fault_span(one, until_us), one.verdict.fault if one.verdict else None))
        return found

    def accepted_us(self) -> int | None:
        """Return until when a person has said that the machine is well, the last end of a false alarm; None: never."""
        ends = [
            one.until_us or parse_rfc3339(one.verdict.time)
            for one in self._incidents.values()
            if one.kind != "sensor" and one.word == "false_alarm" and one.verdict is not None
        ]
        return max(ends, default=None)

    def spans_of(self, *words: str | None) -> list[Span]:
        """Return the spans of the machine's incidents of which one of these was said (None: nothing was)."""
        own = (one for one in self._incidents.values() if one.kind == "machine" and one.word in words)
        return merged(Span(one.since_us, one.until_us) for one in own)


def _fault_span(one: HeardIncident, until_us: int | None) -> Span:
    """Return when a fault was there: from its first alert on, or its beginning if it was mended before that.

    It is never empty: an incident of one frame holds that frame.
    """
    from_us = one.opened_us if until_us is None or until_us >= one.opened_us else one.since_us
    return Span(from_us, None if until_us is None else max(until_us, from_us + 1))


def _baseline_since(one: HeardIncident) -> int | None:
    if one.word not in ("repaired", "new_normal") or one.verdict is None or one.verdict.since is None:
        return None
    return parse_rfc3339(one.verdict.since)
