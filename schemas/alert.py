"""An alert: one transition of an incident, of one stream or of a machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schemas.score import Identity, SensorFault, Timestamp, Unfamiliar

ALERT_TYPE = "whirr.alert.v1"
AlertKind = Literal["machine", "sensor", "drift"]
AlertState = Literal["changed", "opened", "updated", "closed", "settled", "anomalous", "reminded"]
AlertReason = Literal["forgotten", "false_alarm", "repaired", "new_normal", "learnt"]
Severity = Literal["early", "warning", "critical"]
MANY_MACHINES = "(many)"  # in place of a machine id, none of which has brackets
MAX_NAMED_MACHINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One frequency band's part in what drove a score."""

    from_hz: Annotated[float, Field(ge=0)]
    to_hz: Annotated[float, Field(ge=0)]
    share: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRef:
    """Which frame caused a transition.

    Attributes:
        foreign_id: The ``ce_id`` that its producer gave it.
        published_at: The record's timestamp in Kafka.
    """

    frame_id: Identity
    foreign_id: str | None
    sequence: int | None
    duration_s: Annotated[float, Field(gt=0)]
    published_at: Timestamp
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertModel:
    """Which model spoke, and the run that trained it; of a machine that is learning, as in its scores."""

    name: str
    version: str
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A lasting shift of a machine's score, and what it was compared with.

    Attributes:
        since: Start of the recording of the first frame of the shift.
        frames: So many have been scored since then.
        score: Their mean score.
        normal_score: The median score of the normals that the model was trained on.
        evidence: As a share of what opens an early finding, 0 to 1.
        data_hash: Of those normals, as the model's metadata has it.
    """

    since: Timestamp
    frames: Annotated[int, Field(ge=1)]
    score: Annotated[float, Field(ge=0)]
    normal_score: float
    evidence: Annotated[float, Field(ge=0, le=1)]
    data_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """A quantity of a machine that has drifted: the median of its days has moved.

    Attributes:
        name: ``score``, or one of the 13 statistics.
        since: From when on its days lie on one side of what was usual.
        deviations: How far its last days have moved, in standard deviations between the days before.
        per_day: How fast, in those a day, over the days since.
    """

    name: Annotated[str, Field(min_length=1)]
    since: Timestamp
    deviations: float
    per_day: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One transition of an incident, or one anomalous frame in mode ``every``.

    The alarm is ``opened``, ``updated`` and ``closed``. An early finding, that the score has shifted and stays so, is
    ``changed`` and ``settled``, of severity ``early``: look at the machine this week. Both are levels of one incident,
    which may begin with either and ends when neither holds; ``level`` says what is left after each transition. While it
    lasts and nobody has said anything of it, it is ``reminded`` of.

    A ``drift`` is an incident of a whole machine, told by ``whirr learn`` and not by a frame: neither fault nor normal
    by itself, it is asked about. It is ``changed``, ``reminded`` of, and ``settled``, of severity ``early``.

    Attributes:
        alert_id: The same for every redelivery; deduplicate by it.
        incident_id: The ``alert_id`` of the transition that began the incident.
        kind: ``machine``, ``sensor`` for a signal that is flat, clipped or silent (``sensor_fault`` says which), or
            ``drift``.
        machine_id: The machine; ``(many)`` where one alert reports many streams' silence (then ``source`` is None).
        score, threshold, ratio: Of the frame; None for ``silent``, where no frame came, for ``drift``, and without a
            model.
        recorded_at: Start of the recording of the frame (``silent``, ``drift``: of the last one heard).
        bands: The bands that drove the score, largest share first; empty where none stands out. Of a drift, those whose
            level in the archived recordings has moved since.
        statistics: The stream's rolling mean of the 13 statistics, by name.
        reason: Why an incident is over, where no frames ended it: its stream was ``forgotten``, having been silent for
            long, or a person's verdict, ``false_alarm``, ``repaired`` or ``new_normal``; or a drift was ``learnt``.
        streams: Of an alert about many machines: how many streams are silent.
        machines: Of such an alert: ids of some of those machines, at most 20.
        unfamiliar: As in the frame's score: in what it differs from what the model was trained on.
        level: Of the incident from now on; None: it is over. Versions before 0.3 don't say.
        change: The lasting shift, while there is an early finding; of ``changed`` and ``settled``, bands are the
            shift's, not the frame's.
        learning: Whether the machine is learning: but for its sensors it isn't judged, having no model yet, or anew.
        baseline: Id of the machine's baseline, which the incident departs from; None where the model names none.
        drift: Of a drift: the quantities that have moved, the most certain first.
    """

    alert_id: Identity
    incident_id: Identity
    kind: AlertKind
    sensor_fault: SensorFault | None
    machine_id: str
    source: str | None
    state: AlertState
    severity: Severity
    score: Annotated[float, Field(ge=0)] | None
    threshold: Annotated[float, Field(gt=0)] | None
    ratio: Annotated[float, Field(ge=0)] | None
    recorded_at: Timestamp
    scored_at: Timestamp
    frame: FrameRef | None
    model: AlertModel
    bands: tuple[Band, ...]
    statistics: dict[str, float]
    reason: AlertReason | None = None
    streams: Annotated[int, Field(ge=0)] | None = None
    machines: tuple[str, ...] = ()
    unfamiliar: tuple[Unfamiliar, ...] = ()
    level: Severity | None = None
    change: Change | None = None
    baseline: Identity | None = None
    learning: bool = False
    drift: tuple[Drifted, ...] = ()


def alert_id(frame_id: str, transition: str) -> str:
    """Return an alert's identity: the first 16 bytes, in hex, of SHA-256 over frame id, NUL and transition.

    Args:
        frame_id: The frame that caused the transition (``silent``: the last frame seen).
        transition: Kind, sensor fault and state joined by ':', such as ``machine::opened`` or ``sensor:flat:closed``.
    """
    return hashlib.sha256(f"{frame_id}\0{transition}".encode()).hexdigest()[:32]
