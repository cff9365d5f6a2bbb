"""How an alert is worded: identities, bands and rolling statistics, from a frame and its stream's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.alert import (
    MANY_MACHINES,
    MAX_NAMED_MACHINES,
    Alert,
    AlertKind,
    AlertModel,
    AlertReason,
    AlertState,
    Band,
    Change,
    FrameRef,
    Severity,
    alert_id,
)
from schemas.score import SensorFault
from schemas.times import format_rfc3339
from stream_app.pipeline.analyse import Computed
from stream_app.pipeline.cusum import NEVER, Shift, group_starts
from stream_app.pipeline.model import Model
from stream_app.pipeline.router import RoutedModel
from stream_app.pipeline.rule import severity_of
from stream_app.pipeline.state import StreamState
from stream_app.pipeline.statistics import STATISTICS

MAX_BANDS = 5


def machine_transition(
    computed: Computed,
    state: StreamState,
    transition: AlertState,
    severity: Severity,
    *,
    level: Severity | None,
    shift: Shift,
    now_us: int,
) -> Alert:
    """Return the alert of a transition of the machine's incident.

    Args:
        computed: The frame that caused it.
        state: From before it.
        transition: What happened.
        severity: Of what happened.
        level: Of the incident from then on; None: it is over.
        shift: The early finding, if there is one.
        now_us: Wall clock.
    """
    alert = _of_frame(
        computed,
        state,
        kind="machine",
        fault=None,
        transition=transition,
        severity=severity,
        incident_id=state.machine.incident_id,
        now_us=now_us,
    )
    if not shift.found or computed.routed.learning:
        return replace(alert, level=level)
    alert = replace(alert, level=level, change=_change(shift, computed.routed, computed.frame.machine_id))
    if severity != "early":
        return alert
    return replace(alert, bands=_bands_of(shift, computed.routed.model))


def machine_ended(computed: Computed, state: StreamState, reason: AlertReason, now_us: int) -> Alert:
    """Return the alert that a person's verdict ended the machine's incident, whatever its level; ``state``: before."""
    alarm = state.machine.alert.on
    transition: AlertState = "closed" if alarm else "settled"
    severity: Severity = state.machine.severity if alarm else "early"
    alert = machine_transition(computed, state, transition, severity, level=None, shift=state.shift, now_us=now_us)
    return replace(alert, reason=reason)


def reminder(computed: Computed, state: StreamState, now_us: int) -> Alert:
    """Return the alert that the machine's incident is still open, and that nobody said anything of it."""
    level: Severity = state.machine.severity if state.machine.alert.on else "early"
    return machine_transition(computed, state, "reminded", level, level=level, shift=state.shift, now_us=now_us)


def anomalous_frame(computed: Computed, state: StreamState, now_us: int) -> Alert:
    """Return the alert of one anomalous frame (mode ``every``)."""
    ratio = computed.score / computed.routed.threshold_for(computed.frame.machine_id)
    severity = severity_of(ratio, computed.routed.rule)
    return _of_frame(
        computed,
        state,
        kind="machine",
        fault=None,
        transition="anomalous",
        severity=severity,
        incident_id="",
        now_us=now_us,
    )


def sensor_transition(computed: Computed, state: StreamState, transition: AlertState, fault: str, now_us: int) -> Alert:
    """Return the alert of a transition of the signal's incident; ``fault`` is what opened it."""
    reported: SensorFault = "clipped" if fault == "clipped" else "flat"
    return _of_frame(
        computed,
        state,
        kind="sensor",
        fault=reported,
        transition=transition,
        severity="warning",
        incident_id=state.sensor.incident_id,
        now_us=now_us,
    )


def sensor_ended(computed: Computed, state: StreamState, reason: AlertReason, now_us: int) -> Alert:
    """Return the alert that a person's verdict ended the signal's incident; ``state``: before."""
    return replace(sensor_transition(computed, state, "closed", state.sensor_fault, now_us), reason=reason)


def silence_ended(computed: Computed, before: StreamState, after: StreamState, now_us: int) -> Alert:
    """Return the alert that a silent stream is heard again."""
    return _of_frame(
        computed,
        after,
        kind="sensor",
        fault="silent",
        transition="closed",
        severity="warning",
        incident_id=before.silent.incident_id,
        now_us=now_us,
    )


def silence_began(routed: RoutedModel, machine_id: str, source: str, state: StreamState, now_us: int) -> Alert:
    """Return the alert that a stream fell silent; its identity comes from the last frame heard."""
    identity = alert_id(state.frame_id, _transition("sensor", "silent", "opened"))
    return _without_frame(
        routed, (machine_id, source), state, fault="silent", transition="opened", incident_id=identity, now_us=now_us
    )


def forgotten(routed: RoutedModel, machine_id: str, source: str, state: StreamState, now_us: int) -> tuple[Alert, ...]:
    """Return the alerts that close what is open in a stream that begins anew, or is forgotten, after a long silence.

    Their identities come from the last frame before it, so that they are the same whether the next frame or a timer
    ended the silence. The incident of the silence itself is left to the caller.
    """
    closed: list[Alert] = []
    if state.machine.incident_id:
        alarm = state.machine.alert.on
        alert = _forgotten(
            routed,
            (machine_id, source),
            state,
            None,
            state.machine.incident_id,
            now_us,
            transition="closed" if alarm else "settled",
        )
        closed.append(replace(alert, severity=state.machine.severity if alarm else "early"))
    if state.sensor.incident_id:
        fault: SensorFault = "clipped" if state.sensor_fault == "clipped" else "flat"
        closed.append(_forgotten(routed, (machine_id, source), state, fault, state.sensor.incident_id, now_us))
    return tuple(closed)


def silence_forgotten(routed: RoutedModel, machine_id: str, source: str, state: StreamState, now_us: int) -> Alert:
    """Return the alert that nobody waits for a silent stream any more."""
    return _forgotten(routed, (machine_id, source), state, "silent", state.silent.incident_id, now_us)


def silence_summary(
    routed: RoutedModel,
    *,
    incident_id: str,
    transition: AlertState,
    streams: int,
    machines: Iterable[str],
    recorded_us: int,
    now_us: int,
) -> Alert:
    """Return the alert about many streams that fell silent together.

    Args:
        routed: Route and model of one of them.
        incident_id: From :func:`silence_summary_id`.
        transition: ``opened``; ``updated`` with a larger number; ``closed`` when all but few are heard again.
        streams: How many are silent now.
        machines: Ids of their machines; some are named.
        recorded_us: When the last frame of any of them was recorded.
        now_us: Wall clock.
    """
    transition_name = _transition("sensor", "silent", transition) + (f":{streams}" if transition == "updated" else "")
    return Alert(
        alert_id=incident_id if transition == "opened" else alert_id(incident_id, transition_name),
        incident_id=incident_id,
        kind="sensor",
        sensor_fault="silent",
        machine_id=MANY_MACHINES,
        source=None,
        state=transition,
        severity="critical",
        score=None,
        threshold=None,
        ratio=None,
        recorded_at=format_rfc3339(recorded_us),
        scored_at=format_rfc3339(now_us),
        frame=None,
        model=_model_ref(routed),
        bands=(),
        statistics={},
        level=None if transition == "closed" else "critical",
        streams=streams,
        machines=tuple(sorted(set(machines))[:MAX_NAMED_MACHINES]),
    )


def silence_summary_id(frame_id: str) -> str:
    """Return the incident of many streams' silence; ``frame_id`` is the last frame of one of them."""
    return alert_id(frame_id, "sensor:silent:opened:many")


def driving_bands(computed: Computed) -> tuple[Band, ...]:
    """Return the frequency ranges that drove a score, largest share first.

    A band's part is the positive excess of its error over the normal mean. Neighbouring bands whose part is above the
    average are reported as one range: a resonance spans many mel bands, and an engineer reads one.
    """
    parts = excess(computed)
    total = float(parts.sum())
    if not total > 0:
        return ()
    return band_ranges(parts / total, computed.routed.model.features.band_edges_hz)


def excess(computed: Computed) -> NDArray[np.float64]:
    """Return what each band adds to a score beyond the normal mean, at least 0, over all channels; ``[band]``."""
    normal = computed.routed.model.normal_band_error
    return np.asarray(np.maximum(computed.band_error - normal, 0.0).sum(axis=0))


def _bands_of(shift: Shift, model: Model) -> tuple[Band, ...]:
    """Return the frequency ranges that drove a shift since it began, by groups of bands, largest share first."""
    edges_hz = model.features.band_edges_hz
    starts = group_starts(len(edges_hz))
    parts = shift.bands[: len(starts)].astype(np.float64)
    total = float(parts.sum())
    if not total > 0:
        return ()
    ends = np.append(starts[1:], len(edges_hz)) - 1
    return band_ranges(parts / total, np.stack([edges_hz[starts, 0], edges_hz[ends, 1]], axis=1))


def band_ranges(shares: NDArray[np.float64], edges_hz: NDArray[np.floating]) -> tuple[Band, ...]:
    """Return runs of bands whose share is above the average, largest first; edges are ``[band, 2]``."""
    above = np.concatenate(([False], shares > 1.0 / len(shares), [False]))
    starts, ends = np.flatnonzero(above[1:] & ~above[:-1]), np.flatnonzero(above[:-1] & ~above[1:])
    found = [
        Band(
            from_hz=float(edges_hz[i, 0]),
            to_hz=float(edges_hz[j - 1, 1]),
            share=min(1.0, float(shares[i:j].sum())),
        )
        for i, j in zip(starts, ends, strict=True)
    ]
    return tuple(sorted(found, key=lambda band: -band.share)[:MAX_BANDS])


def _change(shift: Shift, routed: RoutedModel, machine_id: str) -> Change | None:
    """Return a shift as an alert tells it; None where the model doesn't know any more what is normal."""
    metadata = routed.model.metadata
    test = metadata.thresholds_for(machine_id).early
    if test is None:
        return None
    return Change(
        since=format_rfc3339(shift.since_us),
        frames=shift.frames,
        score=shift.score,
        normal_score=test.centre,
        evidence=shift.evidence,
        data_hash=metadata.data_hash,
    )


def _forgotten(
    routed: RoutedModel,
    stream: tuple[str, str],
    state: StreamState,
    fault: SensorFault | None,
    incident_id: str,
    now_us: int,
    *,
    transition: AlertState = "closed",
) -> Alert:
    alert = _without_frame(
        routed, stream, state, fault=fault, transition=transition, incident_id=incident_id, now_us=now_us
    )
    return replace(alert, reason="forgotten")


def _without_frame(
    routed: RoutedModel,
    stream: tuple[str, str],
    state: StreamState,
    *,
    fault: SensorFault | None,
    transition: AlertState,
    incident_id: str,
    now_us: int,
) -> Alert:
    kind: AlertKind = "sensor" if fault else "machine"
    return Alert(
        alert_id=alert_id(state.frame_id, _transition(kind, fault, transition)),
        incident_id=incident_id,
        kind=kind,
        sensor_fault=fault,
        machine_id=stream[0],
        source=stream[1] or None,
        state=transition,
        severity="warning",
        score=None,
        threshold=None,
        ratio=None,
        recorded_at=format_rfc3339(state.newest_us),
        scored_at=format_rfc3339(now_us),
        frame=None,
        model=_model_ref(routed),
        bands=(),
        statistics=_statistics(state),
        level=None if transition in {"closed", "settled"} else "warning",
        baseline=_baseline(routed, stream[0]),
        learning=state.learning_since_us != NEVER,
    )


def _of_frame(
    computed: Computed,
    state: StreamState,
    *,
    kind: AlertKind,
    fault: SensorFault | None,
    transition: AlertState,
    severity: Severity,
    incident_id: str,
    now_us: int,
) -> Alert:
    frame = computed.frame
    threshold = None if computed.routed.learning else computed.routed.threshold_for(frame.machine_id)
    identity = alert_id(frame.frame_id, _transition(kind, fault, transition))
    return Alert(
        alert_id=identity,
        incident_id=incident_id or identity,
        kind=kind,
        sensor_fault=fault,
        machine_id=frame.machine_id,
        source=frame.source,
        state=transition,
        severity=severity,
        score=None if threshold is None else computed.score,
        threshold=threshold,
        ratio=None if threshold is None else computed.score / threshold,
        recorded_at=format_rfc3339(frame.recorded_us),
        scored_at=format_rfc3339(now_us),
        frame=FrameRef(
            frame_id=frame.frame_id,
            foreign_id=frame.foreign_id,
            sequence=frame.sequence,
            duration_s=computed.duration_s,
            published_at=format_rfc3339(frame.record.timestamp_ms * 1000),
            topic=frame.record.topic,
            partition=frame.record.partition,
            offset=frame.record.offset,
        ),
        model=_model_ref(computed.routed),
        bands=driving_bands(computed) if kind == "machine" and not computed.routed.learning else (),
        statistics=_statistics(state),
        unfamiliar=computed.unfamiliar,
        level=None if transition == "closed" else severity,
        baseline=_baseline(computed.routed, frame.machine_id),
        learning=state.learning_since_us != NEVER,
    )


def _transition(kind: AlertKind, fault: SensorFault | None, transition: AlertState) -> str:
    return f"{kind}:{fault or ''}:{transition}"


def _model_ref(routed: RoutedModel) -> AlertModel:
    named = routed.model_ref
    run_id = None if routed.loaded is None else routed.loaded.metadata.run_id
    return AlertModel(name=named.name, version=named.version, run_id=run_id)


def _baseline(routed: RoutedModel, machine_id: str) -> str | None:
    baseline = None if routed.loaded is None else routed.loaded.metadata.baselines.get(machine_id)
    return None if baseline is None else baseline.baseline_id


def _statistics(state: StreamState) -> dict[str, float]:
    return dict(zip(STATISTICS, state.rolling.mean.tolist(), strict=True))
