"""Filling the online store from the history: each machine's newest row, where the store has none or an older one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from feature_repo import fields
from feature_repo.history import History
from feature_repo.push.online import OnlineStore
from feature_repo.rows import FeatureRow

_AT_ONCE = 500
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialized:
    """What was done.

    Attributes:
        found: Machines that the history has a row of in the period.
        written: Those of which the store had nothing, or something older.
    """

    found: int
    written: int


def materialize(
    store: OnlineStore,
    history: History,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    match: str = "*",
    progress: Callable[[int, int], object] = lambda _done, _of: None,
) -> Materialized:
    """Write the history's newest rows through the push source; nothing newer in the store is overwritten.

    ``feast materialize`` of the stock client does the same for an empty store; SQLite and PostgreSQL take whatever it
    writes, also what is older than what they hold.

    Args:
        store: The online store.
        history: Where rows are read.
        start: First event time, with a time zone; default: all.
        end: Last event time, with a time zone; default: all.
        match: Pattern of machine ids (``*``, ``?``, ``[abc]``).
        progress: Called with how many machines are done, and of how many.

    Raises:
        ServiceUnavailable: The store can't be reached.
        FeatureStoreError: The definitions have not been applied.
    """
    rows = [row for row in _rows(history.latest(start=start, end=end)) if fnmatchcase(row.machine_id, match)]
    written = 0
    for begin in range(0, len(rows), _AT_ONCE):
        some = rows[begin : begin + _AT_ONCE]
        stored_us = store.stored_us([row.machine_id for row in some])
        # Whole seconds: SQLite keeps no more, and within one the older row must not win.
        newer = [row for row in some if row.event_us // _SECOND_US > stored_us.get(row.machine_id, -1) // _SECOND_US]
        if newer:
            store.push(newer)
        written += len(newer)
        progress(begin + len(some), len(rows))
    return Materialized(found=len(rows), written=written)


def _rows(table: Any) -> Iterator[FeatureRow]:
    import pyarrow as pa

    times = (fields.EVENT_TIMESTAMP, fields.CREATED_TIMESTAMP)
    columns = [(table[name].cast(pa.int64()) if name in times else table[name]).to_pylist() for name in fields.COLUMNS]
    for machine_id, source, event_us, created_us, *values in zip(*columns, strict=True):
        yield FeatureRow(machine_id, source, event_us, created_us, tuple(values))
