"""Reading the history: the rows of machines between two times, and the newest row of each machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from feature_repo import fields
from feature_repo.history.journal import journals, read_journal
from feature_repo.history.parquet_files import SCHEMA, TIME, days_of, files_of, unique_rows

_KEY = (fields.ENTITY, fields.SOURCE, fields.EVENT_TIMESTAMP, fields.CREATED_TIMESTAMP)
_ATTEMPTS = 5
Answer = TypeVar("Answer")


class History:
    """What has been written, and what workers of this host still hold in their journals.

    Args:
        folder: The history's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def days(self) -> list[date]:
        """Return the days (UTC) that there are files of, oldest first."""
        return days_of(self.folder)

    def rows(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        machines: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return rows, each once, sorted by machine and event time.

        Only files of days within are opened. All rows are in memory at once: about 200 bytes each.

        Args:
            start: First event time, with a time zone; default: all.
            end: Last event time, with a time zone; default: all.
            machines: Whose; default: everybody's.
            columns: Names of features; default: all. Keys and times always come with them.
        """
        chosen = _columns(columns)
        parts = _retried(lambda: list(self._tables(start, end, machines, chosen)))
        return unique_rows(pa.concat_tables([_empty(chosen), *parts]))

    def latest(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        machines: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return each machine's newest row between two times; takes no more memory than one file does.

        The arguments are those of :meth:`rows`.
        """
        chosen = _columns(columns)
        return _retried(lambda: self._latest(start, end, machines, chosen))

    def _latest(
        self, start: datetime | None, end: datetime | None, machines: Sequence[str] | None, columns: list[str]
    ) -> pa.Table:
        newest = _empty(columns)
        for table in self._tables(start, end, machines, columns):
            if table.num_rows:
                newest = _newest(pa.concat_tables([newest, _newest(table)]))
        return newest

    def _tables(
        self, start: datetime | None, end: datetime | None, machines: Sequence[str] | None, columns: list[str]
    ) -> Iterator[pa.Table]:
        """Yield the wanted rows, one file after another."""
        wanted = _wanted(start, end, machines)
        # Journals first: what becomes a part meanwhile is read twice, not missed.
        for path in journals(self.folder):
            table = read_journal(path)
            yield (table if wanted is None else table.filter(wanted)).select(columns)
        first = start.astimezone(UTC).date() if start else None
        last = end.astimezone(UTC).date() if end else None
        for day in self.days():
            if (first is None or day >= first) and (last is None or day <= last):
                for path in files_of(self.folder, day):
                    yield ds.dataset(path, schema=SCHEMA, format="parquet").to_table(columns=columns, filter=wanted)


def _columns(features: Sequence[str] | None) -> list[str]:
    if features is None:
        return list(SCHEMA.names)
    unknown = sorted(set(features) - set(SCHEMA.names))
    if unknown:
        raise KeyError(f"no feature is named {', '.join(map(repr, unknown))}; known are {', '.join(SCHEMA.names[4:])}")
    return [*_KEY, *(name for name in features if name not in _KEY)]


def _wanted(start: datetime | None, end: datetime | None, machines: Sequence[str] | None) -> Any:
    event, conditions = ds.field(fields.EVENT_TIMESTAMP), []
    if start is not None:
        conditions.append(event >= pa.scalar(start, TIME))
    if end is not None:
        conditions.append(event <= pa.scalar(end, TIME))
    if machines is not None:
        conditions.append(ds.field(fields.ENTITY).isin(pa.array(list(machines), pa.string())))
    found = None
    for condition in conditions:
        found = condition if found is None else found & condition
    return found


def _empty(columns: Sequence[str]) -> pa.Table:
    return SCHEMA.empty_table().select(columns)


def _newest(table: pa.Table) -> pa.Table:
    """Return each machine's newest row."""
    table = unique_rows(table)
    codes = table[fields.ENTITY].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    last = np.append(codes[1:] != codes[:-1], True) if len(codes) else np.array([], dtype=bool)
    return table.filter(pa.array(last))


def _retried(read: Callable[[], Answer]) -> Answer:
    """Read again if a file goes meanwhile: the upkeep has put its rows into another."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()
