"""A worker's journal: the rows that it has not yet written as Parquet, safe from the moment on that they are appended.

A record is its length, its CRC-32 and an Arrow message; the first one is the schema. A process that is killed leaves
its journal behind, without the lock that it held, and the next worker on this host writes its rows as a part. A power
cut may cost what the operating system had not yet written, some tens of seconds of rows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

import pyarrow as pa

from feature_repo.history.parquet_files import (
    JOURNALS,
    PART,
    SCHEMA,
    SUFFIX,
    UNFINISHED,
    by_day,
    day_folder,
    write_parquet,
)

_HEAD = struct.Struct("<II")
_SUFFIX = ".journal"
_MAX_RECORD_BYTES = 1 << 30


class Journal:
    """One open journal; it belongs to this process until it is closed.

    Attributes:
        path: The file.
        rows: How many it holds.
    """

    def __init__(self, folder: Path) -> None:
        """Begin a journal.

        Args:
            folder: The history's.

        Raises:
            OSError: It can't be made.
        """
        within = folder / JOURNALS
        within.mkdir(parents=True, exist_ok=True)
        self.path = within / f"{time.time_ns():016x}-{token_hex(4)}{_SUFFIX}"
        self.rows = 0
        unfinished = self.path.with_suffix(UNFINISHED)
        self._file = unfinished.open("xb", buffering=0)
        try:
            # Locked before it has its name: nobody may take it for one that was left behind.
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._write(SCHEMA.serialize())
            unfinished.rename(self.path)
        except OSError:
            self._file.close()
            unfinished.unlink(missing_ok=True)
            raise

    def append(self, table: pa.Table) -> None:
        """Add rows, all or none.

        Args:
            table: Of ``SCHEMA``.

        Raises:
            OSError: They can't be written.
        """
        for batch in table.combine_chunks().to_batches():
            self._write(batch.serialize())
        self.rows += table.num_rows

    def settle(self, folder: Path) -> None:
        """Write the rows as parts of their days, and remove the journal.

        Raises:
            OSError: They can't be written; the journal stays.
        """
        settle(self.path, folder)
        self._file.close()

    def abandon(self) -> None:
        """Leave the journal to whoever comes next."""
        self._file.close()

    def _write(self, message: pa.Buffer) -> None:
        before = os.fstat(self._file.fileno()).st_size
        record = _HEAD.pack(len(message), zlib.crc32(message)) + memoryview(message)
        try:
            written = self._file.write(record)
            if written != len(record):
                raise OSError(f"{self.path}: {written} of {len(record)} bytes could be written")
        except OSError:
            # A torn record would hide those after it.
            with contextlib.suppress(OSError):
                self._file.truncate(before)
                self._file.seek(before)
            raise


def journals(folder: Path) -> list[Path]:
    """Return all journals of a history, oldest first."""
    return sorted((folder / JOURNALS).glob(f"*{_SUFFIX}"))


def read_journal(path: Path) -> pa.Table:
    """Return the rows of a journal up to the first record that is torn; none if it has gone meanwhile."""
    batches: list[pa.RecordBatch] = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        records = _records(file)
        head = next(records, None)
        if head is not None:
            schema = pa.ipc.read_schema(pa.py_buffer(head))
            batches = [pa.ipc.read_record_batch(pa.py_buffer(record), schema) for record in records]
            return _as_now(pa.Table.from_batches(batches, schema))
    return SCHEMA.empty_table()


def settle(path: Path, folder: Path) -> None:
    """Write a journal's rows as parts of their days, named after the journal, and remove it: repeating it does no harm.

    Raises:
        OSError: They can't be written; the journal stays.
    """
    for day, rows in by_day(read_journal(path)):
        write_parquet(rows, day_folder(folder, day) / f"{PART}{path.stem}{SUFFIX}")
    path.unlink(missing_ok=True)


def recover(folder: Path) -> int:
    """Write what dead workers left in their journals as parts; return how many journals that were.

    Raises:
        OSError: They can't be written; they stay.
    """
    found = 0
    for path in journals(folder):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                settle(path, folder)
                found += 1
    return found


def _records(file: BinaryIO) -> Iterator[bytes]:
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, check = _HEAD.unpack(head)
        record = file.read(min(length, _MAX_RECORD_BYTES))
        if len(record) != length or zlib.crc32(record) != check:
            return
        yield record


def _as_now(table: pa.Table) -> pa.Table:
    """Return a table with today's columns: one that another version wrote may lack some."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)
