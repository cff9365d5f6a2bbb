"""A machine's drift as an incident of its own: told once, asked about, and over when it is answered, learnt or gone.

What was told stands on the alerts topic, and is read back at each start; so nothing of it is kept here, and it is told
by the same id whenever it is told on the same day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from schemas.alert import Alert, AlertModel, AlertReason, Drifted, alert_id
from schemas.times import format_rfc3339, parse_rfc3339
from trainer.learning.drift import DAY_US, Drift
from trainer.learning.machine_incidents import HeardIncident, MachineIncidents
from trainer.learning.spans import any_holds

if TYPE_CHECKING:
    from trainer.learning.learner import LearntVersion

GONE_DAYS: Final = 3  # not found for so long, a drift is over
REMIND_DAYS: Final = 7  # and alerts are kept for longer, so that one that is open stays on their topic
WENT_ON: Final = 1.5  # times as far as what a person called no drift: that is another one
_LAST_WORDS: Final[dict[str | None, AlertReason]] = {
    "false_alarm": "false_alarm",
    "repaired": "repaired",
    "new_normal": "new_normal",
}


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found by the test of a day, under a version.

    Attributes:
        day: Number since the epoch.
        number: The champion's.
        found: All quantities together, the most certain first.
        statistics: Of these the 13 statistics'.
        level: What is less certain is not told.
        from_us: The first day whose scores were looked at; None without.
    """

    day: int
    number: int
    found: tuple[Drift, ...]
    statistics: tuple[Drift, ...]
    level: float
    from_us: int | None


@dataclass(slots=True)
class DriftIncidents:
    """What was told of a machine's drifts, and what is to be told."""

    _told: dict[str, Alert] = field(default_factory=dict)  # the newest of each
    _first_us: dict[str, int] = field(default_factory=dict)  # recording time of its first
    _look: _Look | None = None
    _found_on: dict[str, int] = field(default_factory=dict)

    def hear(self, alert: Alert) -> None:
        """Take note of an alert about a drift; one that comes again changes nothing."""
        known = self._told.get(alert.incident_id)
        at_us = parse_rfc3339(alert.recorded_at)
        self._first_us[alert.incident_id] = min(at_us, self._first_us.get(alert.incident_id, at_us))
        if alert.state != "settled" and (known is None or _told_us(known) <= _told_us(alert)):
            self._told[alert.incident_id] = alert

    def look(
        self,
        day: int,
        number: int,
        of_score: Sequence[Drift],
        of_statistics: Sequence[Drift],
        *,
        level: float,
        from_us: int | None,
    ) -> None:
        """Take what the test of a day has found.

        Args:
            day: Number since the epoch.
            number: The champion's.
            of_score: Whether the score has drifted.
            of_statistics: Which statistics have.
            level: What is less certain (``p``) is not told, but what was told lasts with it.
            from_us: The first day whose scores were looked at, microseconds since the epoch; None without.
        """
        if self._look is None or self._look.number != number:
            self._found_on = {}
        found = tuple(sorted((*of_score, *of_statistics), key=lambda one: one.p))
        self._look = _Look(day, number, found, tuple(of_statistics), level, from_us)
        self._found_on |= {one.name: day for one in found}

    def of_statistics(self, number: int) -> tuple[Drift, ...]:
        """Return which of the 13 statistics had drifted when it was last looked for under a champion."""
        return self._look.statistics if self._look is not None and self._look.number == number else ()

    def untold(
        self, machine_id: str, champion: LearntVersion | None, incidents: MachineIncidents, last_us: int, now_us: int
    ) -> Iterator[Alert]:
        """Yield what is to be told now; once it was, and was heard, it is not any more.

        Args:
            machine_id: Whose.
            champion: Its model; None while it is learning.
            incidents: All of the machine, with what was said of them.
            last_us: When the machine was last heard.
            now_us: The time.
        """
        known = {one.incident_id: one for one in incidents if one.kind == "drift"}
        open_now = [(known[name], told) for name, told in self._told.items() if known[name].until_us is None]
        for incident, told in open_now:
            over, reason = self._over(incident, told, champion, incidents, now_us)
            if over:
                yield replace(
                    _timed(told, "settled", told.incident_id, last_us, now_us), bands=(), level=None, reason=reason
                )
            elif _unanswered(incident) and now_us >= _told_us(told) + REMIND_DAYS * DAY_US:
                yield self._reminder(told, champion, last_us, now_us)
        found = self._new(champion, incidents)
        if found and champion is not None and not open_now:
            alert = _changed(machine_id, champion, found, last_us, now_us)
            if alert.alert_id not in known:  # told on this day, and answered since
                yield alert

    def _new(self, champion: LearntVersion | None, incidents: MachineIncidents) -> list[Drift]:
        """Return what the last look has found that is worth an incident of its own."""
        look = self._look
        if look is None or champion is None or look.number != champion.number:
            return []
        if any(_speaks_for_itself(one) for one in incidents):
            return []
        said = [
            drifted
            for one in incidents
            if one.kind == "drift" and one.word == "false_alarm" and one.incident_id in self._told
            for told in (self._told[one.incident_id],)
            if told.model.version == champion.metadata.version
            for drifted in told.drift
        ]
        sure = [one for one in look.found if one.p < look.level]
        return [one for one in sure if not any(_is_like(one, other) for other in said)]

    def _over(
        self,
        incident: HeardIncident,
        told: Alert,
        champion: LearntVersion | None,
        incidents: MachineIncidents,
        now_us: int,
    ) -> tuple[bool, AlertReason | None]:
        """Return whether an incident is over, and why where its being gone is not."""
        if (reason := _LAST_WORDS.get(incident.word)) is not None:
            return True, reason
        asked = incidents.asked()
        if asked is not None and asked[0] > incident.since_us:
            return True, asked[1]
        if incident.word == "confirmed" or champion is None:
            return False, None  # a fault lasts until it is repaired
        if told.model.version != champion.metadata.version:
            return (True, "learnt") if _has_learnt(champion, self._first_us[told.incident_id]) else (False, None)
        return self._is_gone(told, champion, now_us), None

    def _is_gone(self, told: Alert, champion: LearntVersion, now_us: int) -> bool:
        look, today = self._look, now_us // DAY_US
        if look is None or look.number != champion.number or look.day != today:
            return False
        first_us = min(parse_rfc3339(one.since) for one in told.drift)
        of_score = any(one.name == "score" for one in told.drift)
        if of_score and (look.from_us is None or look.from_us >= first_us):
            return False  # only days since it began were heard: these differ no more among each other
        last = max(self._found_on.get(one.name, 0) for one in told.drift)
        return today - max(last, _told_us(told) // DAY_US) >= GONE_DAYS

    def _reminder(self, told: Alert, champion: LearntVersion | None, last_us: int, now_us: int) -> Alert:
        """Return a reminder, with what was last found of it."""
        look = self._look
        now = look.found if look is not None and champion is not None and look.number == champion.number else ()
        same = {one.name: one for one in _as_told(now)}
        drift = tuple(
            replace(same[one.name], since=min(one.since, same[one.name].since)) if one.name in same else one
            for one in told.drift
        )
        key = f"{told.incident_id}\0{now_us // DAY_US}"
        return replace(_timed(told, "reminded", key, last_us, now_us), drift=drift)


def _changed(machine_id: str, champion: LearntVersion, found: Sequence[Drift], last_us: int, now_us: int) -> Alert:
    metadata = champion.metadata
    baseline = metadata.baselines.get(machine_id)
    name = alert_id(f"{machine_id}\0{metadata.version}\0{now_us // DAY_US}", "drift::changed")
    return Alert(
        alert_id=name,
        incident_id=name,
        kind="drift",
        sensor_fault=None,
        machine_id=machine_id,
        source=None,
        state="changed",
        severity="early",
        score=None,
        threshold=None,
        ratio=None,
        recorded_at=format_rfc3339(last_us),
        scored_at=format_rfc3339(now_us),
        frame=None,
        model=AlertModel(name=metadata.name, version=metadata.version, run_id=metadata.run_id),
        bands=(),
        statistics={},
        level="early",
        baseline=None if baseline is None else baseline.baseline_id,
        drift=_as_told(found),
    )


def _timed(told: Alert, state: str, key: str, last_us: int, now_us: int) -> Alert:
    values = {
        "alert_id": alert_id(key, f"drift::{state}"),
        "state": state,
        "recorded_at": max(told.recorded_at, format_rfc3339(last_us)),
        "scored_at": format_rfc3339(now_us),
    }
    return replace(told, **values)  # type: ignore[arg-type]


def _as_told(found: Sequence[Drift]) -> tuple[Drifted, ...]:
    return tuple(
        Drifted(name=one.name, since=format_rfc3339(one.since_us), deviations=one.deviations, per_day=one.per_day)
        for one in found
    )


def _told_us(alert: Alert) -> int:
    return parse_rfc3339(alert.scored_at)


def _unanswered(incident: HeardIncident) -> bool:
    return incident.verdict is None or incident.verdict.verdict == "withdrawn"


def _speaks_for_itself(one: HeardIncident) -> bool:
    """Whether an incident is open that says already that the machine has changed."""
    if one.until_us is not None:
        return False
    return one.word == "confirmed" if one.kind == "drift" else one.kind == "machine" and one.word in (None, "confirmed")


def _is_like(found: Drift, told: Drifted) -> bool:
    """Whether a quantity has moved in the way that was told, and not much further."""
    same = found.name == told.name and (found.deviations > 0) == (told.deviations > 0)
    return same and abs(found.deviations) < WENT_ON * abs(told.deviations)


def _has_learnt(champion: LearntVersion, at_us: int) -> bool:
    until_us = champion.baseline.until_us
    return until_us is not None and until_us >= at_us and not any_holds(champion.left_out, at_us)
