"""Judging: the worker's alert rule, moved over the stored answers of each stream in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from backtest.score_store import OrderedFrame, ScoreStore
from recordings.name_words import Label
from schemas.alert import Alert, Band
from schemas.errors import FrameRejected
from schemas.frame import Frame, FrameRecord
from schemas.score import Score
from schemas.times import MICROSECONDS
from schemas.verdict import Verdict
from stream_app.pipeline import Computed, Engine, Router, StreamState, Verdicts
from stream_app.pipeline.alert_builder import driving_bands
from stream_app.pipeline.statistics import STATISTICS
from stream_app.pipeline.unfamiliar import unstated
from whirr.maintenance import Maintenance, MaintenanceWindow

SHOWN_BANDS: Final = 3
_INSTANT_S: Final = 1e-6  # lengths of frames are floats


class Heeded(NamedTuple):
    """What counts by recording time, besides the routes.

    Attributes:
        maintenance: Frames recorded in these windows are idle.
        verdicts: What people said of incidents, each one's newest.
    """

    maintenance: Sequence[MaintenanceWindow] = ()
    verdicts: Sequence[Verdict] = ()


NOTHING: Final = Heeded()


class Judged(NamedTuple):
    """A frame with what it led to.

    Attributes:
        ordered: The frame as it is stored.
        offset_s: Where it begins in its recording; None where it comes from a topic.
        label: What it is labelled: of a recording with an onset, ``normal`` until then.
        onset_us: Of an anomalous frame: when the fault began in it, microseconds since the epoch; where labels don't
            say, at its beginning.
        score: As a worker would publish it.
        alerts: As a worker would publish them, in order.
        bands: What drove the score, largest share first; empty below the threshold.
        untold: Whether its model judges by speed or load, and its recording doesn't state them.
    """

    ordered: OrderedFrame
    offset_s: float | None
    label: Label | None
    onset_us: int
    score: Score
    alerts: tuple[Alert, ...]
    bands: tuple[Band, ...]
    untold: bool = False


def judge(
    store: ScoreStore,
    router: Router,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    heeded: Heeded = NOTHING,
) -> Iterator[Judged]:
    """Yield every scored frame, stream by stream in order, with what it leads to by the routes' rules."""
    engine = Engine(router, Maintenance(heeded.maintenance), Verdicts(heeded.verdicts))
    log = logging.getLogger("stream_app.pipeline.engine")
    level = log.level
    log.setLevel(logging.ERROR)  # what a model was not trained for is told once, in the summary
    try:
        stream, state = -1, None
        for ordered in store.in_order():
            if ordered.frame.stream != stream:
                stream, state = ordered.frame.stream, None
            judged, state = _advance(engine, ordered, state, now_us())
            if judged is not None:
                yield judged
    finally:
        log.setLevel(level)


def _advance(
    engine: Engine, ordered: OrderedFrame, state: StreamState | None, now_us: int
) -> tuple[Judged | None, StreamState | None]:
    try:
        computed = rebuilt(ordered, engine.router)
    except FrameRejected:  # the routes have changed since, and none is this machine's
        return None, state
    outcome = engine.advance(computed, state, now_us)
    state = state if outcome.state is None else outcome.state
    if outcome.score is None:
        return None, state
    offset_s = None
    if ordered.start_us is not None:
        offset_s = (ordered.frame.recorded_us - ordered.start_us) / MICROSECONDS
    over = outcome.score.score > outcome.score.threshold
    bands = driving_bands(computed)[:SHOWN_BANDS] if over else ()
    label, onset_us = _label(ordered, offset_s), _onset_us(ordered)
    model = computed.routed.loaded
    untold = model is not None and ordered.condition is not None and bool(unstated(model, ordered.condition))
    return Judged(ordered, offset_s, label, onset_us, outcome.score, outcome.alerts, bands, untold), state


def rebuilt(ordered: OrderedFrame, router: Router) -> Computed:
    """Return a stored frame as scoring gave it; its value is not kept.

    Raises:
        FrameRejected: No route matches its machine.
    """
    row = ordered.frame
    routed = router.find(ordered.machine, row.recorded_us)
    features = None if routed.loaded is None else routed.loaded.metadata.features
    record = FrameRecord(ordered.machine.encode(), None, (), row.timestamp_ms, ordered.name, ordered.part, row.number)
    frame = Frame(
        row.frame_id, ordered.machine, ordered.source or None, row.recorded_us, row.sequence, row.foreign_id, record
    )
    return Computed(
        frame=frame,
        routed=routed,
        score=row.score,
        band_error=np.frombuffer(row.band_error, np.float32).reshape(
            (0, 0) if features is None else (features.channels, features.bands)
        ),
        statistics=np.frombuffer(row.statistics, np.float64, len(STATISTICS)),
        level_dbfs=row.level_dbfs,
        sensor_fault=row.sensor_fault,  # type: ignore[arg-type]  # as it was stored
        duration_s=row.duration_s,
        unfamiliar=tuple(row.unfamiliar.split(",")) if row.unfamiliar else (),  # type: ignore[arg-type]
    )


def _label(ordered: OrderedFrame, offset_s: float | None) -> Label | None:
    if ordered.label == "anomaly" and ordered.onset_s is not None and offset_s is not None:
        # A frame that holds the onset holds some of the fault.
        return "anomaly" if offset_s + ordered.frame.duration_s > ordered.onset_s + _INSTANT_S else "normal"
    return ordered.label  # type: ignore[return-value]  # as it was stored


def _onset_us(ordered: OrderedFrame) -> int:
    if ordered.onset_s is None or ordered.start_us is None:
        return ordered.frame.recorded_us
    return max(ordered.frame.recorded_us, ordered.start_us + round(ordered.onset_s * MICROSECONDS))
