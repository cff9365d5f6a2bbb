"""The history of every machine's features: Parquet files by day, written a part at a time, read by time.

    data/history/
        day=2026-01-31/         the rows of one day (UTC, by event time)
            part-….parquet      what one worker wrote at once
            merged-….parquet    many parts in one, sorted by machine and time
        _journal/               what workers hold and have not yet written as parts

A row is known by machine, source and event time. It may be there more than once, since what is uncertain after a crash
is written again; readers take the one that was created last.
"""

from feature_repo.history.reader import History
from feature_repo.history.upkeep import maintain
from feature_repo.history.writer import HistoryWriter, write_rows

__all__ = ["History", "HistoryWriter", "maintain", "write_rows"]
