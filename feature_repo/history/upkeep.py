"""Upkeep of the history: small files become larger ones, old days go, journals of dead workers become parts.

Any worker does it, one at a time. Files are merged first and removed then: whoever reads meanwhile sees rows twice,
never not at all, and readers take each row once. What a crash leaves is what such a reader sees, and the next round
mends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from secrets import token_hex

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.history.journal import recover
from feature_repo.history.parquet_files import (
    JOURNALS,
    MERGED,
    PART,
    SCHEMA,
    SUFFIX,
    UNFINISHED,
    day_folder,
    days_of,
    files_of,
    today,
    unique_rows,
    write_parquet,
)

MERGED_ROWS = 500_000  # most in a merged file: 100 MB in memory
OPEN_DAY_PARTS = 60  # of the day that is being written, so many parts are merged
_LOCK = "upkeep.lock"
_REMOVED = "_removed-"
_ABANDONED_S = 3600.0


def maintain(folder: Path, *, keep_days: int | None = None, day: date | None = None) -> None:
    """Look after a history, unless another process is at it.

    Args:
        folder: The history's.
        keep_days: Days before the last so many (UTC, today is one) are removed; None keeps all.
        day: What day it is; default: today (UTC).

    Raises:
        OSError: A file can't be read or written.
    """
    day = day or today()
    with _alone(folder) as alone:
        if not alone:
            return
        recover(folder)
        if keep_days is not None:
            _remove(folder, day - timedelta(days=keep_days - 1))
        for one in days_of(folder):
            _tidy(folder, one, closed=one < day)
        for left in folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Yield whether no other process looks after the history now."""
    within = folder / JOURNALS
    within.mkdir(parents=True, exist_ok=True)
    with (within / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _remove(folder: Path, first_kept: date) -> None:
    for day in days_of(folder):
        if day < first_kept:
            # Renamed first: whoever reads sees the whole day, or none of it.
            day_folder(folder, day).rename(folder / f"{_REMOVED}{day}-{token_hex(4)}")


def _tidy(folder: Path, day: date, *, closed: bool) -> None:
    """Merge a day's files: all that are small once the day is over, before that only many parts."""
    for left in day_folder(folder, day).glob(f"*{UNFINISHED}"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()
    files = files_of(folder, day) if closed else files_of(folder, day, PART)
    if not closed and len(files) < OPEN_DAY_PARTS:
        return
    for group in _groups(files):
        table = unique_rows(pa.concat_tables([pq.read_table(path, schema=SCHEMA) for path in group]))
        write_parquet(table, day_folder(folder, day) / f"{MERGED}{time.time_ns():016x}-{token_hex(4)}{SUFFIX}")
        for path in group:
            path.unlink(missing_ok=True)


def _groups(files: list[Path]) -> Iterator[list[Path]]:
    """Yield files that fit into one; a file that is large already is left alone."""
    group: list[Path] = []
    total = 0
    for path in files:
        rows = pq.read_metadata(path).num_rows
        if rows > MERGED_ROWS // 2:
            continue
        if total + rows > MERGED_ROWS:
            if len(group) > 1:
                yield group
            group, total = [], 0
        group.append(path)
        total += rows
    if len(group) > 1:
        yield group
