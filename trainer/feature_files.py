"""Feature files: an array that grows on disk, and a table of frames as Parquet and CSV side by side."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stream_app.pipeline.statistics import STATISTICS

PLACE = ("machine", "recording", "frame", "start_s", "duration_s")
SPECTROGRAM = ("first_column", "columns", "signals")
TABLE_COLUMNS = (*PLACE, *STATISTICS, *SPECTROGRAM, "sensor_fault")

_ROWS_HELD = 8192  # of the table, until they are written as one row group


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFeatures:
    """One frame: whose it is, where it lies, what was computed of it.

    Attributes:
        machine: None where the folder doesn't say.
        recording: Its path relative to the folder, with forward slashes.
        frame: Its number within the recording, from 0.
        start_s, duration_s: Within the recording.
        statistics: float64 [13], in the order of ``STATISTICS``.
        first_column: Its place along the first axis of the spectrograms' array.
        columns: Columns of its spectrogram.
        signals: Spectrograms that it has, one after the other: its channels for features of one channel, else 1.
        sensor_fault: ``flat``, ``clipped`` or None, as the worker would say.
    """

    machine: str | None
    recording: str
    frame: int
    start_s: float
    duration_s: float
    statistics: NDArray[np.float64]
    first_column: int
    columns: int
    signals: int
    sensor_fault: str | None

    def values(self) -> tuple[str | float | None, ...]:
        """Return the row's values in the order of ``TABLE_COLUMNS``."""
        place = (self.machine, self.recording, self.frame, self.start_s, self.duration_s)
        return (*place, *self.statistics.tolist(), self.first_column, self.columns, self.signals, self.sensor_fault)


class GrowingArray:
    """A float32 ``.npy`` file that grows along its first axis: written in one pass, never held in memory.

    NumPy pads the header so that the length of the first axis can be written when it is known. Open the finished file
    with ``numpy.load(path, mmap_mode="r")``.

    Attributes:
        shape: Of what has been written so far.
    """

    def __init__(self, file: BinaryIO, *rest: int) -> None:
        """Begin a file of float32 [0, *rest]."""
        self._file = file
        self.shape = (0, *rest)
        self._write_header()
        self._begin = file.tell()

    def append(self, rows: NDArray[np.float32]) -> None:
        """Write more of them.

        Args:
            rows: float32 [n, *rest].

        Raises:
            ValueError: They have another shape.
        """
        if rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows have shape {rows.shape}; expected (n, {', '.join(map(str, self.shape[1:]))})")
        self._file.write(np.ascontiguousarray(rows, "<f4").tobytes())
        self.shape = (self.shape[0] + len(rows), *self.shape[1:])

    def finish(self) -> None:
        """Write the array's length into the header."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._begin:
            raise ValueError(f"the header of {self.shape} takes {self._file.tell()} bytes; expected {self._begin}")

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def growing_array(path: Path, *rest: int) -> Iterator[GrowingArray]:
    """Open a ``.npy`` file of float32 [0, *rest] that grows along its first axis."""
    with path.open("wb") as file:
        array = GrowingArray(file, *rest)
        yield array
        array.finish()


class FrameTable:
    """A table of frames, written to a Parquet and a CSV file with the same columns; a context manager.

    Args:
        parquet, csv_path: The files to write; what is there is overwritten.
    """

    def __init__(self, parquet: Path, csv_path: Path) -> None:
        import pyarrow as pa  # a fifth of a second, and needed here alone
        from pyarrow.parquet import ParquetWriter

        self._pa = pa
        kinds = {"machine": pa.string(), "recording": pa.string(), "frame": pa.int32(), "signals": pa.int32()}
        kinds |= {"first_column": pa.int64(), "columns": pa.int32(), "sensor_fault": pa.string()}
        self._schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in TABLE_COLUMNS])
        self._file = csv_path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(TABLE_COLUMNS)
        self._parquet = ParquetWriter(parquet, self._schema)
        self._held: list[tuple[str | float | None, ...]] = []

    def __enter__(self) -> FrameTable:
        """Write nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is held and close both files."""
        try:
            self._flush()
        finally:
            self._parquet.close()
            self._file.close()

    def append(self, row: FrameFeatures) -> None:
        """Write one more row."""
        values = row.values()
        self._csv.writerow(values)
        self._held.append(values)
        if len(self._held) >= _ROWS_HELD:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            columns = dict(zip(TABLE_COLUMNS, zip(*self._held, strict=True), strict=True))
            self._parquet.write_table(self._pa.table(columns, schema=self._schema))
            self._held.clear()
