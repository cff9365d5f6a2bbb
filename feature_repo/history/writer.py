"""Appending to the history: rows go to a journal at once, and from there into a Parquet file now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex

from feature_repo.history.journal import Journal, recover
from feature_repo.history.parquet_files import PART, SUFFIX, by_day, day_folder, table_of, write_parquet
from feature_repo.history.upkeep import maintain
from feature_repo.rows import FeatureRow

log = logging.getLogger(__name__)
UPKEEP_S = 300.0


class HistoryWriter:
    """Keeps the rows of one process; any number of processes of one host may write to the same history.

    A row that :meth:`append` took survives the process's death; see :mod:`feature_repo.history.journal` for a power
    cut. Nothing that has been written is written again but by the upkeep, which merges small files.

    Args:
        folder: The history's.
        part_s: A part is written after so many seconds …
        part_rows: … or so many rows, whichever comes first.
        every_s: Of a stream's rows that are less than so many seconds apart, by event time, only the first is kept.
        keep_days: Days (UTC) before the last so many are removed; None keeps all.
        now_s: A clock that is never set back, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        part_s: float = 60.0,
        part_rows: int = 50_000,
        every_s: float = 0.0,
        keep_days: int | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._part_s, self._part_rows, self._keep_days = part_s, part_rows, keep_days
        self._every_us = round(every_s * 1e6)
        self._kept_us: dict[tuple[str, str], int] = {}
        self._now_s = now_s
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._began_s = self._looked_after_s = now_s()
        self._upkeep: threading.Thread | None = None
        self._failed = self._begun = False

    def append(self, rows: Sequence[FeatureRow]) -> None:
        """Keep rows.

        Raises:
            OSError: They can't be written now; none of them is kept.
        """
        with self._lock:
            wanted = self._wanted(rows) if self._every_us else rows
            if not wanted:
                return
            if not self._begun:
                self._begin()
            if self._journal is None:
                self._journal, self._began_s = Journal(self._folder), self._now_s()
            self._journal.append(table_of(wanted))
            if self._every_us:
                self._kept_us |= {(row.machine_id, row.source): row.event_us for row in wanted}
            if self._journal.rows >= self._part_rows or self._now_s() - self._began_s >= self._part_s:
                self._settle()

    def flush(self) -> None:
        """Write what the journal holds as Parquet files."""
        with self._lock:
            self._settle()

    def close(self) -> None:
        """Write what the journal holds, and wait for the upkeep to end."""
        self.flush()
        if self._journal is not None:
            self._journal.abandon()
            self._journal = None
        if self._upkeep is not None:
            self._upkeep.join()

    def _begin(self) -> None:
        if recovered := recover(self._folder):
            log.warning("%d journals of workers that were killed are now in the history %s", recovered, self._folder)
        self._begun = True

    def _wanted(self, rows: Sequence[FeatureRow]) -> list[FeatureRow]:
        wanted: list[FeatureRow] = []
        kept_us: dict[tuple[str, str], int] = {}
        for row in rows:
            stream = (row.machine_id, row.source)
            last_us = kept_us.get(stream, self._kept_us.get(stream))
            if last_us is None or row.event_us - last_us >= self._every_us:
                wanted.append(row)
                kept_us[stream] = row.event_us
        return wanted

    def _settle(self) -> None:
        """Write the journal's rows as a part; where that fails they stay in the journal, for the next attempt."""
        if self._journal is None:
            return
        try:
            self._journal.settle(self._folder)
        except OSError as error:
            if not self._failed:
                log.error("the features' history can't be written as Parquet, rows stay in its journal: %s", error)
            self._failed, self._began_s = True, self._now_s()
            return
        self._failed, self._journal = False, None
        self._look_after()

    def _look_after(self) -> None:
        if self._now_s() - self._looked_after_s < UPKEEP_S or (self._upkeep and self._upkeep.is_alive()):
            return
        self._looked_after_s = self._now_s()
        self._upkeep = threading.Thread(target=self._maintain, name="feature-history", daemon=True)
        self._upkeep.start()

    def _maintain(self) -> None:
        try:
            maintain(self._folder, keep_days=self._keep_days)
        except OSError as error:
            log.warning("the features' history can't be tidied up: %s", error)


def write_rows(folder: Path, rows: Sequence[FeatureRow]) -> None:
    """Write rows of any time at once, as parts of their days.

    Raises:
        OSError: They can't be written.
    """
    name = f"{PART}{time.time_ns():016x}-{token_hex(4)}{SUFFIX}"
    for day, some in by_day(table_of(rows)):
        write_parquet(some, day_folder(folder, day) / name)
