"""Extraction: the features of a folder's recordings as files, the step that ``whirr features`` does.

Recordings are cut into frames as a gateway would, and each frame is resampled and transformed by itself with the
worker's own core: a row of the table is what the worker computes for that frame.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from recordings.cut import frame_bounds
from recordings.find import Problem
from schemas import FeatureConfig
from schemas.errors import SettingsError
from stream_app.pipeline.features import Features
from stream_app.pipeline.resample import resample
from stream_app.pipeline.sensor import sensor_fault
from trainer.feature_choice import Choice, choose_features, frame_length
from trainer.feature_files import FrameFeatures, FrameTable, GrowingArray, growing_array
from trainer.reading import Float32, computed, samples_of
from trainer.recording_set import RecordingSet, Segment, find_recordings, unusable
from trainer.train_options import ExtractConfig
from whirr.outputs import check_folder

SPECTROGRAMS = "spectrograms.npy"
PARQUET = "statistics.parquet"
CSV = "statistics.csv"
INDEX = "features.json"  # says how the others were made; written last


@dataclass(frozen=True, slots=True)
class ExtractionCounts:
    """How much was written.

    Attributes:
        frames, columns: Columns of spectrogram are over all frames and signals.
        audio_s: Seconds in all frames.
        sensor_faults: Frames that are flat or clipped, by which.
        first_fault: Where the first of them is, or ''.
    """

    frames: int
    columns: int
    audio_s: float
    sensor_faults: Mapping[str, int]
    first_fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What an extraction gave.

    Attributes:
        out: The folder written to; the files in it have the names above.
        found: Which recordings were used, and which were not.
        choice: The features, and why these.
        frame_s: Length of a frame in seconds; a recording shorter than that is one frame.
        counts: How much was written.
    """

    out: Path
    found: RecordingSet
    choice: Choice
    frame_s: float
    counts: ExtractionCounts

    @property
    def files(self) -> dict[str, str]:
        """The files written, by what they hold."""
        names = {"spectrograms": SPECTROGRAMS, "parquet": PARQUET, "csv": CSV, "index": INDEX}
        return {what: str(self.out / name) for what, name in names.items()}

    @property
    def left_over_s(self) -> float:
        """Length in seconds of what is left at the recordings' ends and fills no frame."""
        return max(0.0, self.found.duration_s - self.counts.audio_s)

    def summary(self) -> dict[str, object]:
        """Return what was found, used and written, fit for JSON."""
        found, config, counts = self.found, self.choice.features, self.counts
        return {
            "folder": str(found.folder),
            "files": len(found.recordings) + unusable(found.problems),
            "used": len(found.recordings),
            "notes": list(found.notes),
            "not_used": [asdict(problem) for problem in found.problems],
            "machines": sorted(machine for machine in found.machines if machine is not None),
            "rates_hz": {str(rate_hz): count for rate_hz, count in sorted(found.rates_hz.items())},
            "frames": counts.frames,
            "frame_s": self.frame_s,
            "audio_s": round(counts.audio_s, 6),
            "left_over_s": round(self.left_over_s, 6),
            "sensor_faults": dict(counts.sensor_faults),
            "spectrograms_shape": (counts.columns, config.channels, config.bands),
            "features": asdict(config),
            "why": self.choice.why,
            "out": self.files,
        }


class ExtractionObserver:
    """Hears how an extraction goes on; the base class ignores it all."""

    def on_found(self, found: RecordingSet) -> None:
        """The folder has been looked through."""

    def on_features(self, choice: Choice, frame_s: float) -> None:
        """The features have been chosen."""

    def on_recording(self, done: int) -> None:
        """So many recordings have been read, those that can't be used among them."""

    def on_problems(self, problems: Sequence[Problem]) -> None:
        """All recordings have been read; these can't be used."""

    def on_written(self, extracted: Extracted) -> None:
        """The files are complete."""


def extract_features(config: ExtractConfig, observer: ExtractionObserver | None = None) -> Extracted:
    """Write the spectrograms and statistics of every frame of a folder's recordings.

    No more than a few recordings are in memory at once. The files appear complete or not at all.

    Raises:
        SettingsError: Options contradict each other or the data, or the output folder can't be made.
        RecordingError: The folder holds no usable audio, or a file can't be used and ``on_error`` is ``fail``.
    """
    if config.out is None:
        raise SettingsError("out is not given; expected a folder to write to")
    check_folder(config.out, "--out")
    observer = observer or ExtractionObserver()
    found = find_recordings(config.folder, config.naming, config.on_error, normal_only=False, columns=config.columns)
    observer.on_found(found)
    choice = choose_features(found, config.features, config.frame_s)
    frame_s = frame_length(found, choice.features, config.frame_s)
    observer.on_features(choice, frame_s)
    problems: list[Problem] = []
    config.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=config.out) as folder:
        counts = _write(Path(folder), found, choice.features, frame_s, problems, observer)
        found = found.without(problems, config.on_error)
        observer.on_problems(found.problems)
        extracted = Extracted(out=config.out, found=found, choice=choice, frame_s=frame_s, counts=counts)
        (Path(folder) / INDEX).write_bytes(orjson.dumps(extracted.summary(), option=orjson.OPT_INDENT_2))
        for name in (SPECTROGRAMS, PARQUET, CSV, INDEX):
            (Path(folder) / name).replace(config.out / name)
    observer.on_written(extracted)
    return extracted


@dataclass(frozen=True, slots=True)
class _ComputedFrame:
    """One frame's features.

    Attributes:
        start_s, duration_s: Within the recording.
        statistics: float64 [13].
        spectrograms: float32 [signal, column, channel, band].
        sensor_fault: As the worker would say it.
    """

    start_s: float
    duration_s: float
    statistics: NDArray[np.float64]
    spectrograms: Float32
    sensor_fault: str | None


@dataclass(slots=True)
class _FeatureWriter:
    """Takes the frames of one recording after another, and counts them."""

    array: GrowingArray
    table: FrameTable
    frames: int = 0
    audio_s: float = 0.0
    sensor_faults: Counter[str] = field(default_factory=Counter)
    first_fault: str = ""

    def append(self, segment: Segment, frames: Sequence[_ComputedFrame]) -> None:
        for number, frame in enumerate(frames):
            signals, columns = frame.spectrograms.shape[:2]
            row = FrameFeatures(
                machine=segment.recording.machine,
                recording=segment.recording.name,
                frame=number,
                start_s=frame.start_s,
                duration_s=frame.duration_s,
                statistics=frame.statistics,
                first_column=self.array.shape[0],
                columns=columns,
                signals=signals,
                sensor_fault=frame.sensor_fault,
            )
            self.table.append(row)
            self.array.append(frame.spectrograms.reshape(signals * columns, *frame.spectrograms.shape[2:]))
            self.frames += 1
            self.audio_s += frame.duration_s
            if frame.sensor_fault is not None:
                self.sensor_faults[frame.sensor_fault] += 1
                self.first_fault = self.first_fault or f"{segment.recording.name} at {frame.start_s:.4g} s"


def _write(
    folder: Path,
    found: RecordingSet,
    config: FeatureConfig,
    frame_s: float,
    problems: list[Problem],
    observer: ExtractionObserver,
) -> ExtractionCounts:
    """Write spectrograms and statistics of all recordings; those that can't be used go to ``problems``."""
    features = Features(config)
    segments = [Segment(recording, 0, recording.samples) for recording in found.recordings]
    array_file = growing_array(folder / SPECTROGRAMS, config.channels, config.bands)
    with array_file as array, FrameTable(folder / PARQUET, folder / CSV) as table:
        writer = _FeatureWriter(array, table)
        work = computed(segments, lambda segment: _frames(segment, features, frame_s), problems)
        for done, (segment, frames) in enumerate(work, start=1):
            writer.append(segment, frames)
            observer.on_recording(done + len(problems))
    return ExtractionCounts(writer.frames, array.shape[0], writer.audio_s, writer.sensor_faults, writer.first_fault)


def _frames(segment: Segment, features: Features, frame_s: float) -> list[_ComputedFrame]:
    """Return the features of each frame that a recording is cut into."""
    config = features.config
    samples, rate_hz = samples_of(segment), segment.recording.rate_hz
    frames = []
    for start, stop in frame_bounds(samples.shape[1], rate_hz, frame_s, config.window_s):
        own = samples[:, start:stop]
        (log_mel,), (statistics,) = features.log_mel_and_statistics(
            resample(own, rate_hz, config.sample_rate_hz)[np.newaxis]
        )
        by_signal = log_mel[np.newaxis] if len(log_mel) == config.channels else log_mel[:, np.newaxis]
        spectrograms = by_signal.transpose(0, 3, 1, 2)
        place = start / rate_hz, (stop - start) / rate_hz
        frames.append(_ComputedFrame(*place, statistics, spectrograms, sensor_fault(own)))
    return frames
