"""Output: what came of a replay, as files that other tools read.

``scores.parquet`` and ``scores.csv`` hold every scored frame, stream by stream in order; ``alerts.jsonl`` holds the
alerts exactly as a worker sends them, ``dead_letters.jsonl`` what could not be used, and ``summary.json`` the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
import pyarrow as pa
from pyarrow import csv, parquet

from backtest.judging import Judged
from backtest.score_store import ScoreStore
from backtest.streams import SCORES_PARQUET
from whirr.outputs import replacing

SCORES_CSV: Final = "scores.csv"
ALERTS: Final = "alerts.jsonl"
DEAD_LETTERS: Final = "dead_letters.jsonl"
SUMMARY: Final = "summary.json"
_ROWS: Final = 16_384

SCORES: Final = pa.schema(
    [
        ("frame_id", pa.string()),
        ("machine_id", pa.string()),
        ("source", pa.string()),  # null for a machine's only one
        ("file", pa.string()),  # path relative to the folder; of frames from Kafka the topic
        ("partition", pa.int32()),  # 0 for a folder
        ("offset", pa.int64()),  # which of the file's frames, from 0; of frames from Kafka the offset
        ("offset_s", pa.float64()),  # where the frame begins in its file; null for frames from Kafka
        ("recorded_time", pa.timestamp("us", "UTC")),
        ("duration_s", pa.float64()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("status", pa.string()),  # scored, late, idle
        ("idle_reason", pa.string()),
        ("sensor_fault", pa.string()),
        ("level_dbfs", pa.float64()),
        ("label", pa.string()),  # normal, anomaly, none
        ("model", pa.string()),
        ("version", pa.string()),
        ("onset_time", pa.timestamp("us", "UTC")),  # of a frame in which a labelled fault begins after the frame does
        ("bands", pa.string()),  # of frames above the threshold: "300-420:0.61 1200-1300:0.2" (Hz, Hz: share)
    ]
)

pa.array([])  # loads pandas the first time, here rather than when results are about to be written


class ResultFiles:
    """Writes frames as they are judged; use :func:`results`."""

    def __init__(self, table: parquet.ParquetWriter, text: csv.CSVWriter, alerts: BinaryIO) -> None:
        self._table, self._text, self._alerts = table, text, alerts
        self._rows: list[tuple[Any, ...]] = []

    def add(self, judged: Judged) -> None:
        """Write a frame and its alerts."""
        self._rows.append(_values(judged))
        if len(self._rows) == _ROWS:
            self.flush()
        for alert in judged.alerts:
            self._alerts.write(orjson.dumps(alert) + b"\n")

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, SCORES, strict=True)]
            batch = pa.record_batch(arrays, schema=SCORES)
            self._table.write_batch(batch)
            self._text.write_batch(batch)
            self._rows = []


@contextmanager
def results(folder: Path) -> Iterator[ResultFiles]:
    """Yield what writes the results; they take their names only when all of them are complete."""
    with ExitStack() as stack:
        paths = {name: folder / f".{name}.part" for name in (SCORES_PARQUET, SCORES_CSV, ALERTS)}
        table = stack.enter_context(parquet.ParquetWriter(paths[SCORES_PARQUET], SCORES, compression="zstd"))
        text = stack.enter_context(csv.CSVWriter(paths[SCORES_CSV], SCORES))
        alerts = stack.enter_context(paths[ALERTS].open("wb"))
        writer = ResultFiles(table, text, alerts)
        yield writer
        writer.flush()
    for name, path in paths.items():
        path.replace(folder / name)


def write_dead_letters(folder: Path, store: ScoreStore) -> None:
    """Write what could not be used, and why; a recording of which nothing could be used has no offset."""
    query = (
        "SELECT l.code, l.detail, l.machine, l.source, f.name, f.part, l.number, l.recorded_us FROM letters l "
        "JOIN files f ON f.id = l.file ORDER BY f.stream, f.start_us, f.sort_key, l.number"
    )
    names = ("code", "detail", "machine_id", "source", "file", "partition", "offset", "recorded_us")
    lines = (dict(zip(names, row, strict=True)) for page in store.pages(query) for row in page)
    _replace(folder / DEAD_LETTERS, (_line(_without_nothing(line)) for line in lines))


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write the figures."""
    _replace(folder / SUMMARY, [orjson.dumps(summary, option=orjson.OPT_INDENT_2, default=str) + b"\n"])


def _values(judged: Judged) -> tuple[Any, ...]:
    ordered, score = judged.ordered, judged.score
    return (
        score.frame_id,
        score.machine_id,
        score.source,
        ordered.name,
        ordered.part,
        ordered.frame.number,
        judged.offset_s,
        ordered.frame.recorded_us,
        ordered.frame.duration_s,
        score.score,
        score.threshold,
        score.status,
        score.idle_reason,
        score.sensor_fault,
        score.level_dbfs,
        judged.label or "none",
        score.model.name,
        score.model.version,
        judged.onset_us if judged.label == "anomaly" and judged.onset_us > ordered.frame.recorded_us else None,
        " ".join(f"{band.from_hz:.0f}-{band.to_hz:.0f}:{band.share:.3g}" for band in judged.bands) or None,
    )


def _without_nothing(line: dict[str, Any]) -> dict[str, Any]:
    return {name: None if name == "offset" and value == -1 else value for name, value in line.items()}


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    with replacing(path, durable=True) as file:
        file.writelines(parts)
