"""How the history lies on disk: its columns, its folders by day, and files that appear complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo import fields
from feature_repo.rows import FeatureRow
from whirr.outputs import replacing

TIME: Final = pa.timestamp("us", tz="UTC")
_KINDS: Final = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string()}
SCHEMA: Final = pa.schema(
    [
        (fields.ENTITY, pa.string()),
        (fields.SOURCE, pa.string()),
        (fields.EVENT_TIMESTAMP, TIME),
        (fields.CREATED_TIMESTAMP, TIME),
        *((field.name, _KINDS[field.kind]) for field in fields.FIELDS),
    ]
)
JOURNALS: Final = "_journal"
PART: Final = "part-"
MERGED: Final = "merged-"
SUFFIX: Final = ".parquet"
UNFINISHED: Final = ".tmp"  # Feast's own reader takes every name that ends in .parquet, hidden ones too
DAY_US: Final = 86_400_000_000
_DAY: Final = "day="
_EPOCH: Final = date(1970, 1, 1)


def table_of(rows: Sequence[FeatureRow]) -> pa.Table:
    """Return rows as a table of ``SCHEMA``; a value that is None is not known."""
    heads = zip(*(row[:4] for row in rows), strict=True) if rows else [()] * 4
    values = zip(*(row.values for row in rows), strict=True) if rows else [()] * len(fields.FIELDS)
    columns = [pa.array(column, kind) for column, kind in zip([*heads, *values], SCHEMA.types, strict=True)]
    return pa.table(columns, schema=SCHEMA)


def day_folder(folder: Path, day: date) -> Path:
    """Return where the rows of a day (UTC) are."""
    return folder / f"{_DAY}{day:%Y-%m-%d}"


def day_of(name: str) -> date | None:
    """Return the day that a folder's name stands for, or None for another folder."""
    try:
        return date.fromisoformat(name.removeprefix(_DAY)) if name.startswith(_DAY) else None
    except ValueError:
        return None


def days_of(folder: Path) -> list[date]:
    """Return the days that the history has a folder for, oldest first."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    return sorted(day for name in names if (day := day_of(name)) is not None)


def files_of(folder: Path, day: date, prefix: str = "") -> list[Path]:
    """Return a day's Parquet files, by name."""
    within = day_folder(folder, day)
    if not within.is_dir():
        return []
    return sorted(path for path in within.iterdir() if path.suffix == SUFFIX and path.name.startswith(prefix))


def today() -> date:
    """Return the day (UTC) that it is."""
    return datetime.now(UTC).date()


def by_day(table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """Yield each day that a table has rows of, with these rows."""
    numbers = table[fields.EVENT_TIMESTAMP].cast(pa.int64()).to_numpy() // DAY_US
    for number in np.unique(numbers):
        chosen = numbers == number
        yield _EPOCH + timedelta(days=int(number)), table if chosen.all() else table.filter(pa.array(chosen))


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a file that appears complete or not at all, also after a power cut.

    Raises:
        OSError: It can't be written.
    """
    with replacing(path, durable=True, unfinished=path.name + UNFINISHED) as file:
        pq.write_table(table, file, compression="zstd", use_dictionary=_TEXTS)


_TEXTS: Final = [field.name for field in SCHEMA if field.type == pa.string()]


def unique_rows(table: pa.Table) -> pa.Table:
    """Return a table sorted by machine and event time, of rows that are there twice only the one created last."""
    order = [fields.ENTITY, fields.EVENT_TIMESTAMP, fields.SOURCE, fields.CREATED_TIMESTAMP]
    table = table.sort_by([(name, "ascending") for name in order])
    if table.num_rows < 2:
        return table
    same = np.ones(table.num_rows - 1, dtype=bool)
    for name in order[:3]:
        same &= _equal_to_next(table[name])
    return table if not same.any() else table.filter(pa.array(np.append(~same, True)))


def _equal_to_next(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if column.type == pa.string():
        codes = column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    else:
        codes = column.cast(pa.int64()).to_numpy()
    return np.asarray(codes[1:] == codes[:-1])
