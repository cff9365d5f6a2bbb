"""Scoring: each machine's recordings, played as one stream through the worker's own core.

``stream_app.pipeline.backtest`` decodes, resamples, scores and applies the alert rule; nothing of it is done here. A
frame's score doesn't depend on what came before it, so one pass gives both the recordings' scores and the alerts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from backtest.replay.cutting import sent_record
from recordings.cut import frame_bounds, offset_us
from recordings.encode import encoded_frames
from recordings.find import Problem
from schemas import Alert, DeadLetter, FrameRecord, Score
from schemas.errors import RecordingError
from schemas.times import MICROSECONDS
from stream_app.pipeline import Model, backtest
from trainer.labelled import Labelled
from whirr.settings import Route

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z; recordings have no time of their own
Heard = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How recordings become a stream.

    Attributes:
        frame_s: Length of the frames that they are cut into, in seconds.
        every_s: Seconds from one recording's start to the next one's; None: back to back.
    """

    frame_s: float
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class ScoredFrame:
    """One frame: where it begins in the machine's stream, its length (both in seconds), whose, and its score."""

    recording: int
    at_s: float
    duration_s: float
    score: float
    alert_threshold: float
    unfamiliar: tuple[str, ...] = ()  # in what it differs from what the model was trained on

    @property
    def end_s(self) -> float:
        """Where it ends: an alert that it causes can't come before."""
        return self.at_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Told:
    """One alert: what changed, of what, and when the frame that caused it had been heard, seconds into the stream."""

    kind: str
    state: str
    at_s: float


@dataclass(frozen=True, slots=True)
class ScoredRecording:
    """One recording with its score.

    Attributes:
        score: Mean over its frames.
        frames: How many.
        threshold: The decision threshold of its machine.
    """

    labelled: Labelled
    machine: str
    score: float
    frames: int
    threshold: float

    @property
    def flagged(self) -> bool:
        """Whether it counts as anomalous."""
        return self.score > self.threshold

    @property
    def ratio(self) -> float:
        """Score / decision threshold: comparable between machines."""
        return self.score / self.threshold


@dataclass(frozen=True, slots=True)
class Course:
    """What came of one machine's stream.

    Attributes:
        recordings: In the order played.
        frames: Every frame that was scored, in order.
        told: Every alert, in order.
        onset_s: When the fault begins, seconds into the stream; None without anomalies.
        end_s: Length of the stream in seconds.
        alert_threshold: What frames were compared with.
    """

    machine: str
    recordings: tuple[ScoredRecording, ...]
    frames: tuple[ScoredFrame, ...]
    told: tuple[Told, ...]
    onset_s: float | None
    end_s: float
    alert_threshold: float


def play(
    machine: str, recordings: Sequence[Labelled], model: Model, route: Route, pace: Pace, heard: Heard = lambda: None
) -> Course | list[Problem]:
    """Play one machine's recordings, in the order given, and return what came of it.

    Args:
        machine: Its id.
        recordings: Normals first; at least one.
        model: Scores them.
        route: The alert rule; its ``model`` is not looked at.
        pace: How recordings become a stream.
        heard: Called after each recording has been read.

    Returns:
        The course; or, where some recordings can't be used, which ones and why. Then play the others anew: a broken
        recording must not move the alert rule.
    """
    stream = _Stream(machine, recordings, pace, model.metadata.features.window_s, heard)
    scores: dict[int, Score] = {}
    told: list[Told] = []
    with _no_warnings():
        for answer in backtest(stream.frames(), {route.model: model}, [route]):
            if isinstance(answer, Score):
                scores[answer.offset] = answer
            elif isinstance(answer, DeadLetter):
                stream.reject(answer)
            else:
                told.append(_told(answer, stream))
    if stream.problems:
        return list(stream.problems.values())
    return _course(machine, stream, scores, told, model)


@dataclass(slots=True)
class _Placed:
    """Where a frame that was sent came from, and where it stands in the stream."""

    recording: int
    number: int  # within the recording
    at_s: float
    duration_s: float


@dataclass(slots=True)
class _Stream:
    """Sends recordings as frames, and remembers what it sent."""

    machine: str
    recordings: Sequence[Labelled]
    pace: Pace
    window_s: float
    heard: Heard
    placed: list[_Placed] = field(default_factory=list)
    problems: dict[str, Problem] = field(default_factory=dict)
    onset_s: float | None = None
    end_s: float = 0.0

    def frames(self) -> Iterator[FrameRecord]:
        """Yield each frame's record; its offset is its index among those sent."""
        for index, labelled in enumerate(self.recordings):
            begins_s = self.end_s
            if labelled.anomalous and self.onset_s is None:
                self.onset_s = begins_s + (labelled.onset_s or 0.0)
            try:
                yield from self._frames_of(index, labelled, begins_s)
            except RecordingError as error:
                reason = str(error).removeprefix(f"{labelled.recording.path}: ")
                self.problems[labelled.name] = Problem(labelled.name, reason)
            self.end_s = begins_s + max(labelled.recording.duration_s, self.pace.every_s or 0.0)
            self.heard()

    def reject(self, letter: DeadLetter) -> None:
        """Take note that a frame can't be used, and so its recording can't."""
        placed = self.placed[letter.record.offset]
        name = self.recordings[placed.recording].name
        self.problems.setdefault(name, Problem(name, f"frame {placed.number}: {letter.detail} ({letter.code})"))

    def _frames_of(self, index: int, labelled: Labelled, begins_s: float) -> Iterator[FrameRecord]:
        recording, rate_hz = labelled.recording, labelled.recording.rate_hz
        bounds = frame_bounds(recording.samples, rate_hz, self.pace.frame_s, self.window_s)
        begins_us = START_US + round(begins_s * MICROSECONDS)
        values = encoded_frames(recording.path, bounds, recording.columns)
        for number, ((start, stop), value) in enumerate(zip(bounds, values, strict=True), start=1):
            self.placed.append(_Placed(index, number, begins_s + start / rate_hz, (stop - start) / rate_hz))
            span_us = begins_us + offset_us(start, rate_hz), begins_us + offset_us(stop, rate_hz)
            yield sent_record(self.machine, None, span_us, value, offset=len(self.placed) - 1)


def _told(alert: Alert, stream: _Stream) -> Told:
    assert alert.frame is not None  # silence is not told in a backtest
    placed = stream.placed[alert.frame.offset]
    return Told(alert.kind, alert.state, placed.at_s + placed.duration_s)


def _course(machine: str, stream: _Stream, scores: dict[int, Score], told: list[Told], model: Model) -> Course:
    frames = tuple(
        ScoredFrame(
            placed.recording,
            placed.at_s,
            placed.duration_s,
            scores[index].score,
            scores[index].threshold,
            scores[index].unfamiliar,
        )
        for index, placed in enumerate(stream.placed)
    )
    by_recording: dict[int, list[float]] = {}
    for frame in frames:
        by_recording.setdefault(frame.recording, []).append(frame.score)
    threshold = model.metadata.thresholds_for(machine).decision_threshold
    recordings = tuple(
        ScoredRecording(stream.recordings[index], machine, float(np.mean(own)), len(own), threshold)
        for index, own in by_recording.items()
    )
    return Course(
        machine=machine,
        recordings=recordings,
        frames=frames,
        told=tuple(told),
        onset_s=stream.onset_s,
        end_s=stream.end_s,
        alert_threshold=frames[0].alert_threshold,
    )


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep the worker's warning of what a model was not trained for off: the evaluation says it once, in a note."""
    logger = logging.getLogger("stream_app.pipeline.engine")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
