"""The scored frames of a stream, as columns: what figures are computed from, and what pages draw.

They come from frames as they are judged (:class:`StreamBuilder`), or from the scores that a replay wrote
(:func:`read_streams`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest.judging import Judged
from schemas.errors import RecordingError
from schemas.times import MICROSECONDS

SCORES_PARQUET: Final = "scores.parquet"
LABELS: Final = ("none", "normal", "anomaly")
UNKNOWN, NORMAL, ANOMALY = range(3)
STATUSES: Final = ("scored", "late", "idle")
SCORED, LATE, IDLE = range(3)
OPENING: Final = frozenset({"opened", "anomalous"})  # the states of alerts that begin an alarm
BEGINNING: Final = OPENING | {"changed"}  # and of those that begin an early finding
_LABEL_INDEX: Final = {name: index for index, name in enumerate(LABELS)}
_STATUS_INDEX: Final = {name: index for index, name in enumerate(STATUSES)}
_NAMES: Final = ("recorded", "onset", "duration", "ratio", "label", "status", "flat")
_ROW: Final = np.dtype(list(zip(_NAMES, ("i8", "i8", "f8", "f8", "i1", "i1", "?"), strict=True)))
_ROWS: Final = 4096  # of a stream that are not packed yet
_NEEDED: Final = (
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
_MORE: Final = ("onset_time", "frame_id", "file", "offset_s", "level_dbfs")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class IncidentSpan(NamedTuple):
    """The frame that opened an incident of the machine, and the first one at whose end it was not open any more.

    That one lies past the stream's end if the incident never closed.
    """

    opened: int
    until: int


@dataclass(frozen=True, slots=True, eq=False)
class ScoredStream:
    """The frames of one machine's one source in order of time, an entry of each array for each frame.

    Attributes:
        machine, source: Whose they are; '' for a machine's only source.
        threshold: The machine's alert threshold.
        recorded_us: When each began, microseconds since the epoch; int64 [n].
        duration_s: How long it is; float64 [n].
        ratio: Its score divided by the threshold; float64 [n].
        label, status: Indices into ``LABELS`` and ``STATUSES``; int8 [n].
        flat: Whether its signal was flat, which moves no incident of the machine; bool [n].
        onset_us: Of an anomalous frame: when the fault began in it, at its beginning or later; int64 [n].
        frame_id: Its identity; bytes [n], or none where nobody asked.
        file: Which of ``files`` it is from; int64 [n], or none.
        offset_s: Where in it the frame begins, NaN where that isn't known; float64 [n], or none.
        level_dbfs: How loud it is; float64 [n], or none.
    """

    machine: str
    source: str
    threshold: float
    recorded_us: Ints
    duration_s: Floats
    ratio: Floats
    label: NDArray[np.int8]
    status: NDArray[np.int8]
    flat: NDArray[np.bool_]
    onset_us: Ints
    frame_id: NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, "S32"))
    file: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    offset_s: Floats = field(default_factory=lambda: np.zeros(0))
    files: tuple[str, ...] = ()
    level_dbfs: Floats = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.ratio)

    @property
    def end_us(self) -> Ints:
        """When each frame ended, microseconds since the epoch; int64 [n]."""
        return self.recorded_us + np.rint(self.duration_s * MICROSECONDS).astype(np.int64)

    @property
    def moving(self) -> Ints:
        """Which frames move the machine's incident: neither late nor idle nor flat; int64 [m]."""
        return np.flatnonzero((self.status == SCORED) & ~self.flat)

    def indices(self, frame_ids: Sequence[str]) -> list[int]:
        """Return where the frames of these identities are; each must be there."""
        order = np.argsort(self.frame_id)
        wanted = np.array([one.encode() for one in frame_ids], self.frame_id.dtype)
        return list(order[np.searchsorted(self.frame_id, wanted, sorter=order)].tolist())


class StreamBuilder:
    """Takes a stream's frames as they are judged, in order, and what their alerts open and close.

    Attributes:
        spans: From when to when alarms were open.
        findings: From when to when incidents were, whatever their level: an alarm, or an early finding.
    """

    def __init__(self) -> None:
        self.spans: list[IncidentSpan] = []
        self.findings: list[IncidentSpan] = []
        self._opened: int | None = None
        self._began: int | None = None
        self._whose = ("", "")
        self._threshold = 1.0
        self._frames = 0
        self._rows: list[tuple[Any, ...]] = []  # as _ROW has them; those before are packed
        self._packed: list[NDArray[Any]] = []

    def add(self, judged: Judged) -> None:
        """Take a frame and its alerts."""
        row, score, index = judged.ordered.frame, judged.score, self._frames
        self._whose, self._threshold = (score.machine_id, score.source or ""), score.threshold
        label, status = _LABEL_INDEX[judged.label or "none"], _STATUS_INDEX[score.status]
        ratio = score.score / score.threshold
        kinds = (label, status, score.sensor_fault == "flat")
        self._rows.append((row.recorded_us, judged.onset_us, row.duration_s, ratio, *kinds))
        self._frames += 1
        if len(self._rows) == _ROWS:
            self._pack()
        for alert in judged.alerts:
            if alert.kind != "machine":
                continue
            if alert.state == "anomalous":
                self.spans.append(IncidentSpan(index, index + 1))
                self.findings.append(IncidentSpan(index, index + 1))
                continue
            if self._began is None and alert.level is not None:
                self._began = index
            elif self._began is not None and alert.level is None:
                self.findings.append(IncidentSpan(self._began, index))
                self._began = None
            if alert.state == "opened":
                self._opened = index
            elif alert.state == "closed" and self._opened is not None:
                self.spans.append(IncidentSpan(self._opened, index))
                self._opened = None

    def build(self) -> ScoredStream:
        """Return the stream; an incident that is open stays so until its end."""
        if self._opened is not None:
            self.spans.append(IncidentSpan(self._opened, self._frames))
            self._opened = None
        if self._began is not None:
            self.findings.append(IncidentSpan(self._began, self._frames))
            self._began = None
        self._pack()
        rows = np.concatenate(self._packed)
        recorded_us, onset_us, duration_s, ratio, label, status, flat = (rows[name].copy() for name in _NAMES)
        return ScoredStream(
            *self._whose, self._threshold, recorded_us, duration_s, ratio, label, status, flat, onset_us
        )

    def _pack(self) -> None:
        self._packed.append(np.array(self._rows, _ROW))
        self._rows = []


def read_streams(folder: Path) -> list[ScoredStream]:
    """Return the streams in a folder that ``whirr replay --out`` wrote, in its order.

    Raises:
        RecordingError: There are no scores, or they lack something.
    """
    path = folder / SCORES_PARQUET
    if not path.is_file():
        raise RecordingError(
            f"{str(folder)!r} holds no {SCORES_PARQUET}; expected the folder that `whirr replay --out` wrote"
        )
    from pyarrow import ArrowException, parquet

    try:
        there = parquet.read_schema(path).names
        table = parquet.read_table(path, columns=[*_NEEDED, *(name for name in _MORE if name in there)])
        return list(_streams(table))
    except (ArrowException, OSError, KeyError, ValueError) as error:
        raise RecordingError(f"{path} can't be read: {error}") from None


def _streams(table: Any) -> Iterator[ScoredStream]:
    """Yield each run of rows of one stream."""
    machines, machine = _coded(table, "machine_id")
    sources, source = _coded(table, "source")
    borders = np.flatnonzero((np.diff(machine) != 0) | (np.diff(source) != 0)) + 1
    starts = [0, *borders.tolist()] if len(machine) else []
    for start, stop in zip(starts, [*starts[1:], len(machine)], strict=False):
        rows = table.slice(start, stop - start)
        yield _stream(rows, str(machines[machine[start]]), str(sources[source[start]] or ""))


def _stream(rows: Any, machine: str, source: str) -> ScoredStream:
    recorded_us = _numbers(rows, "recorded_time")
    threshold = _numbers(rows, "threshold")
    onset_us = recorded_us
    more: dict[str, Any] = {}
    if "onset_time" in rows.column_names:
        from pyarrow import compute

        told = compute.fill_null(_integers(rows, "onset_time"), 0).to_numpy()
        onset_us = np.where(told > 0, told, recorded_us)
    if "file" in rows.column_names:
        files, file = _coded(rows, "file")
        frame_id = np.array(rows.column("frame_id").to_pylist(), "S32")
        more = {"frame_id": frame_id, "file": file, "offset_s": _numbers(rows, "offset_s"), "files": tuple(files)}
    if "level_dbfs" in rows.column_names:
        more["level_dbfs"] = _numbers(rows, "level_dbfs")
    return ScoredStream(
        machine,
        source,
        float(threshold[-1]),
        recorded_us,
        _numbers(rows, "duration_s"),
        _numbers(rows, "score") / threshold,
        _indices(rows, "label", LABELS),
        _indices(rows, "status", STATUSES),
        np.array(rows.column("sensor_fault").to_pylist(), object) == "flat",
        onset_us,
        **more,
    )


def _coded(table: Any, name: str) -> tuple[list[Any], Ints]:
    """Return a text column's values, and which of them each row has; null is a value too."""
    coded = table.column(name).combine_chunks().dictionary_encode("encode")
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)


def _indices(table: Any, name: str, values: Sequence[str]) -> NDArray[np.int8]:
    """Return a text column as indices into its possible values."""
    own, coded = _coded(table, name)
    return np.array([values.index(one) for one in own], np.int8)[coded]


def _integers(table: Any, name: str) -> Any:
    from pyarrow import int64

    return table.column(name).cast(int64()) if name.endswith("_time") else table.column(name)


def _numbers(table: Any, name: str) -> Any:
    """Return a column of numbers, or times as microseconds; null is NaN."""
    return _integers(table, name).to_numpy()
