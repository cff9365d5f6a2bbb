"""The alert rule: when an incident opens, changes its severity and closes.

One latch decides both: it turns on when ``k`` of the last ``n`` frames exceed a level, and off after ``m`` frames in a
row below a lower one. An incident is a latch at the alert threshold with a second one at the critical level; both need
several frames to move, so a score that flickers about a level changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.alert import AlertState, Severity


class Rule(NamedTuple):
    """The numbers of a rule; see :class:`whirr.settings.Route` for their meaning and limits."""

    k: int = 3
    n: int = 5
    m: int = 5
    hysteresis: float = 0.9
    critical_ratio: float = 2.0


@dataclass(frozen=True, slots=True)
class Latch:
    """Whether a level is held.

    Attributes:
        recent: One bit for each of the last n frames, the newest lowest; set where the frame exceeded the level.
        below: Frames in a row below the closing level.
        on: Whether the level is held.
    """

    recent: int = 0
    below: int = 0
    on: bool = False

    def updated(self, exceeds: bool, below: bool, rule: Rule) -> Latch:
        """Return the latch after a frame that exceeds the level, or is below the closing level, or neither."""
        if not (self.recent or self.on or exceeds):
            return self if not self.below else _OFF  # as nearly always: nothing happened for long, nor does now
        recent = ((self.recent << 1) | exceeds) & ((1 << rule.n) - 1)
        if self.on:
            in_a_row = self.below + 1 if below else 0
            # Old excesses must not count towards the next incident.
            return _OFF if in_a_row >= rule.m else Latch(recent, in_a_row, True)
        return Latch(recent, 0, exceeds and recent.bit_count() >= rule.k)


_OFF = Latch()


@dataclass(frozen=True, slots=True)
class Incident:
    """The alert state of one kind of trouble in one stream.

    Attributes:
        incident_id: 32 hex digits while open, else ''.
        alert: The latch at the alert threshold.
        critical: The latch at the critical level.
    """

    incident_id: str = ""
    alert: Latch = field(default_factory=Latch)
    critical: Latch = field(default_factory=Latch)

    @property
    def severity(self) -> Severity:
        """The severity that was last reported."""
        return "critical" if self.critical.on else "warning"


def step(incident: Incident, ratio: float, rule: Rule) -> tuple[Incident, AlertState | None]:
    """Return the incident after one frame, and the transition that the frame caused, if any.

    Args:
        incident: As it stood. A caller that is told ``opened`` sets ``incident_id`` on the result.
        ratio: The frame's score divided by the alert threshold.
        rule: Numbers of the rule.
    """
    alert = incident.alert.updated(ratio > 1.0, ratio < rule.hysteresis, rule)
    # A score must exceed the alert threshold, but is critical from its ratio on.
    part = ratio / rule.critical_ratio
    critical = incident.critical.updated(part >= 1.0, part < rule.hysteresis, rule)
    if alert is incident.alert and critical is incident.critical:
        return incident, None
    transition: AlertState | None = None
    if alert.on and not incident.alert.on:
        transition = "opened"
    elif incident.alert.on and not alert.on:
        # The closing alert has the severity that the incident had.
        return Incident(), "closed"
    elif alert.on and critical.on != incident.critical.on:
        transition = "updated"
    return Incident(incident.incident_id, alert, critical), transition


def severity_of(ratio: float, rule: Rule) -> Severity:
    """Return the severity of a single anomalous frame (mode ``every``)."""
    return "critical" if ratio >= rule.critical_ratio else "warning"
