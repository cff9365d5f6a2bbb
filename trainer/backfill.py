"""Backfill: statistics of recordings made before, as the feature store's history, with the times of the recordings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_repo.rows import FeatureRow
from recordings.cut import frame_samples, offset_us
from recordings.name_times import NoTimestamp
from schemas.errors import RecordingError, SettingsError
from stream_app.pipeline.rolling import RollingMean
from stream_app.pipeline.statistics import STATISTICS
from trainer.extraction import PARQUET, Extracted
from trainer.recording_set import Recording

_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfilled:
    """What was written.

    Attributes:
        folder: The history's.
        rows: How many, one for each frame.
        machines: Whose.
        first_us: Recording time of the first frame, microseconds since the epoch, UTC.
        last_us: Of the last one, likewise.
        late: Frames left out: their recordings overlap an earlier one's time.
    """

    folder: Path
    rows: int
    machines: tuple[str, ...]
    first_us: int
    last_us: int
    late: int


def backfill(extracted: Extracted, folder: Path, start_us: int | None = None) -> Backfilled:
    """Write a row for each frame of an extraction: the rolling means as a worker would have had them after it.

    Repeating it does no harm: of two rows of one machine and time the one created last counts.

    Args:
        extracted: Whose table is read.
        folder: The history's.
        start_us: As in :func:`recording_times`.

    Raises:
        SettingsError: The times are not known.
        RecordingError: A recording is nobody's.
        OSError: The history can't be written to.
    """
    from feature_repo.history import write_rows

    times_us = recording_times(extracted.found.recordings, start_us)
    counted = _Counted()
    held: list[FeatureRow] = []
    for row in counted.rows(_frames(extracted, times_us)):
        held.append(row)
        if len(held) == _ROWS_AT_ONCE:
            write_rows(folder, held)
            held = []
    if held:
        write_rows(folder, held)
    first_us, last_us = counted.span_us
    return Backfilled(
        folder=folder,
        rows=counted.count,
        machines=tuple(sorted(counted.newest_us)),
        first_us=first_us,
        last_us=last_us,
        late=counted.late,
    )


def recording_times(recordings: Sequence[Recording], start_us: int | None = None) -> dict[str, int]:
    """Return when each recording began, in microseconds since the epoch, by its name.

    Args:
        recordings: In time order by machine.
        start_us: When each machine's first one began; the others follow without a gap. Default: as their names say, or
            the list of times beside them.

    Raises:
        SettingsError: A name says no time, and no start is given.
        RecordingError: A recording is nobody's.
    """
    nobodys = [recording.name for recording in recordings if recording.machine is None]
    if nobodys:
        raise RecordingError(f"{nobodys[0]}: no folder says whose it is; give --machine, or DIR/<machine>/…")
    if start_us is None:
        return {recording.name: _named_time(recording) for recording in recordings}
    times: dict[str, int] = {}
    next_us: dict[str | None, int] = {}
    for recording in recordings:
        times[recording.name] = begin = next_us.get(recording.machine, start_us)
        next_us[recording.machine] = begin + offset_us(recording.samples, recording.rate_hz)
    return times


def _named_time(recording: Recording) -> int:
    if isinstance(recording.start, NoTimestamp):
        raise SettingsError(
            f"{recording.name}: its name says no time such as 2026-01-31T12-00-00 ({recording.start.reason}); give "
            "--start, the time at which each machine's first recording began, or --pattern with the form of the times, "
            "such as '*_{time:%d.%m.%Y_%H%M%S}'"
        )
    return recording.start


@dataclass(frozen=True, slots=True)
class _FrameStatistics:
    machine: str
    recorded_us: int
    statistics: np.ndarray[tuple[int], np.dtype[np.float64]]


def _frames(extracted: Extracted, times_us: Mapping[str, int]) -> Iterator[_FrameStatistics]:
    import pyarrow.parquet as pq

    rates_hz = {recording.name: recording.rate_hz for recording in extracted.found.recordings}
    with pq.ParquetFile(extracted.out / PARQUET) as file:
        for batch in file.iter_batches(columns=["machine", "recording", "frame", *STATISTICS]):
            places = zip(*(batch[name].to_pylist() for name in ("machine", "recording", "frame")), strict=True)
            statistics = np.stack([batch[name].to_numpy() for name in STATISTICS], axis=1)
            for (machine, name, number), own in zip(places, statistics, strict=True):
                start = number * frame_samples(extracted.frame_s, rates_hz[name])
                yield _FrameStatistics(machine, times_us[name] + offset_us(start, rates_hz[name]), own)


class _Counted:
    """Makes rows of frames, in the order of each machine's times, and counts them."""

    def __init__(self) -> None:
        self.count = self.late = 0
        self.newest_us: dict[str, int] = {}
        self.span_us = (0, 0)
        self._rolling: dict[str, tuple[RollingMean, int]] = {}

    def rows(self, frames: Iterator[_FrameStatistics]) -> Iterator[FeatureRow]:
        created_us = time.time_ns() // 1000
        for frame in frames:
            event_us = frame.recorded_us
            newest_us = self.newest_us.get(frame.machine)
            if newest_us is not None and event_us <= newest_us:
                self.late += 1
                continue
            rolling, seen = self._rolling.get(frame.machine, (RollingMean(0.0, np.zeros(len(STATISTICS))), 0))
            rolling = rolling.updated(frame.statistics, 0 if newest_us is None else event_us - newest_us)
            self._rolling[frame.machine] = rolling, seen + 1
            self.newest_us[frame.machine] = event_us
            first_us, last_us = self.span_us if self.count else (event_us, event_us)
            self.span_us = min(first_us, event_us), max(last_us, event_us)
            self.count += 1
            # Scores, ratio, alert state and model are not known without a model.
            health = (None, None, None, seen + 1, 0, None, None, None)
            yield FeatureRow(frame.machine, "", event_us, created_us, (*rolling.mean.tolist(), *health))
