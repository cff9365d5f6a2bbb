"""What people's verdicts do to a stream: they end incidents, except what is like a false alarm, and begin anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from schemas.alert import Alert, AlertReason
from schemas.times import parse_rfc3339
from stream_app.pipeline import alert_builder
from stream_app.pipeline.analyse import Computed
from stream_app.pipeline.cusum import NEVER, Shift
from stream_app.pipeline.incident_memory import MOST_REMEMBERED, RememberedIncident, Shares
from stream_app.pipeline.router import US_PER_HOUR
from stream_app.pipeline.rule import Incident
from stream_app.pipeline.state import SENSOR_FAULTS, StreamState
from stream_app.pipeline.verdict_timeline import MachineVerdicts

_MODEL_DIGITS: Final = 16


class Learning(NamedTuple):
    """That a machine is learnt anew.

    Attributes:
        since_us: What was recorded from then on is its normal state.
        until_us: Then the model that there is judges again, whether or not another one came.
    """

    since_us: int
    until_us: int


def learning(computed: Computed, told: MachineVerdicts | None) -> Learning | None:
    """Return whether the frame's machine is learnt anew.

    It is so for the route's ``learning_h`` from the verdict on, or until a model serves it that was learnt from what
    was recorded since the repair, or since the machine changed.
    """
    frame, routed = computed.frame, computed.routed
    anew = None if told is None else told.anew(frame.recorded_us)
    if anew is None:
        return None
    until_us = anew.from_us + round(routed.route.learning_h * US_PER_HOUR)
    if frame.recorded_us >= until_us:
        return None
    baseline = routed.model.metadata.baselines.get(frame.machine_id)
    if baseline is not None and baseline.from_at is not None and parse_rfc3339(baseline.from_at) >= anew.since_us:
        return None
    return Learning(anew.since_us, until_us)


def heeded(
    computed: Computed, state: StreamState, told: MachineVerdicts, now_us: int, raised: list[Alert]
) -> StreamState:
    """Return a stream's state with what a person says is over ended, and report that.

    Args:
        computed: The frame that is the first to know of it, if there is anything new.
        state: From before it.
        told: What was said of its machine's incidents.
        now_us: Wall clock.
        raised: Takes the alerts.
    """
    recorded_us = computed.frame.recorded_us
    reason: AlertReason | None = None
    anew = told.anew(recorded_us)
    if anew is not None and anew.from_us > state.anew_us:
        reason = "repaired" if anew.verdict == "repaired" else "new_normal"
        state = replace(state, anew_us=anew.from_us)
    elif state.machine.incident_id and told.verdict(state.machine.incident_id, recorded_us) == "false_alarm":
        reason = "false_alarm"
    if reason is not None:
        if state.machine.incident_id:
            raised.append(alert_builder.machine_ended(computed, state, reason, now_us))
        known = tuple(one for one in state.remembered if one.incident_id)
        state = replace(state, machine=Incident(), shift=Shift(), reminded_us=NEVER, remembered=known)
    if state.sensor.incident_id and told.verdict(state.sensor.incident_id, recorded_us) == "false_alarm":
        raised.append(alert_builder.sensor_ended(computed, state, "false_alarm", now_us))
        state = replace(state, sensor=Incident(), sensor_fault="")
    return state


def is_excepted_fault(computed: Computed, state: StreamState, told: MachineVerdicts | None) -> bool:
    """Whether a frame's fault of the signal is one that a person called a false alarm of this stream."""
    if told is None or computed.sensor_fault not in SENSOR_FAULTS:
        return False
    incident_id = state.sensor_incidents[SENSOR_FAULTS.index(computed.sensor_fault)]
    return bool(incident_id) and told.verdict(incident_id, computed.frame.recorded_us) == "false_alarm"


def of_model(state: StreamState, computed: Computed) -> StreamState:
    """Return a state without what is remembered of another model's scores: this one's mean something else."""
    digest = computed.routed.model.digest[:_MODEL_DIGITS]
    if not state.remembered or state.model == digest:
        return state
    return replace(state, remembered=(), model="")


def is_excepted(
    computed: Computed, state: StreamState, told: MachineVerdicts | None, ratio: float, shares: Shares
) -> bool:
    """Whether a frame is like an incident that a person called a false alarm."""
    if told is None:
        return False
    return any(_is_false_alarm(computed, one, told) and one.is_like(ratio, shares) for one in state.remembered)


def _is_false_alarm(computed: Computed, one: RememberedIncident, told: MachineVerdicts) -> bool:
    frame = computed.frame
    if not one.incident_id:
        return False
    if told.verdict(one.incident_id, frame.recorded_us) == "false_alarm":
        return True
    if computed.routed.route.mode == "state":
        return False
    # Each anomalous frame is an incident of its own; those that are alike are remembered together.
    return told.false_alarm_between(frame.source or "", one.first_us, one.last_us, frame.recorded_us)


def remembering(
    computed: Computed, state: StreamState, told: MachineVerdicts | None, ratio: float, shares: Shares | None
) -> StreamState:
    """Return a state that remembers what its open incident's frames are like, and those that may become one's.

    Args:
        computed: The frame.
        state: After it.
        told: What was said of its machine's incidents: a false alarm is remembered longest.
        ratio: The frame's score divided by the alert threshold.
        shares: Of groups of bands in its excess, ``[16]``; None: it counts for nothing.
    """
    if shares is None and not state.remembered:
        return state
    known = [one for one in state.remembered if one.incident_id]
    pending = state.remembered[-1] if len(known) < len(state.remembered) else None
    own = next((at for at, one in enumerate(known) if one.incident_id == state.machine.incident_id), None)
    if shares is not None:
        if own is not None:
            known[own] = known[own].with_frame(ratio, shares, computed.frame.recorded_us)
        else:
            pending = (pending or RememberedIncident()).with_frame(ratio, shares, computed.frame.recorded_us)
    if state.machine.incident_id:
        if own is None and pending is not None:
            known.append(replace(pending, incident_id=state.machine.incident_id))
        pending = None
    elif not state.machine.alert.recent and not state.shift.evidence:
        pending = None
    return _remembering(computed, state, told, [*known, pending] if pending else known)


def remembering_frame(
    computed: Computed, state: StreamState, told: MachineVerdicts | None, ratio: float, shares: Shares, incident_id: str
) -> StreamState:
    """Return a state that remembers an anomalous frame (mode ``every``), together with those that it is like.

    They are remembered as no louder than the first of them, so that what grows slowly is not one and the same.
    """
    known, recorded_us = list(state.remembered), computed.frame.recorded_us
    for at, one in enumerate(known):
        if one.incident_id and one.is_like(ratio, shares):
            known[at] = replace(one.with_frame(ratio, shares, recorded_us), peak=one.peak)
            break
    else:
        known.append(RememberedIncident(incident_id=incident_id).with_frame(ratio, shares, recorded_us))
    return _remembering(computed, state, told, known)


def _remembering(
    computed: Computed, state: StreamState, told: MachineVerdicts | None, known: Sequence[RememberedIncident]
) -> StreamState:
    """Return a state that remembers as many as it may: false alarms longest, and then the newest."""
    kept = list(known)
    while sum(bool(one.incident_id) for one in kept) > MOST_REMEMBERED:
        quiet = (told is not None and _is_false_alarm(computed, one, told) for one in kept[:MOST_REMEMBERED])
        kept.pop(next((at for at, is_quiet in enumerate(quiet) if not is_quiet), 0))
    return replace(state, remembered=tuple(kept), model=computed.routed.model.digest[:_MODEL_DIGITS] if kept else "")


def nobody_said(computed: Computed, state: StreamState, told: MachineVerdicts | None) -> bool:
    """Whether nothing was said of the machine's open incident, or it was withdrawn."""
    return told is None or told.verdict(state.machine.incident_id, computed.frame.recorded_us) is None
