"""The stateless half: records become scored frames or dead letters. Pure, so it may run in any thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recordings import FRAME_COST, Audio, decode, decode_cost
from schemas.dead_letter import DeadLetter
from schemas.errors import FrameRejected
from schemas.frame import Frame, FrameRecord, parse_frame
from schemas.score import SensorFault, Unfamiliar
from stream_app.pipeline.features import Features
from stream_app.pipeline.frame_score import frame_scores, middle_bands
from stream_app.pipeline.model import Float32, as_array, score_each
from stream_app.pipeline.resample import resample
from stream_app.pipeline.router import RoutedModel, Router
from stream_app.pipeline.sensor import level_dbfs, sensor_fault
from stream_app.pipeline.standard_features import standard_features
from stream_app.pipeline.unfamiliar import in_words, unfamiliar
from stream_app.pipeline.windowing import windows

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A frame whose signal has been decoded.

    It does not hold the signal, which goes as soon as it has its features: the next frame's takes its place in memory,
    and that is still in the processor's cache.

    Attributes:
        index: Which of the batch's records it is.
        frame: Its envelope.
        routed: Its route and model.
        features: The model's; while the machine is learning, those that suit the frame.
        shape: Of the signal at its model's rate: channels, samples.
        level_dbfs: Root mean square, mean removed, dB re full scale.
        sensor_fault: What is wrong with the signal, or None.
        duration_s: Length of the frame.
        rate_hz: Sample rate of the recording.
        unfamiliar: In what it differs from what the model was trained on.
    """

    index: int
    frame: Frame
    routed: RoutedModel
    features: Features
    shape: tuple[int, ...]
    level_dbfs: float
    sensor_fault: SensorFault | None
    duration_s: float
    rate_hz: int
    unfamiliar: tuple[Unfamiliar, ...]

    @property
    def group(self) -> tuple[int, bool, tuple[int, ...]]:
        """The same for frames whose features can be computed side by side, whatever their models."""
        return id(self.features), self.routed.learning, self.shape


Signal = tuple[Decoded, Float32]  # with its samples, [channel, n], at the model's rate


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Frames of one configuration of features and one shape, all with a model or all without, ready to be scored.

    Attributes:
        frames: At least one.
        windows: float32 [frame, signal, window, channel, band, time]; for a one-channel model each of a frame's
            channels is a signal, for any other a frame has one. Empty without a model.
        statistics: float64 [frame, 13].
    """

    frames: Sequence[Decoded]
    windows: Float32
    statistics: NDArray[np.float64]

    def by_model(self) -> Iterator[FeatureBatch]:
        """Yield the frames of each model, or of several that one call can score."""
        rows: dict[tuple[int, str], list[int]] = {}
        for row, one in enumerate(self.frames):
            rows.setdefault(one.routed.model.together, []).append(row)
        if len(rows) == 1:  # as nearly always; then nothing is copied
            yield self
            return
        for own in rows.values():
            yield FeatureBatch([self.frames[row] for row in own], self.windows[own], self.statistics[own])

    def alone(self) -> Iterator[FeatureBatch]:
        """Yield each frame by itself."""
        for i in range(len(self.frames)):
            own = slice(i, i + 1)
            yield FeatureBatch(self.frames[own], self.windows[own], self.statistics[own])


class ShadowScore(NamedTuple):
    """What a challenger said of a frame that its champion has scored.

    Attributes:
        score: As in :class:`Computed`; None where the challenger failed.
        unfamiliar: In what the frame differs from what the challenger was trained on.
        failure: Why there is no score.
    """

    score: float | None
    unfamiliar: tuple[Unfamiliar, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Computed:
    """A frame with its score; nothing in it depends on other frames.

    Attributes:
        frame, routed, level_dbfs, sensor_fault, duration_s, unfamiliar: As in :class:`Decoded`.
        score: Of the windows of the worst signal: their mean, or median, as the model's metadata says; 0 without a
            model.
        band_error: float32 [channel, band], mean over the windows that make the score; empty without a model.
        statistics: float64 [13].
        shadow: What the challenger of ``routed.shadow`` said; None where there is none, or the frame is none for it.
    """

    frame: Frame
    routed: RoutedModel
    score: float
    band_error: Float32
    statistics: NDArray[np.float64]
    level_dbfs: float
    sensor_fault: SensorFault | None
    duration_s: float
    unfamiliar: tuple[Unfamiliar, ...] = ()
    shadow: ShadowScore | None = None


Answers = dict[int, Computed | DeadLetter]  # by index
Find = Callable[[Frame], RoutedModel]


def answer(records: Sequence[FrameRecord], find: Find) -> tuple[Answers, list[FeatureBatch]]:
    """Return one answer for each record, and the features that their scores were taken from.

    What can't be used becomes a dead letter, never an exception. Frames that are alike are computed side by
    side, which spreads the cost of calls; no answer depends on it.
    """
    answers: Answers = {}
    prepared = []
    for one in features_of(enumerate(records), find, answers):
        if one.frames[0].routed.learning:
            answers |= _unscored(one)
        else:
            prepared.append(one)
    for of_model in by_model(prepared):
        _score_all(of_model, answers)
    return answers, prepared


def features_of(records: Iterable[tuple[int, FrameRecord]], find: Find, answers: Answers) -> Iterator[FeatureBatch]:
    """Yield the features of records (each with its index); what can't be used is answered.

    Args:
        records: In any order.
        find: Returns the route and model of a frame.
        answers: Gets the dead letters.
    """
    for group in _groups(records, find, answers):
        yield from _guarded_prepare(group, answers)


def by_model(prepared: Iterable[FeatureBatch]) -> Iterable[list[FeatureBatch]]:
    """Return features put together by model and shape of a window: those that one call can score."""
    found: dict[tuple[tuple[int, str], tuple[int, ...]], list[FeatureBatch]] = {}
    for one in prepared:
        for own in one.by_model():
            key = own.frames[0].routed.model.together, own.windows.shape[3:]
            found.setdefault(key, []).append(own)
    return found.values()


def frame_cost(record: FrameRecord, router: Router) -> int:
    """Return what a record will cost to compute, in samples at the rate of its machine's model; nothing is decoded."""
    value = record.value or b""
    try:
        routed = router.find((record.key or b"").decode())
    except (FrameRejected, UnicodeDecodeError):
        return FRAME_COST
    model = routed.loaded
    return decode_cost(value, None if model is None else model.metadata.features.sample_rate_hz)


def _groups(records: Iterable[tuple[int, FrameRecord]], find: Find, answers: Answers) -> Iterator[list[Signal]]:
    """Yield frames that can be computed side by side; what can't be used is answered.

    A group is no larger than pays, so that few samples wait at any time.
    """
    waiting: dict[tuple[int, bool, tuple[int, ...]], list[Signal]] = {}
    for index, record in records:
        try:
            signal = _decoded(index, record, find)
        except MemoryError:
            raise
        except Exception as error:
            answers[index] = _letter(record, error)
            continue
        one = signal[0]
        group = waiting.setdefault(one.group, [])
        group.append(signal)
        if len(group) >= one.features.at_once(*one.shape):
            yield waiting.pop(one.group)
    yield from waiting.values()


def _decoded(index: int, record: FrameRecord, find: Find) -> Signal:
    """Return a record as a frame with its signal.

    Raises:
        FrameRejected: It can't be used; the code says why.
    """
    frame = parse_frame(record)
    routed = find(frame)
    if routed.learning:
        return _of_learning(index, record, frame, routed)
    config = routed.model.metadata.features
    audio = decode(record.value or b"", config.sample_rate_hz)
    if config.channels != 1 and audio.samples.shape[0] != config.channels:
        raise FrameRejected(
            "channels_mismatch",
            f"{audio.samples.shape[0]} channels; model {routed.model.metadata.name!r} takes {config.channels}",
        )
    strange = unfamiliar(routed.model, frame, audio.rate_hz, audio.duration_s)
    if refused := [reason for reason in strange if reason in routed.route.refuse_unfamiliar]:
        why = in_words(refused[0], routed.model, frame, audio.rate_hz, audio.duration_s)
        raise FrameRejected("unfamiliar", f"{refused[0]}: model {routed.model.metadata.name!r}: {why}")
    return _signal(index, frame, routed, routed.model.features, audio, strange)


def _of_learning(index: int, record: FrameRecord, frame: Frame, routed: RoutedModel) -> Signal:
    """Return a frame that no model judges: any number of channels, at a rate that suits it."""
    audio = decode(record.value or b"")
    return _signal(index, frame, routed, standard_features(audio.rate_hz, audio.duration_s), audio, ())


def _signal(
    index: int,
    frame: Frame,
    routed: RoutedModel,
    features: Features,
    audio: Audio,
    strange: tuple[Unfamiliar, ...],
) -> Signal:
    samples = resample(audio.samples, audio.rate_hz, features.config.sample_rate_hz)
    decoded = Decoded(
        index=index,
        frame=frame,
        routed=routed,
        features=features,
        shape=samples.shape,
        level_dbfs=level_dbfs(audio.samples),
        sensor_fault=sensor_fault(audio.samples),
        duration_s=audio.duration_s,
        rate_hz=audio.rate_hz,
        unfamiliar=strange,
    )
    return decoded, samples


def prepare(signals: Sequence[Signal]) -> FeatureBatch:
    """Compute the features of frames that are alike (:attr:`Decoded.group`); without a model, the statistics alone.

    Raises:
        FrameRejected: They can't be used; the code says why.
    """
    frames = [one for one, _ in signals]
    features = frames[0].features
    config = features.config
    # One frame needs no copy.
    samples = np.stack([own for _, own in signals]) if len(signals) > 1 else signals[0][1][np.newaxis]
    log_mel, statistics = features.log_mel_and_statistics(samples)
    if frames[0].routed.learning:
        return FeatureBatch(frames, np.empty((len(frames), 0, 0, 0, 0, 0), np.float32), statistics)
    of_signals = log_mel[:, :, np.newaxis] if config.channels == 1 else log_mel[:, np.newaxis]
    return FeatureBatch(frames, windows(of_signals, config), statistics)


def _guarded_prepare(signals: Sequence[Signal], answers: Answers) -> list[FeatureBatch]:
    """Prepare frames together, or should that fail, one by one; what can't be used is answered."""
    try:
        return [prepare(signals)]
    except MemoryError:
        raise
    except Exception as error:
        if len(signals) > 1:
            return [prepared for one in signals for prepared in _guarded_prepare([one], answers)]
        only = signals[0][0]
        answers[only.index] = _letter(only.frame.record, error)
        return []


def _letter(record: FrameRecord, error: Exception) -> DeadLetter:
    if isinstance(error, FrameRejected):
        return DeadLetter(code=error.code, detail=error.detail, record=record)
    # Without this one frame would stop the worker, and again after each restart.
    return failed(record, error)


def failed(record: FrameRecord, error: Exception) -> DeadLetter:
    """Return the dead letter of a frame that met an unexpected error, and log where."""
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    log.error("frame %s could not be processed", where, exc_info=error)
    return DeadLetter(code="processing_failed", detail=f"{type(error).__name__}: {error}"[:500], record=record)


def _unscored(prepared: FeatureBatch) -> Answers:
    """Return the frames of machines without a model, with their statistics."""
    no_bands = np.empty((0, 0), np.float32)
    pairs = zip(prepared.frames, prepared.statistics, strict=True)
    return {one.index: _computed(one, 0.0, no_bands, statistics) for one, statistics in pairs}


def _computed(one: Decoded, score: float, band_error: Float32, statistics: NDArray[np.float64]) -> Computed:
    return Computed(
        frame=one.frame,
        routed=one.routed,
        score=score,
        band_error=band_error,
        statistics=statistics,
        level_dbfs=one.level_dbfs,
        sensor_fault=one.sensor_fault,
        duration_s=one.duration_s,
        unfamiliar=one.unfamiliar,
    )


def _score_all(prepared: Sequence[FeatureBatch], answers: Answers) -> None:
    """Score frames of one window shape, and of models that one call can score, together; or else one by one."""
    try:
        answers.update(scored(prepared))
    except MemoryError:
        raise
    except Exception as error:
        alone = [one for several in prepared for one in several.alone()]
        if len(alone) == 1:
            only = alone[0].frames[0]
            answers[only.index] = failed(only.frame.record, error)
            return
        for one in alone:
            _score_all([one], answers)


def scored(prepared: Sequence[FeatureBatch]) -> dict[int, Computed]:
    """Score frames of one window shape, and of models that one call can score; return the answers by index.

    Raises:
        ValueError: The model gave a score that is none.
    """
    cuts = [one.windows.reshape(-1, *one.windows.shape[3:]) for one in prepared]
    repeats = [len(cut) // len(several.frames) for several, cut in zip(prepared, cuts, strict=True)]
    models = [
        one.routed.model
        for several, n in zip(prepared, repeats, strict=True)
        for one in several.frames
        for _ in range(n)
    ]
    conditions = None
    if models[0].metadata.conditions:
        of_frames = [as_array([one.frame.condition for one in several.frames]) for several in prepared]
        conditions = np.concatenate([np.repeat(of, n, axis=0) for of, n in zip(of_frames, repeats, strict=True)])
    scores, band_errors = score_each(models, np.concatenate(cuts) if len(cuts) > 1 else cuts[0], conditions)
    found: dict[int, Computed] = {}
    at = 0
    for one, cut in zip(prepared, cuts, strict=True):
        upto = at + len(cut)
        found |= _worst(one, scores[at:upto], band_errors[at:upto])
        at = upto
    return found


def _worst(prepared: FeatureBatch, scores: Float32, band_errors: Float32) -> dict[int, Computed]:
    """Return each frame scored as its worst signal."""
    shape = prepared.windows.shape[:3]
    how = prepared.frames[0].routed.model.metadata.frame_score
    of_windows = scores.astype(np.float64).reshape(shape)
    of_signals = frame_scores(of_windows, how)
    worst = np.arange(len(of_signals)), of_signals.argmax(axis=1)
    bands = band_errors.reshape(*shape, *band_errors.shape[1:])[worst]
    # The bands are those of what the score was taken from.
    bands = bands.mean(axis=1) if how == "mean" else middle_bands(of_windows[worst], bands)
    found: dict[int, Computed] = {}
    valid: list[bool] = np.all(np.isfinite(of_signals) & (of_signals >= 0), axis=1).tolist()
    for row, (one, score) in enumerate(zip(prepared.frames, of_signals[worst].tolist(), strict=True)):
        if not valid[row]:
            name = one.routed.model.metadata.name
            raise ValueError(f"model {name!r} gave the score {score}; expected finite, at least 0")
        found[one.index] = _computed(one, score, bands[row], prepared.statistics[row])
    return found
