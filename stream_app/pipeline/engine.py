"""The stateful half: a scored frame moves its stream's state and may raise alerts. Cheap, and in order."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.alert import Alert, AlertState, Severity
from schemas.condition import ConditionName
from schemas.dead_letter import DeadLetter
from schemas.errors import FrameRejected
from schemas.frame import FrameRecord
from schemas.score import IdleReason, Score, ScoreStatus
from schemas.times import format_rfc3339
from stream_app.pipeline import alert_builder
from stream_app.pipeline.analyse import Computed, failed
from stream_app.pipeline.computation import compute
from stream_app.pipeline.cusum import GROUPS, NEVER, NO_SHIFT, Shift, adds_evidence, grouped, moved
from stream_app.pipeline.router import US_PER_HOUR, RoutedModel, Router
from stream_app.pipeline.rule import Incident, step
from stream_app.pipeline.state import SENSOR_FAULTS, StreamState
from stream_app.pipeline.unfamiliar import in_words, unstated
from stream_app.pipeline.verdict_effects import (
    Learning,
    heeded,
    is_excepted,
    is_excepted_fault,
    learning,
    nobody_said,
    of_model,
    remembering,
    remembering_frame,
)
from stream_app.pipeline.verdict_timeline import MachineVerdicts, Verdicts
from whirr.maintenance import Maintenance, Occurrence
from whirr.settings import DEFAULT_FORGET_AFTER_H

log = logging.getLogger(__name__)

FAULTY = 2.0  # a faulty signal's ratio, as the rule sees it
_NO_SHARES = np.zeros(GROUPS)
MAX_GAP = 1_000_000  # frames; at one a second, eleven days
_MAX_WARNED = 10_000
_SILENCE_GRACE_US = 60_000_000  # gateways try again within 15 s


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a frame, or its absence, led to.

    Attributes:
        score: The frame's score; None where no frame came, or where it ended as a dead letter.
        alerts: Alerts to send, in order.
        state: The stream's new state; None where nothing moved.
        dead_letter: What became of a frame that met an unexpected error.
        shadow: The challenger's score of the frame, where it gave one.
    """

    score: Score | None
    alerts: tuple[Alert, ...]
    state: StreamState | None
    dead_letter: DeadLetter | None = None
    shadow: Score | None = None


class FrameStatus(NamedTuple):
    """Whether a frame moves state, and why not."""

    status: ScoreStatus
    idle_reason: IdleReason | None


class Engine:
    """Scores frames and applies the alert rule.

    Assign another ``router`` between two batches to swap models; a frame keeps the one that it was computed with.
    Assign other ``verdicts`` likewise: each counts for frames recorded 30 s after it was given, and later.

    Args:
        router: The routes with their models.
        maintenance: When machines are worked on: what they do then is no news.
        verdicts: What people said of incidents.
    """

    def __init__(
        self, router: Router, maintenance: Maintenance | None = None, verdicts: Verdicts | None = None
    ) -> None:
        self.router = router
        self.maintenance = maintenance or Maintenance()
        self.verdicts = verdicts or Verdicts()
        self._warned: dict[tuple[tuple[str, str], tuple[str, ...]], None] = {}

    def compute(self, records: Sequence[FrameRecord], without: Collection[str] = ()) -> list[Computed | DeadLetter]:
        """Return one answer for each record, in order. Pure: may run in another thread.

        Args:
            records: The frames.
            without: Digests of challengers that are not asked.
        """
        return compute(records, self.router, without)

    def advance(self, computed: Computed, state: StreamState | None, now_us: int) -> Outcome:
        """Apply a scored frame to its stream.

        Args:
            computed: The frame; frames of one stream come in the order of their offsets.
            state: The stream's state, None before its first frame.
            now_us: Wall clock, microseconds since the epoch.
        """
        try:
            outcome = self._advance(computed, state, now_us)
            shadow = _shadow_score(computed, outcome.score)
            return outcome if shadow is None else replace(outcome, shadow=shadow)
        except MemoryError:
            raise
        except Exception as error:
            # Without this one frame would stop the worker, and again after each restart.
            return Outcome(None, (), None, failed(computed.frame.record, error))

    def _advance(self, computed: Computed, state: StreamState | None, now_us: int) -> Outcome:
        before = state or StreamState()
        if computed.unfamiliar:
            self._warn_of_unfamiliar(computed)
        frame = computed.frame
        model = computed.routed.loaded
        if model is not None and (untold := unstated(model, frame.condition)):
            self._warn_of_untold(computed, untold)
        if frame.recorded_us <= before.newest_us:
            return Outcome(_score(computed, FrameStatus("late", None), 0, now_us), (), None)
        raised: list[Alert] = []
        forget_after_us = computed.routed.forget_after_us
        if before.frames and forget_after_us is not None and frame.recorded_us - before.newest_us >= forget_after_us:
            # By recording time, which a backtest has too; the worker forgets the state itself only when no frame that
            # could still come would have found it.
            raised += alert_builder.forgotten(computed.routed, *frame.stream, before, now_us)
            before = StreamState(silent=before.silent)
        missing = _missing(before.sequence, frame.sequence)
        running_since_us = _running_since_us(computed, before)
        window = self.maintenance.active(frame.machine_id, frame.recorded_us)
        told = self.verdicts.of(frame.machine_id)
        learnt = _learning(computed, before, told)
        frame_status = _frame_status(computed, running_since_us, window, learnt)
        if window is not None and computed.score > computed.routed.threshold_for(frame.machine_id):
            self._tell_of_suppressed(computed, window)
        after = before.heard(
            recorded_us=frame.recorded_us,
            now_us=now_us,
            sequence=before.sequence if frame.sequence is None else frame.sequence,
            missing=missing,
            running_since_us=running_since_us,
            frame_id=frame.frame_id,
            rolling=before.rolling.updated(
                computed.statistics, frame.recorded_us - before.newest_us if before.frames else 0
            ),
            scores=before.scores.updated(computed.score, frame.recorded_us)
            if frame_status.status == "scored"
            else before.scores,
            learning_since_us=NEVER if learnt is None else learnt.since_us,
            learning_until_us=NEVER if learnt is None else learnt.until_us,
        )
        # A silence that was reported together with others' ends with theirs.
        if before.silent.incident_id and not before.silent.alert.on:
            raised.append(alert_builder.silence_ended(computed, before, after, now_us))
        if told is not None:
            after = heeded(computed, after, told, now_us, raised)
        if _hears_sensor(computed, frame_status):
            after = _apply_sensor(computed, after, told, now_us, raised)
        if frame_status.status == "scored":
            after = _apply_machine(computed, after, told, now_us, raised)
        return Outcome(_score(computed, frame_status, missing, now_us), tuple(raised), after)

    def silence(
        self, machine_id: str, source: str, state: StreamState, watched_since_us: int, now_us: int
    ) -> Outcome | None:
        """Return what a timer's look at a stream leads to; None while it is not silent, or already reported.

        Args:
            machine_id: The stream's machine.
            source: The stream's source, '' for none.
            state: Its state; ``seen_us`` is when it was last heard.
            watched_since_us: Since when no frame has waited unread, microseconds since the epoch.
            now_us: Wall clock, likewise.
        """
        try:
            routed = self.router.find(machine_id, state.newest_us)
        except FrameRejected:
            return None
        due_us = self._silence_due_us(routed, machine_id, state.seen_us, watched_since_us)
        if due_us is None or now_us < due_us or not state.frame_id:
            return None
        if self.maintenance.active(machine_id, now_us) is not None:
            return None  # due before, and not told in time
        if state.silent.incident_id and not state.silent.alert.on:
            return None
        alert = alert_builder.silence_began(routed, machine_id, source, state, now_us)
        return Outcome(None, (alert,), replace(state, silent=Incident(alert.incident_id)))

    def silence_due_us(self, machine_id: str, seen_us: int, watched_since_us: int) -> int | None:
        """Return when a stream last heard at ``seen_us`` (wall clock) is to be reported silent; None for never.

        All that came before ``watched_since_us`` has been read: a stream not heard then was silent, also while no
        worker ran. It has a minute more all the same: what stopped the worker may have stopped the gateways, too.
        """
        try:
            return self._silence_due_us(self.router.find(machine_id), machine_id, seen_us, watched_since_us)
        except FrameRejected:
            return None

    def _silence_due_us(self, routed: RoutedModel, machine_id: str, seen_us: int, watched_since_us: int) -> int | None:
        after_s = routed.route.silent_after_s
        if after_s is None:
            return None
        after_us = round(after_s * 1e6)
        watched_us = watched_since_us + min(after_us, _SILENCE_GRACE_US)
        due_us = max(max(seen_us, 0) + after_us, watched_us, routed.muted_until_us)
        return self.maintenance.unheard_due_us(machine_id, due_us - after_us, after_us)

    def forget_due_us(self, machine_id: str, seen_us: int) -> int | None:
        """Return when a stream that was last heard at ``seen_us`` (wall clock) is to be forgotten; None for never.

        Only after twice as long as makes a stream begin anew: a frame that comes later, and was not on its way for
        longer than ``forget_after_h``, would have found no use for the state either.
        """
        try:
            after_us = self.router.find(machine_id).forget_after_us
        except FrameRejected:
            after_us = round(DEFAULT_FORGET_AFTER_H * US_PER_HOUR)
        return None if after_us is None else seen_us + 2 * after_us

    def forget(self, machine_id: str, source: str, state: StreamState, now_us: int) -> tuple[Alert, ...]:
        """Return the alerts that close what is open in a stream that is forgotten."""
        try:
            routed = self.router.find(machine_id, state.newest_us)
        except FrameRejected:
            if not self.router.routed:
                return ()
            routed = self.router.routed[0]  # its own is no more; what it opened must be closed all the same
        closed = alert_builder.forgotten(routed, machine_id, source, state, now_us)
        if state.silent.incident_id and not state.silent.alert.on:
            closed += (alert_builder.silence_forgotten(routed, machine_id, source, state, now_us),)
        return closed

    def silence_summary(self, machines: Sequence[str], **details: Any) -> Alert | None:
        """Return the alert about many streams' silence (see :mod:`.alert_builder`); None without any route."""
        routed = None
        with suppress(FrameRejected):
            routed = self.router.find(machines[0]) if machines else None
        routed = routed or next(iter(self.router.routed), None)
        return None if routed is None else alert_builder.silence_summary(routed, machines=machines, **details)

    def _warn_of_unfamiliar(self, computed: Computed) -> None:
        """Say once for each stream in what its frames differ from what the model was trained on."""
        stream, model = computed.frame.stream, computed.routed.model
        if self._is_said(stream, computed.unfamiliar):
            return
        whys = [in_words(reason, model, computed.frame, None, computed.duration_s) for reason in computed.unfamiliar]
        log.warning(
            "machine %s, source %s: model %s was not trained for this, so its scores and alerts may mean little: %s",
            stream[0],
            stream[1] or "-",
            model.metadata.name,
            "; ".join(whys),
        )

    def _warn_of_untold(self, computed: Computed, untold: tuple[ConditionName, ...]) -> None:
        """Say once for each stream that its frames lack what the model judges by."""
        stream = computed.frame.stream
        if not self._is_said(stream, ("untold", *untold)):
            log.warning(
                "machine %s, source %s: frames don't state the %s that model %s judges by; they are judged without",
                stream[0],
                stream[1] or "-",
                " and ".join(untold),
                computed.routed.model.metadata.name,
            )

    def _tell_of_suppressed(self, computed: Computed, window: Occurrence) -> None:
        """Say once for each stream and occurrence of a window that a frame would have counted without it."""
        stream = computed.frame.stream
        if not self._is_said(stream, ("maintenance", str(window.begin_us))):
            log.info(
                "machine %s, source %s: above its alert threshold, and not counted: maintenance from %s to %s%s",
                stream[0],
                stream[1] or "-",
                format_rfc3339(window.begin_us),
                format_rfc3339(window.end_us),
                f" ({window.window.note})" if window.window.note else "",
            )

    def _is_said(self, stream: tuple[str, str], what: tuple[str, ...]) -> bool:
        """Whether something was said of a stream before; from now on it was."""
        if (stream, what) in self._warned:
            return True
        if len(self._warned) >= _MAX_WARNED:
            del self._warned[next(iter(self._warned))]
        self._warned[stream, what] = None
        return False


def _missing(before: int, now: int | None) -> int:
    """Return how many frames a sensor's counter skipped.

    One that went back has been restarted, and so has one that jumped farther than any outage explains.
    """
    return now - before - 1 if now is not None and 0 <= before < now - 1 <= before + MAX_GAP else 0


def _running_since_us(computed: Computed, before: StreamState) -> int:
    running_dbfs = computed.routed.route.running_dbfs
    if running_dbfs is not None and computed.level_dbfs < running_dbfs:
        return NEVER
    return computed.frame.recorded_us if before.running_since_us == NEVER else before.running_since_us


def _frame_status(
    computed: Computed, running_since_us: int, window: Occurrence | None, learnt: Learning | None
) -> FrameStatus:
    recorded_us = computed.frame.recorded_us
    if recorded_us < computed.routed.muted_until_us:
        return FrameStatus("idle", "muted")
    if window is not None:
        return FrameStatus("idle", "maintenance")
    if running_since_us == NEVER:
        return FrameStatus("idle", "quiet")
    if recorded_us < running_since_us + computed.routed.route.start_up_s * 1e6:
        return FrameStatus("idle", "start_up")
    if learnt is not None:
        return FrameStatus("idle", "learning")
    return FrameStatus("scored", None)


def _learning(computed: Computed, state: StreamState, told: MachineVerdicts | None) -> Learning | None:
    """Return whether the frame's machine is learning: it has no model yet, or is learnt anew."""
    if not computed.routed.learning:
        return learning(computed, told)
    recorded_us = computed.frame.recorded_us
    since_us = recorded_us if state.learning_since_us == NEVER else state.learning_since_us
    anew = None if told is None else told.anew(recorded_us)
    return Learning(since_us if anew is None else max(since_us, anew.since_us), NEVER)


def _hears_sensor(computed: Computed, frame_status: FrameStatus) -> bool:
    """Whether a frame moves the incident of its signal."""
    if frame_status.status == "scored" or frame_status.idle_reason == "learning":
        return True
    # A machine at rest is quiet, but its sensor still has noise: flat is the sensor's fault all the same.
    return frame_status.idle_reason == "quiet" and computed.sensor_fault == "flat"


def _apply_sensor(
    computed: Computed, state: StreamState, told: MachineVerdicts | None, now_us: int, raised: list[Alert]
) -> StreamState:
    """Move the incident of the signal itself; the rule is the machine's, with a fault counting as ratio 1."""
    faulty = computed.sensor_fault is not None and not is_excepted_fault(computed, state, told)
    rule = computed.routed.rule._replace(critical_ratio=inf)
    incident, transition = step(state.sensor, FAULTY if faulty else 0.0, rule)
    fault = state.sensor_fault
    if transition == "opened":
        fault = computed.sensor_fault or ""
    if transition is None:
        return state if incident is state.sensor or incident == state.sensor else replace(state, sensor=incident)
    alert = alert_builder.sensor_transition(computed, state, transition, fault, now_us)
    raised.append(alert)
    if transition == "opened":
        flat, clipped = (alert.alert_id if fault == name else known for name, known in _sensor_incidents(state))
        opened = replace(incident, incident_id=alert.alert_id)
        return replace(state, sensor=opened, sensor_fault=fault, sensor_incidents=(flat, clipped))
    return replace(state, sensor=incident, sensor_fault="")


def _sensor_incidents(state: StreamState) -> list[tuple[str, str]]:
    """Return each fault of a signal with its last incident."""
    return list(zip(SENSOR_FAULTS, state.sensor_incidents, strict=True))


def _apply_machine(
    computed: Computed, state: StreamState, told: MachineVerdicts | None, now_us: int, raised: list[Alert]
) -> StreamState:
    """Move the machine's incident: its alarm, and its early finding."""
    if computed.sensor_fault == "flat":
        # A flat signal is not the machine's. A clipped one is: a failing machine may be what clips it.
        return state
    ratio = computed.score / computed.routed.threshold_for(computed.frame.machine_id)
    state = of_model(state, computed)
    counts = ratio > 1.0 or _is_evidence(computed)
    # A frame that counts for nothing need not be compared with anything.
    shares = grouped(alert_builder.excess(computed)) if counts or state.shift.frames else _NO_SHARES
    like = counts and is_excepted(computed, state, told, ratio, shares)
    if computed.routed.route.mode == "every":
        # What is open is from a time when the route's mode was another.
        transition: AlertState | None = "closed" if state.machine.alert.on else None
        state = _with_levels(computed, state, Incident(), NO_SHIFT, transition, now_us=now_us, raised=raised)
        if ratio > 1.0 and not like:
            alert = alert_builder.anomalous_frame(computed, state, now_us)
            raised.append(alert)
            state = remembering_frame(computed, state, told, ratio, shares, alert.incident_id)
        return state if state.reminded_us == NEVER else replace(state, reminded_us=NEVER)
    incident, transition = step(state.machine, 0.0 if like else ratio, computed.routed.rule)
    shift = _shift(computed, state.shift, _NO_SHARES if like else shares, like)
    after = _with_levels(computed, state, incident, shift, transition, now_us=now_us, raised=raised)
    after = remembering(computed, after, told, ratio, shares if counts and not like else None)
    return _reminding(computed, state.machine.incident_id, after, told, now_us, raised)


def _reminding(
    computed: Computed,
    incident_before: str,
    state: StreamState,
    told: MachineVerdicts | None,
    now_us: int,
    raised: list[Alert],
) -> StreamState:
    """Remind of an incident that is open for long and of which nobody said anything."""
    incident_id, recorded_us = state.machine.incident_id, computed.frame.recorded_us
    if not incident_id:
        return replace(state, reminded_us=NEVER) if incident_before else state
    if incident_id != incident_before:
        return replace(state, reminded_us=recorded_us)
    every_us = computed.routed.route.remind_after_h * US_PER_HOUR
    if not every_us or recorded_us - state.reminded_us < every_us or not nobody_said(computed, state, told):
        return state
    raised.append(alert_builder.reminder(computed, state, now_us))
    return replace(state, reminded_us=recorded_us)


def _with_levels(
    computed: Computed,
    before: StreamState,
    incident: Incident,
    shift: Shift,
    transition: AlertState | None,
    *,
    now_us: int,
    raised: list[Alert],
) -> StreamState:
    """Return the state with the alarm and the shift as they are now, and report what that means for the incident.

    The early finding is a lower level of the same incident: while the alarm is open it comes and goes without a word.
    """
    severity: Severity = "early"
    if transition is not None:
        # The closing alert has the severity that the alarm had.
        severity = (before.machine if transition == "closed" else incident).severity
    elif shift.found != before.shift.found and not incident.alert.on:
        transition = "changed" if shift.found else "settled"
    level: Severity | None = incident.severity if incident.alert.on else "early" if shift.found else None
    incident_id = before.machine.incident_id
    if transition is not None:
        shown = shift if shift.found else before.shift
        alert = alert_builder.machine_transition(
            computed, before, transition, severity, level=level, shift=shown, now_us=now_us
        )
        raised.append(alert)
        incident_id = alert.incident_id
    incident_id = incident_id if level else ""
    if incident.incident_id != incident_id:
        incident = replace(incident, incident_id=incident_id)
    if incident is before.machine and shift is before.shift:
        return before
    return replace(before, machine=incident, shift=shift)


def _is_evidence(computed: Computed) -> bool:
    """Whether a frame's score speaks for a lasting shift."""
    test = computed.routed.early_test_for(computed.frame.machine_id)
    return test is not None and not computed.unfamiliar and adds_evidence(computed.score, test)


def _shift(computed: Computed, shift: Shift, shares: NDArray[np.float64], like: bool) -> Shift:
    """Return the evidence of a lasting shift after a frame; one that is ``like`` a false alarm counts as normal."""
    test = computed.routed.early_test_for(computed.frame.machine_id)
    if test is None:
        return NO_SHIFT
    if computed.unfamiliar:
        return shift  # its score is no evidence: the test was made for other frames
    score, settle_s = test.centre if like else computed.score, computed.routed.route.early_settle_s
    return moved(shift, score, shares, computed.frame.recorded_us, test, settle_s)


@lru_cache(maxsize=1)
def _scored_at(now_us: int) -> str:
    """Return the wall clock as text; a batch has one."""
    return format_rfc3339(now_us)


def _score(computed: Computed, frame_status: FrameStatus, missing: int, now_us: int) -> Score:
    frame = computed.frame
    return Score(
        frame_id=frame.frame_id,
        machine_id=frame.machine_id,
        source=frame.source,
        recorded_at=format_rfc3339(frame.recorded_us),
        scored_at=_scored_at(now_us),
        score=computed.score,
        threshold=computed.routed.threshold_for(frame.machine_id),
        status=frame_status.status,
        idle_reason=frame_status.idle_reason,
        sensor_fault=computed.sensor_fault,
        level_dbfs=computed.level_dbfs,
        missing_before=missing,
        model=computed.routed.model_ref,
        topic=frame.record.topic,
        partition=frame.record.partition,
        offset=frame.record.offset,
        unfamiliar=computed.unfamiliar,
    )


def _shadow_score(computed: Computed, score: Score | None) -> Score | None:
    """Return the challenger's score of a frame, given the champion's, which it shares all but the verdict with."""
    routed, shadow = computed.routed.shadow, computed.shadow
    if score is None or routed is None or shadow is None or shadow.score is None:
        return None
    return replace(
        score,
        score=shadow.score,
        threshold=routed.threshold_for(computed.frame.machine_id),
        model=routed.model_ref,
        unfamiliar=shadow.unfamiliar,
        shadow=True,
    )
