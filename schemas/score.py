"""A score: what Whirr thought of one frame. One JSON object for every frame that could be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

SCORE_TYPE = "whirr.score.v1"
ScoreStatus = Literal["scored", "late", "idle"]
NO_MODEL = "none"  # in place of a model's version
IdleReason = Literal["quiet", "start_up", "muted", "maintenance", "learning"]
SensorFault = Literal["flat", "clipped", "silent"]
Unfamiliar = Literal["machine", "rate", "length", "condition"]
Timestamp = Annotated[str, Field(description="RFC 3339, UTC, microseconds", json_schema_extra={"format": "date-time"})]
Identity = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="16 bytes in hex")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Which model spoke.

    Attributes:
        name: Of a machine that is learning: of the registered model that it waits for.
        version: ``none`` where it is learning, and no model spoke.
    """

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One frame's score.

    Attributes:
        status: ``scored`` moved its stream's state; ``late`` was recorded at or before the newest frame of its
            stream and moved nothing; ``idle`` moved no alert state, for ``idle_reason``.
        idle_reason: Why: the machine is ``quiet`` or within its ``start_up``, its route is ``muted``, or it is
            ``learning``: no model judges it yet.
        score: At least 0, larger is worse: the mean over the frame's windows of the worst channel; 0 where no model
            spoke.
        threshold: The alert threshold that the score is compared with; 1 where there is none.
        sensor_fault: What is wrong with the signal itself, or None.
        missing_before: Frames that the sensor's sequence says were lost just before this one.
        unfamiliar: In what the frame differs from what the model was trained on, so that its score means little:
            another ``machine``, a ``rate`` that leaves bands empty, another ``length``, a ``condition`` (speed or load)
            beyond those learnt.
        shadow: Whether a challenger gave it, beside the champion's: it moves nothing and raises no alert.
    """

    frame_id: Identity
    machine_id: str
    source: str | None
    recorded_at: Timestamp
    scored_at: Timestamp
    score: Annotated[float, Field(ge=0)]
    threshold: Annotated[float, Field(gt=0)]
    status: ScoreStatus
    idle_reason: IdleReason | None
    sensor_fault: SensorFault | None
    level_dbfs: Annotated[float, Field(description="root mean square of the frame, mean removed, dB re full scale")]
    missing_before: Annotated[int, Field(ge=0)]
    model: ModelRef
    topic: str
    partition: int
    offset: int
    unfamiliar: tuple[Unfamiliar, ...] = ()
    shadow: bool = False
