"""A stream's state as a row of the feature store."""

from __future__ import annotations

from feature_repo.fields import AlertState
from feature_repo.rows import FeatureRow
from schemas.times import format_rfc3339
from stream_app.pipeline.cusum import NEVER
from stream_app.pipeline.router import RoutedModel
from stream_app.pipeline.state import StreamState
from stream_app.worker.states import stream_of


def feature_row(key: bytes, state: StreamState, routed: RoutedModel) -> FeatureRow:
    """Return what the feature store keeps of a stream's machine.

    Args:
        key: The stream, as in the changelog.
        state: Its state; at least one frame was applied.
        routed: The machine's route and model.
    """
    machine_id, source = stream_of(key)
    model, mean = routed.model_ref, state.scores.mean
    scores = (mean, state.scores.peak, mean / routed.threshold_for(machine_id))
    health = (
        *((None, None, None) if routed.learning else scores),
        state.frames,
        state.missing,
        alert_state(state),
        f"{model.name}/{model.version}",
        "" if state.learning_since_us == NEVER else format_rfc3339(state.learning_since_us),
    )
    return FeatureRow(machine_id, source, state.newest_us, state.seen_us, (*state.rolling.mean.tolist(), *health))


def alert_state(state: StreamState) -> AlertState:
    """Return the worst that is known of a stream.

    The machine's alarm comes before its sensor's, that before an early finding, and all before rest, and that before
    learning. Silence is left out: a reader sees it from the time of the row. In mode ``every`` there are no incidents.
    """
    if state.machine.alert.on:
        return "critical" if state.machine.critical.on else "warning"
    if state.sensor.incident_id:
        return "clipped" if state.sensor_fault == "clipped" else "flat"
    if state.shift.found:
        return "changed"
    if state.running_since_us == NEVER:
        return "idle"
    return "normal" if state.learning_since_us == NEVER else "learning"
