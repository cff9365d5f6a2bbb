"""A person who answers alerts: late, not always, and sometimes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.season.stories import Story
from schemas import Alert
from schemas.times import format_rfc3339, parse_rfc3339
from schemas.verdict import Verdict, VerdictWord, verdict_id

DAY_US = 86_400_000_000
ANSWERS = 0.8  # of incidents
WRONG = 0.05  # of answers
HOURS = {"alarm": 5.0, "early": 24.0}  # median
SPREAD = 0.8  # of the logarithm


@dataclass(slots=True)
class Person:
    """Answers the alerts of one machine.

    Args:
        story: What really happens to it.
        start_us: When the season began.
        seed: Of delays and errors.
        answered: Share of the incidents that are answered.
        wrong: Share of the answers that are wrong.
    """

    story: Story
    start_us: int
    seed: int
    answered: float = ANSWERS
    wrong: float = WRONG
    _random: np.random.Generator = field(init=False)
    _asked: dict[str, Alert] = field(default_factory=dict)
    _due: list[tuple[int, str]] = field(default_factory=list)
    _confirmed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with the seed's random numbers."""
        self._random = np.random.default_rng([self.seed, *self.story.machine_id.encode()])

    def hear(self, alert: Alert) -> None:
        """Take an alert; some incidents are never answered."""
        first = alert.incident_id not in self._asked
        louder = not first and alert.state == "opened" and self._asked[alert.incident_id].state == "changed"
        if alert.kind != "machine" or alert.state not in ("changed", "opened") or not (first or louder):
            return
        self._asked[alert.incident_id] = alert
        if self._random.random() > self.answered:
            return
        hours = HOURS["alarm" if alert.state == "opened" else "early"] * np.exp(SPREAD * self._random.normal())
        self._due.append((parse_rfc3339(alert.recorded_at) + round(hours * 3.6e9), alert.incident_id))

    def answers(self, now_us: int) -> list[Verdict]:
        """Return what is said until now, and not before."""
        said = [self._answer(at_us, one) for at_us, one in sorted(self._due) if at_us <= now_us]
        self._due = [one for one in self._due if one[0] > now_us]
        return [*said, *self._repairs(now_us)]

    def _answer(self, at_us: int, incident_id: str) -> Verdict:
        alert = self._asked[incident_id]
        day = (parse_rfc3339(alert.recorded_at) - self.start_us) / DAY_US
        since_us = None
        word: VerdictWord = "false_alarm"
        fault = next((one for one in self.story.faults if one.severity(day) > 0), None)
        event = next((one for one in reversed(self.story.events) if one.day <= day < one.day + 10), None)
        if fault is not None:
            word = "confirmed"
        elif event is not None:
            word, since_us = "new_normal", self.start_us + round(event.day * DAY_US)
        if self._random.random() < self.wrong:
            word, since_us = ("false_alarm", None) if word == "confirmed" else ("confirmed", None)
        if word == "confirmed" and fault is not None and fault.repaired_day is not None:
            self._confirmed[incident_id] = fault.repaired_day
        return self._verdict(alert, word, at_us, since_us, None if fault is None else fault.what)

    def _repairs(self, now_us: int) -> list[Verdict]:
        said = []
        for incident_id, day in list(self._confirmed.items()):
            at_us = self.start_us + round(day * DAY_US)
            if at_us <= now_us:
                del self._confirmed[incident_id]
                self._due = [one for one in self._due if one[1] != incident_id]  # there is no more to say of it
                said.append(self._verdict(self._asked[incident_id], "repaired", at_us + 3_600_000_000, at_us, None))
        return said

    def _verdict(self, alert: Alert, word: VerdictWord, at_us: int, since_us: int | None, fault: str | None) -> Verdict:
        time = format_rfc3339(at_us)
        return Verdict(
            verdict_id=verdict_id(alert.incident_id, word, "person", time),
            incident_id=alert.incident_id,
            machine_id=alert.machine_id,
            source=alert.source,
            kind=alert.kind,
            verdict=word,
            by="person",
            time=time,
            began_at=alert.recorded_at if alert.change is None else alert.change.since,
            fault=fault if word in ("confirmed", "repaired") else None,
            since=None if since_us is None else format_rfc3339(since_us),
        )
