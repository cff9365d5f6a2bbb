"""The stateless half: records become scored frames or dead letters. Pure, so it may run in any thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.dead_letter import DeadLetter
from schemas.frame import MAX_SAMPLES, Frame, FrameRecord, parse_frame
from schemas.score import SensorFault
from stream_app.pipeline.decode import decode
from stream_app.pipeline.model import Float32, Model
from stream_app.pipeline.resample import resample
from stream_app.pipeline.router import RoutedModel, Router
from stream_app.pipeline.sensor import level_dbfs, sensor_fault
from stream_app.pipeline.windowing import windows
from whirr.errors import FrameRejected

log = logging.getLogger(__name__)

MAX_RESAMPLED = 4 * MAX_SAMPLES  # a frame of many channels at a low rate must not fill the memory at the model's


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame ready to be scored.

    Attributes:
        frame: Its envelope.
        routed: Its route and model.
        windows: float32 [window, channel, band, time]; a one-channel model has each of a frame's channels in turn.
        signals: How many signals ``windows`` holds: the frame's channels for a one-channel model, else 1.
        statistics: float64 [13].
        level_dbfs: Root mean square, mean removed, dB re full scale.
        sensor_fault: What is wrong with the signal, or None.
        duration_s: Length of the frame.
    """

    frame: Frame
    routed: RoutedModel
    windows: Float32
    signals: int
    statistics: NDArray[np.float64]
    level_dbfs: float
    sensor_fault: SensorFault | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Computed:
    """A frame with its score; nothing in it depends on other frames.

    Attributes:
        frame, routed, statistics, level_dbfs, sensor_fault, duration_s: As in :class:`Prepared`.
        score: Mean over the windows of the worst signal.
        band_error: float32 [channel, band], mean over the same windows.
    """

    frame: Frame
    routed: RoutedModel
    score: float
    band_error: Float32
    statistics: NDArray[np.float64]
    level_dbfs: float
    sensor_fault: SensorFault | None
    duration_s: float


def compute(records: Sequence[FrameRecord], router: Router) -> list[Computed | DeadLetter]:
    """Return one answer for each record, in order; what can't be used becomes a dead letter, never an exception."""
    answers: list[Computed | DeadLetter | Prepared] = [_guarded_prepare(record, router) for record in records]
    by_model: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for index, answer in enumerate(answers):
        if isinstance(answer, Prepared):
            by_model.setdefault((id(answer.routed.model), answer.windows.shape[1:]), []).append(index)
    for indices in by_model.values():
        prepared = [answer for i in indices if isinstance(answer := answers[i], Prepared)]
        for index, scored in zip(indices, _score_all(prepared), strict=True):
            answers[index] = scored
    return [answer for answer in answers if not isinstance(answer, Prepared)]


def prepare(frame: Frame, router: Router) -> Prepared:
    """Decode a frame and compute its features.

    Raises:
        FrameRejected: It can't be used; the code says why.
    """
    routed = router.find(frame.machine_id)
    audio = decode(frame.record.value or b"")
    config = routed.model.metadata.features
    features = routed.model.features
    if config.channels != 1 and audio.samples.shape[0] != config.channels:
        raise FrameRejected(
            "channels_mismatch",
            f"{audio.samples.shape[0]} channels; model {routed.model.metadata.name!r} takes {config.channels}",
        )
    spectrum = features.spectrum(resample(audio.samples, audio.rate_hz, config.sample_rate_hz, MAX_RESAMPLED))
    cut = _cut(features.log_mel_of(spectrum), routed.model)
    return Prepared(
        frame=frame,
        routed=routed,
        windows=np.concatenate(cut) if len(cut) > 1 else cut[0],
        signals=len(cut),
        statistics=features.statistics_of(spectrum),
        level_dbfs=level_dbfs(audio.samples),
        sensor_fault=sensor_fault(audio.samples),
        duration_s=audio.duration_s,
    )


def _cut(log_mel: Float32, model: Model) -> list[Float32]:
    """Return the windows of each signal, float32 [window, channel, band, time]."""
    config = model.metadata.features
    signals = log_mel[:, None] if config.channels == 1 else log_mel[None]
    return [windows(signal, config) for signal in signals]


def _guarded_prepare(record: FrameRecord, router: Router) -> Prepared | DeadLetter:
    try:
        return prepare(parse_frame(record), router)
    except FrameRejected as error:
        return DeadLetter(code=error.code, detail=error.detail, record=record)
    except MemoryError:
        raise
    except Exception as error:
        # Without this one frame would stop the worker, and again after each restart.
        return failed(record, error)


def failed(record: FrameRecord, error: Exception) -> DeadLetter:
    """Return the dead letter of a frame that met an unexpected error, and log where."""
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    log.error("frame %s could not be processed", where, exc_info=error)
    return DeadLetter(code="processing_failed", detail=f"{type(error).__name__}: {error}"[:500], record=record)


def _score_all(prepared: Sequence[Prepared]) -> Iterable[Computed | DeadLetter]:
    """Score frames of one model and window shape together; should that fail, one by one."""
    try:
        return list(_scored(prepared))
    except MemoryError:
        raise
    except Exception as error:
        if len(prepared) == 1:
            return [failed(prepared[0].frame.record, error)]
        return [answer for one in prepared for answer in _score_all([one])]


def _scored(prepared: Sequence[Prepared]) -> Iterable[Computed]:
    cuts = [p.windows for p in prepared]
    scores, band_errors = prepared[0].routed.model.score(np.concatenate(cuts) if len(cuts) > 1 else cuts[0])
    at = 0
    for one in prepared:
        upto = at + len(one.windows)
        yield _worst(one, scores[at:upto], band_errors[at:upto])
        at = upto


def _worst(one: Prepared, scores: Float32, band_errors: Float32) -> Computed:
    """Return the frame scored as its worst signal."""
    by_signal = scores.astype(np.float64).reshape(one.signals, -1)
    means = by_signal.mean(axis=1)
    worst = int(means.argmax())
    score = float(means[worst])
    if not (np.isfinite(means).all() and score >= 0):
        raise ValueError(
            f"model {one.routed.model.metadata.name!r} gave the score {score}; expected finite, at least 0"
        )
    bands = band_errors.reshape(one.signals, -1, *band_errors.shape[1:])[worst].mean(axis=0)
    return Computed(
        frame=one.frame,
        routed=one.routed,
        score=score,
        band_error=bands,
        statistics=one.statistics,
        level_dbfs=one.level_dbfs,
        sensor_fault=one.sensor_fault,
        duration_s=one.duration_s,
    )
