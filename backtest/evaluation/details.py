"""Details: what a model made of single recordings, for the worst misses and the worst false alarms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backtest.evaluation.scored_set import Pace, ScoredRecording
from recordings.cut import frame_bounds
from recordings.encode import encoded_frames
from schemas import Band, FrameRecord
from schemas.frame import condition_headers
from stream_app.pipeline import Computed, Engine, Model, Router, decode, resample
from stream_app.pipeline.alert_builder import driving_bands
from whirr.settings import Route

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """One recording as the model saw it.

    Attributes:
        scored: The recording with its score.
        log_mel: float32 [band, column], natural log of energy, mean over channels; frames one after another.
        duration_s: Length of what the columns show.
        edges_hz: float64 [band, 2], lower and upper edge of each band.
        excess: float64 [band], each band's contribution above the normal mean, channels together, mean over frames;
            negative where the band is closer to the normal than usual.
        bands: The ranges that drove the score, largest share first, as an alert would tell them.
    """

    scored: ScoredRecording
    log_mel: Float32
    duration_s: float
    edges_hz: Float64
    excess: Float64
    bands: tuple[Band, ...]


def worst_misses(recordings: Iterable[ScoredRecording], most: int) -> list[ScoredRecording]:
    """Return the anomalies that passed, the lowest ratio of score to threshold first."""
    missed = [one for one in recordings if one.recording.anomalous and not one.flagged]
    return sorted(missed, key=lambda one: one.ratio)[:most]


def worst_false_alarms(recordings: Iterable[ScoredRecording], most: int) -> list[ScoredRecording]:
    """Return the normals that were flagged, the highest ratio of score to threshold first."""
    flagged = [one for one in recordings if not one.recording.anomalous and one.flagged]
    return sorted(flagged, key=lambda one: -one.ratio)[:most]


def look_into(scored: ScoredRecording, model: Model, pace: Pace) -> Detail:
    """Return a recording's detail: the worker's core computes it once more, for its band errors.

    Raises:
        RecordingError: The file can't be read any more.
    """
    recording = scored.recording
    bounds = frame_bounds(recording.samples, recording.rate_hz, pace.frame_s, model.metadata.features.window_s)
    frames = list(encoded_frames(recording.path, bounds, recording.columns))
    computed = _compute(frames, scored, model)
    mean = np.mean([one.band_error for one in computed], axis=0)
    return Detail(
        scored=scored,
        log_mel=np.concatenate([_log_mel(frame, model) for frame in frames], axis=1),
        duration_s=sum(stop - start for start, stop in bounds) / recording.rate_hz,
        edges_hz=model.features.band_edges_hz,
        excess=(mean - model.normal_band_error).sum(axis=0),
        bands=driving_bands(replace(computed[0], band_error=mean)),
    )


def _compute(frames: list[bytes], scored: ScoredRecording, model: Model) -> list[Computed]:
    engine = Engine(Router.from_routes([Route(model="model")], {"model": model}))
    headers = condition_headers(scored.recording.condition)
    records = [FrameRecord(scored.machine.encode(), frame, headers) for frame in frames]
    return [answer for answer in engine.compute(records) if isinstance(answer, Computed)]


def _log_mel(frame: bytes, model: Model) -> Float32:
    audio = decode(frame)
    log_mel = model.features.log_mel(resample(audio.samples, audio.rate_hz, model.metadata.features.sample_rate_hz))
    mean: Float32 = log_mel.mean(axis=0)
    return mean
