"""From recordings to spectrograms in memory-mapped files, with the worker's own core.

Held-out recordings are cut into frames first, as a gateway would, and each frame is resampled, transformed and cut into
windows by itself, as the worker does: what thresholds are made from is what will be scored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from recordings.cut import frame_bounds
from recordings.find import Problem
from schemas import Condition, FeatureConfig
from schemas.errors import RecordingError
from stream_app.pipeline.features import Features
from stream_app.pipeline.resample import resample
from stream_app.pipeline.windowing import windows
from trainer.dataset import HeldOutFrame, HeldOutSet, Place, TrainingSet
from trainer.reading import computed, samples_of, signals_of
from trainer.recording_set import Segment

Float32 = NDArray[np.float32]
FrameWindows = Float32  # [signal, window, channel, band, time]
Work = Iterator[tuple[Segment, list[Float32]]]  # each segment, and what was computed from it

MAX_CHUNK_S = 60.0  # longer recordings are transformed piece by piece


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is trained on, and what thresholds are made from.

    Attributes:
        features: How the windows were made.
        data_hash: Of the recordings, as the model's metadata has it.
    """

    train: TrainingSet
    held_out: HeldOutSet
    features: FeatureConfig = field(default_factory=FeatureConfig)
    data_hash: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, bands and columns of a window."""
        channels, bands, columns = self.held_out.windows.shape[1:]
        return channels, bands, columns


def prepare(
    train: Sequence[Segment],
    held_out: Sequence[Segment],
    config: FeatureConfig,
    frame_s: float,
    folder: Path,
    on_recording: Callable[[int, int], None] = lambda _done, _of: None,
) -> Prepared | list[Problem]:
    """Compute the spectrograms of both sets, into files in ``folder``.

    Args:
        train: What windows are drawn from.
        held_out: What thresholds are made from.
        config: The features.
        frame_s: Length of a frame in seconds, that held-out recordings are cut into.
        folder: Of the files.
        on_recording: Called with how many segments are done, of how many.

    Returns:
        Both sets; or, where some recordings can't be used, which ones and why. Then split the others and call again.

    Raises:
        RecordingError: There is nothing to train on, or nothing held out.
    """
    if not train:
        raise RecordingError("nothing to train on")
    if not held_out:
        raise RecordingError(
            f"nothing held out for thresholds: {train[0].recording.name!r} is too short to be cut in two; expected at "
            f"least two recordings of a machine, or one of two frames of {frame_s:g} s"
        )
    features = Features(config)
    problems: list[Problem] = []
    good = itertools.count(1)

    def read(segments: Sequence[Segment], compute: Callable[[Segment], list[Float32]]) -> Work:
        for segment, spectrograms in computed(segments, compute, problems):
            on_recording(next(good) + len(problems), len(train) + len(held_out))
            yield segment, spectrograms

    with (folder / "train.f32").open("w+b") as file:
        work = read(train, lambda segment: _spectrograms(segment, features))
        training_set = _training_set(work, features.config, file)
    with (folder / "held_out.f32").open("w+b") as file:
        work = read(held_out, lambda segment: _frames(segment, features, frame_s))
        held_out_set = _held_out_set(work, features.config, _columns(held_out, features.config, frame_s), frame_s, file)
    if not problems and held_out_set is None:
        raise RecordingError(f"no held-out recording makes a frame of {frame_s:g} s; expected at least two")
    if problems or training_set is None or held_out_set is None:
        return problems
    return Prepared(training_set, held_out_set, config)


def _training_set(work: Work, config: FeatureConfig, file: BinaryIO) -> TrainingSet | None:
    segments: list[tuple[int, int]] = []
    machines: list[str | None] = []
    conditions: list[Condition] = []
    places: list[Place] = []
    columns = 0
    for segment, spectrograms in work:
        starts_s = itertools.cycle(_starts_s(segment, config))
        for log_mel in spectrograms:
            places.append(Place(segment.recording.name, next(starts_s)))
            file.write(np.ascontiguousarray(log_mel.transpose(2, 0, 1)).tobytes())
            segments.append((columns, log_mel.shape[2]))
            machines.append(segment.recording.machine)
            conditions.append(segment.recording.condition)
            columns += log_mel.shape[2]
    if not segments:
        return None
    mapped = _mapped(file, (columns, config.channels, config.bands))
    found = tuple(segments), config.window_columns, tuple(machines), tuple(conditions), tuple(places)
    return TrainingSet(mapped, *found)


def _columns(held_out: Sequence[Segment], config: FeatureConfig, frame_s: float) -> int:
    """Return a window's columns; where a frame is one window: a frame's, or those of the longest segment if shorter."""
    if config.time_axis == "fixed":
        return config.window_columns
    longest_s = max((segment.stop - segment.start) / segment.recording.rate_hz for segment in held_out)
    # A sample less: resampling rounds.
    samples = int(min(frame_s, longest_s) * config.sample_rate_hz) - 1
    return max(config.window_columns, 1 + (samples - config.n_fft) // config.hop)


def _held_out_set(work: Work, config: FeatureConfig, columns: int, frame_s: float, file: BinaryIO) -> HeldOutSet | None:
    """Return the frames' windows; where a frame is one window, a shorter one at a recording's end is left out."""
    frames: list[HeldOutFrame] = []
    count = 0
    for segment, frames_of in work:
        for number, whole in enumerate(frames_of):
            if whole.shape[-1] < columns:
                continue
            frame = whole[..., :columns]
            file.write(frame.tobytes())
            about, (signals, each) = segment.recording, frame.shape[:2]
            start_s = segment.start / about.rate_hz + number * frame_s
            frames.append(HeldOutFrame(about.machine, about.name, count, signals, each, about.condition, start_s))
            count += signals * each
    if not frames:
        return None
    mapped = _mapped(file, (count, config.channels, config.bands, columns))
    return HeldOutSet(mapped, tuple(frames))


def _spectrograms(segment: Segment, features: Features) -> list[Float32]:
    """Return spectrograms [channel, band, column] of a segment's signals, in chunks of at most :data:`MAX_CHUNK_S`."""
    config = features.config
    rate_hz = segment.recording.rate_hz
    spectrograms = []
    for signal in signals_of(samples_of(segment), config):
        for start, stop in _pieces(signal.shape[1], MAX_CHUNK_S * rate_hz, config.window_s * rate_hz):
            log_mel = features.log_mel(resample(signal[:, start:stop], rate_hz, config.sample_rate_hz))
            windows(log_mel, config)  # raises where not even one fits
            spectrograms.append(log_mel)
    return spectrograms


def _starts_s(segment: Segment, config: FeatureConfig) -> list[float]:
    """Return where in its recording each chunk of a signal of :func:`_spectrograms` begins, in seconds."""
    rate_hz = segment.recording.rate_hz
    pieces = _pieces(segment.stop - segment.start, MAX_CHUNK_S * rate_hz, config.window_s * rate_hz)
    return [(segment.start + start) / rate_hz for start, _ in pieces]


def _frames(segment: Segment, features: Features, frame_s: float) -> list[FrameWindows]:
    """Return the windows of each frame that a segment is cut into; a worker refuses an end shorter than a window."""
    config = features.config
    samples, rate_hz = samples_of(segment), segment.recording.rate_hz
    frames = []
    for start, stop in frame_bounds(samples.shape[1], rate_hz, frame_s, config.window_s):
        of_signals = [
            windows(features.log_mel(resample(signal, rate_hz, config.sample_rate_hz)), config)
            for signal in signals_of(samples[:, start:stop], config)
        ]
        frames.append(np.stack(of_signals))
    return frames


def _pieces(samples: int, longest: float, shortest: float) -> list[tuple[int, int]]:
    """Return start and stop of pieces of at most ``longest`` samples; a last one below ``shortest`` is left out."""
    step = max(1, int(longest))
    pieces = [(start, min(start + step, samples)) for start in range(0, samples, step)]
    return [piece for piece in pieces if piece[1] - piece[0] >= shortest] or pieces[:1]


def _mapped(file: BinaryIO, shape: tuple[int, ...]) -> Float32:
    file.flush()
    return np.memmap(file, np.float32, mode="r", shape=shape)
