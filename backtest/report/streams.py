"""What a replay scored, stream by stream, thinned out so far that a page can show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.errors import RecordingError

SHOWN_POINTS: Final = 3000  # of one stream; a screen is no wider
_COLUMNS: Final = (
    "frame_id",
    "machine_id",
    "source",
    "file",
    "offset_s",
    "recorded_time",
    "duration_s",
    "score",
    "threshold",
    "status",
    "label",
)
LABELS: Final = ("none", "normal", "anomaly")
STATUSES: Final = ("scored", "late", "idle")


class Place(NamedTuple):
    """Where a frame's signal is: the file (relative to the folder), where in it, and how long, in seconds."""

    file: str
    offset_s: float
    duration_s: float


@dataclass(slots=True)
class Stream:
    """The frames of one machine's one source, in order.

    Attributes:
        machine, source: Whose they are; '' for no source.
        recorded_us: When each began, microseconds since the epoch.
        ratio: Its score divided by its threshold.
        label, status: Indices into ``LABELS`` and ``STATUSES``.
        files: The files, by number.
        file, offset_s, duration_s: Where its signal is; an offset that is NaN is none.
        index: Which frame has an identity, for those that were asked for.
    """

    machine: str
    source: str
    recorded_us: list[int] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    file: list[int] = field(default_factory=list)
    offset_s: list[float] = field(default_factory=list)
    duration_s: list[float] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    def places(self, first: int, last: int) -> list[Place]:
        """Return where the signal of the frames from ``first`` to ``last`` is; those without one are left out."""
        names = list(self.files)
        return [
            Place(names[self.file[number]], self.offset_s[number], self.duration_s[number])
            for number in range(max(0, first), min(last + 1, len(self.file)))
            if self.offset_s[number] == self.offset_s[number]
        ]

    def shown(self) -> NDArray[np.int64]:
        """Return which frames are drawn: all, or of every stretch the highest and the lowest."""
        count = len(self.ratio)
        if count <= SHOWN_POINTS:
            return np.arange(count)
        ratio = np.array(self.ratio)
        edges = np.linspace(0, count, SHOWN_POINTS // 2 + 1).astype(int)
        chosen = {0, count - 1}
        for first, last in pairwise(edges):
            chosen |= {int(first + ratio[first:last].argmax()), int(first + ratio[first:last].argmin())}
        return np.array(sorted(chosen))


@dataclass(frozen=True, slots=True)
class Replayed:
    """A folder of results, read.

    Attributes:
        streams: In the order of machines.
        alerts: As a worker sends them.
        summary: The figures.
    """

    streams: list[Stream]
    alerts: list[dict[str, Any]]
    summary: Mapping[str, Any]


def read_results(folder: Path) -> Replayed:
    """Return what ``whirr replay --out`` wrote.

    Raises:
        RecordingError: A file of it is missing or can't be read.
    """
    from pyarrow import ArrowException, parquet

    try:
        alerts = [orjson.loads(line) for line in (folder / "alerts.jsonl").read_bytes().splitlines()]
        summary = orjson.loads((folder / "summary.json").read_bytes())
        wanted = {alert["frame"]["frame_id"] for alert in alerts if alert["frame"]}
        streams: dict[tuple[str, str], Stream] = {}
        with parquet.ParquetFile(folder / "scores.parquet") as file:
            for batch in file.iter_batches(columns=list(_COLUMNS)):
                for row in zip(*(_values(batch, name) for name in _COLUMNS), strict=True):
                    _take(row, streams, wanted)
    except (OSError, ArrowException, orjson.JSONDecodeError, KeyError) as error:
        raise RecordingError(f"{str(folder)!r} holds no whole replay ({error}); expected what --out wrote") from None
    return Replayed(list(streams.values()), alerts, summary)


def _values(batch: Any, name: str) -> list[Any]:
    from pyarrow import int64

    column = batch.column(name)
    return list((column.cast(int64()) if name == "recorded_time" else column).to_pylist())


def _take(row: tuple[Any, ...], streams: dict[tuple[str, str], Stream], wanted: set[str]) -> None:
    frame_id, machine, source, file, offset_s, recorded_us, duration_s, score, threshold, status, label = row
    key = machine, source or ""
    if key not in streams:
        streams[key] = Stream(*key)
    stream = streams[key]
    if frame_id in wanted:
        stream.index[frame_id] = len(stream.ratio)
    stream.recorded_us.append(recorded_us)
    stream.ratio.append(score / threshold)
    stream.label.append(LABELS.index(label))
    stream.status.append(STATUSES.index(status))
    stream.file.append(stream.files.setdefault(file, len(stream.files)))
    stream.offset_s.append(float("nan") if offset_s is None else offset_s)
    stream.duration_s.append(duration_s)
