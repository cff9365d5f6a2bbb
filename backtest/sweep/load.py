"""The courses of a replay, from the scores that it wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from backtest.sweep.course import ANOMALY, NORMAL, UNKNOWN, Course
from schemas.errors import RecordingError

SCORES: Final = "scores.parquet"
_COLUMNS: Final = (
    "machine_id",
    "source",
    "recorded_time",
    "duration_s",
    "score",
    "threshold",
    "status",
    "sensor_fault",
    "label",
)
_LABELS: Final = {"normal": NORMAL, "anomaly": ANOMALY}
_MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a replay scored.

    Attributes:
        courses: By stream.
        thresholds: Each machine's alert threshold at the time.
        left_out: Frames that move no alert state: late, idle, flat.
    """

    courses: list[Course]
    thresholds: dict[str, float]
    left_out: int


@dataclass(slots=True)
class _Growing:
    start_s: list[float] = field(default_factory=list)
    duration_s: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    label: list[int] = field(default_factory=list)


def load_courses(folder: Path) -> Loaded:
    """Return the courses in a folder that ``whirr replay --out`` wrote.

    Raises:
        RecordingError: There are no scores, or they lack something.
    """
    path = folder / SCORES
    if not path.is_file():
        raise RecordingError(f"{str(folder)!r} holds no {SCORES}; expected the folder that `whirr replay --out` wrote")
    from pyarrow import ArrowException, parquet

    streams: dict[tuple[str, str], _Growing] = {}
    thresholds: dict[str, float] = {}
    left_out = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=list(_COLUMNS)):
                for row in zip(*(_values(batch, name) for name in _COLUMNS), strict=True):
                    left_out += not _take(row, streams, thresholds)
    except (ArrowException, OSError, KeyError) as error:
        raise RecordingError(f"{path} can't be read: {error}") from None
    if not streams:
        raise RecordingError(f"{path} holds no frame that could move an alert; there are {left_out} late, idle or flat")
    return Loaded([_course(key, grown) for key, grown in streams.items()], thresholds, left_out)


def _values(batch: Any, name: str) -> list[Any]:
    from pyarrow import int64

    column = batch.column(name)
    return list((column.cast(int64()) if name == "recorded_time" else column).to_pylist())


def _take(row: tuple[Any, ...], streams: dict[tuple[str, str], _Growing], thresholds: dict[str, float]) -> bool:
    machine, source, recorded_us, duration_s, score, threshold, status, sensor_fault, label = row
    if status != "scored" or sensor_fault == "flat":
        return False
    stream = streams.setdefault((machine, source or ""), _Growing())
    stream.start_s.append(recorded_us / _MICROSECONDS)
    stream.duration_s.append(duration_s)
    stream.ratio.append(score / threshold)
    stream.label.append(_LABELS.get(label, UNKNOWN))
    thresholds[machine] = threshold
    return True


def _course(key: tuple[str, str], grown: _Growing) -> Course:
    return Course(
        *key,
        np.array(grown.start_s),
        np.array(grown.duration_s),
        np.array(grown.ratio),
        np.array(grown.label, np.int8),
    )
