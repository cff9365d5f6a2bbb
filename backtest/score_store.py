"""The store of scores, one SQLite file: which recordings there are, and what scoring gave.

Scoring a frame depends on the frame alone, so what is stored here is never scored again: an interrupted run goes on,
new recordings join in, and another alert rule is applied without scoring. Frames are read back stream by stream in
order, from an index; however many there are, they are never all in memory.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from schemas.condition import Condition
from schemas.errors import SettingsError

FILE_NAME = "replay.db"
_VERSION = "3"
_COMMIT_ROWS = 4096
_COMMIT_S = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS streams (
    id INTEGER PRIMARY KEY, machine TEXT NOT NULL, source TEXT NOT NULL, UNIQUE (machine, source));
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, part INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL DEFAULT 1,
    size INTEGER NOT NULL DEFAULT 0, mtime_ns INTEGER NOT NULL DEFAULT 0,
    rate_hz INTEGER, channels INTEGER, samples INTEGER, subtype TEXT, problem TEXT,
    stream INTEGER, named_us INTEGER, start_us INTEGER, sort_key TEXT, label TEXT, onset_s REAL, rpm REAL, load REAL,
    frame_s REAL, window_s REAL, frames INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
    UNIQUE (name, part));
CREATE INDEX IF NOT EXISTS files_in_order ON files (stream, start_us, sort_key);
CREATE TABLE IF NOT EXISTS frames (
    file INTEGER NOT NULL, number INTEGER NOT NULL, stream INTEGER NOT NULL, position INTEGER NOT NULL,
    frame_id TEXT NOT NULL, recorded_us INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, sequence INTEGER,
    foreign_id TEXT, score REAL NOT NULL, level_dbfs REAL NOT NULL, sensor_fault TEXT, duration_s REAL NOT NULL,
    band_error BLOB NOT NULL, statistics BLOB NOT NULL, unfamiliar TEXT NOT NULL,
    PRIMARY KEY (file, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS frames_in_order ON frames (stream, position);
CREATE TABLE IF NOT EXISTS letters (
    file INTEGER NOT NULL, number INTEGER NOT NULL, machine TEXT, source TEXT, recorded_us INTEGER,
    code TEXT NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (file, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS live (frame_id TEXT PRIMARY KEY, score BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS live_alerts (
    alert_id TEXT NOT NULL, state TEXT NOT NULL, frame_id TEXT NOT NULL, PRIMARY KEY (alert_id, state)) WITHOUT ROWID;
"""


class StoredFrame(NamedTuple):
    """A scored frame as it is stored; see :class:`stream_app.pipeline.Computed` for what is not told here.

    Attributes:
        file: Id of the recording (or partition) that it comes from.
        number: Which of its frames, from 0 (of a partition: the offset).
        stream: Id of its stream.
        position: Its place among the stream's frames: of recordings the time, of a topic the order of arrival.
        band_error: float32 bytes, [channel, band]; none where no model judged it.
        statistics: float64 bytes, [13].
        unfamiliar: In what it differs from what the model was trained on, with commas between several.
    """

    file: int
    number: int
    stream: int
    position: int
    frame_id: str
    recorded_us: int
    timestamp_ms: int
    sequence: int | None
    foreign_id: str | None
    score: float
    level_dbfs: float
    sensor_fault: str | None
    duration_s: float
    band_error: bytes
    statistics: bytes
    unfamiliar: str


class StoredLetter(NamedTuple):
    """A frame, or a whole recording (``number`` -1), that could not be used."""

    file: int
    number: int
    machine: str | None
    source: str | None
    recorded_us: int | None
    code: str
    detail: str


class OrderedFrame(NamedTuple):
    """A stored frame with what its recording says of it, in order."""

    frame: StoredFrame
    machine: str
    source: str
    name: str
    part: int
    start_us: int | None
    label: str | None
    onset_s: float | None
    condition: Condition | None  # None: of a topic's frames it isn't kept


class RecordingScore(NamedTuple):
    """A labelled recording: its id, whose it is, its label, the mean score of its frames, and how many those are."""

    file: int
    machine: str
    anomalous: bool
    score: float
    frames: int


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """How many recordings and frames there are, how many of the frames are done, and how many of those have a score."""

    files: int
    frames: int
    done: int
    scored: int


class ScoreStore:
    """The file, open. Use :func:`opened`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection
        self._streams: dict[tuple[str, str], int] = {}
        self._uncommitted = 0
        self._committed_s = time.monotonic()

    def stream_id(self, machine: str, source: str) -> int:
        """Return a stream's number."""
        key = machine, source
        if key not in self._streams:
            self.db.execute("INSERT OR IGNORE INTO streams (machine, source) VALUES (?, ?)", key)
            found = self.db.execute("SELECT id FROM streams WHERE machine = ? AND source = ?", key)
            self._streams[key] = int(found.fetchone()[0])
        return self._streams[key]

    def get(self, name: str) -> str | None:
        """Return a note, or None."""
        row = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, name: str, value: str) -> None:
        """Take a note."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def add(self, frames: Sequence[StoredFrame], letters: Sequence[StoredLetter]) -> None:
        """Store the answers to some frames, and count their recordings' frames as done."""
        self.db.executemany(f"INSERT OR REPLACE INTO frames VALUES ({_marks(StoredFrame)})", frames)  # noqa: S608
        self.db.executemany(f"INSERT OR REPLACE INTO letters VALUES ({_marks(StoredLetter)})", letters)  # noqa: S608
        done = Counter([row.file for row in frames]) + Counter([row.file for row in letters])
        self.db.executemany("UPDATE files SET done = done + ? WHERE id = ?", [(n, file) for file, n in done.items()])
        self._uncommitted += len(frames) + len(letters)
        if self._uncommitted >= _COMMIT_ROWS or time.monotonic() > self._committed_s + _COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Make what was stored safe."""
        self.db.commit()
        self._uncommitted, self._committed_s = 0, time.monotonic()

    def forget(self, files: Iterable[int]) -> None:
        """Remove all answers to the frames of some recordings."""
        for file in files:
            self.db.execute("DELETE FROM frames WHERE file = ?", (file,))
            self.db.execute("DELETE FROM letters WHERE file = ?", (file,))
            self.db.execute("UPDATE files SET done = 0 WHERE id = ?", (file,))

    def partition(self, topic: str, partition: int) -> int:
        """Return the id under which a partition's frames are stored."""
        self.db.execute(
            "INSERT OR IGNORE INTO files (name, part, seen, size, mtime_ns) VALUES (?, ?, 1, 0, 0)", (topic, partition)
        )
        found = self.db.execute("SELECT id FROM files WHERE name = ? AND part = ?", (topic, partition))
        return int(found.fetchone()[0])

    def put_file(self, **columns: Any) -> None:
        """Put a recording there, or what is known of it now; the name says which it is."""
        names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
        updates = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "name")
        self.db.execute(
            f"INSERT INTO files ({names}) VALUES ({marks}) ON CONFLICT (name, part) DO UPDATE SET {updates}",  # noqa: S608
            columns,
        )

    def clear(self) -> None:
        """Forget every recording and every answer."""
        for table in ("files", "streams", "frames", "letters", "live", "live_alerts"):
            self.db.execute(f"DELETE FROM {table}")  # noqa: S608
        self._streams.clear()

    def counts(self) -> StoredCounts:
        """Return how far it is."""
        row = self.db.execute("SELECT count(*), total(frames), total(done) FROM files").fetchone()
        scored = self.db.execute("SELECT count(*) FROM frames").fetchone()
        return StoredCounts(int(row[0]), int(row[1]), int(row[2]), scored[0])

    def pages(self, query: str, *values: Any, size: int = 2048) -> Iterator[list[Any]]:
        """Yield a query's rows, some at a time; the query must not change what it reads."""
        cursor = self.db.execute(query, values)
        while page := cursor.fetchmany(size):
            yield page

    def recording_scores(self) -> Iterator[RecordingScore]:
        """Yield the score of each labelled recording of which some frame was scored by a model."""
        query = (
            "SELECT r.id, s.machine, r.label = 'anomaly', avg(f.score), count(*) FROM files r "
            "JOIN streams s ON s.id = r.stream JOIN frames f ON f.file = r.id "
            "WHERE r.label IS NOT NULL AND r.problem IS NULL AND length(f.band_error) > 0 GROUP BY r.id"
        )
        for page in self.pages(query):
            yield from map(RecordingScore._make, page)

    def in_order(self) -> Iterator[OrderedFrame]:
        """Yield all frames, one stream after the other, each in order."""
        columns = ", ".join(f"f.{name}" for name in StoredFrame._fields)
        width = len(StoredFrame._fields)
        for machine, source, stream in self.db.execute(
            "SELECT machine, source, id FROM streams ORDER BY machine, source"
        ).fetchall():
            query = (
                f"SELECT {columns}, r.name, r.part, r.start_us, r.label, r.onset_s, r.rpm, r.load, r.samples "  # noqa: S608
                "FROM frames f "
                "JOIN files r ON r.id = f.file WHERE f.stream = ? ORDER BY f.position, r.sort_key, r.name, f.number"
            )
            for page in self.pages(query, stream):
                for row in page:
                    name, part, start_us, label, onset_s, rpm, load, samples = row[width:]
                    condition = None if samples is None else Condition(rpm, load)
                    frame = StoredFrame._make(row[:width])
                    yield OrderedFrame(frame, machine, source, name, part, start_us, label, onset_s, condition)


@contextmanager
def opened(folder: Path, depends_on: dict[str, str], *, restart: bool = False) -> Iterator[ScoreStore]:
    """Open the store of a folder of results, or begin one.

    Args:
        folder: Of the results; made if it is missing.
        depends_on: What the stored answers depend on, by the name that a message calls it.
        restart: Begin anew, whatever is there.

    Raises:
        SettingsError: What is there depends on something else, or another program is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    if restart:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    try:
        # One thread at a time uses it, but not always the same one.
        connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # two runs in one folder would undo each other's work
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, or not to be written
            raise SettingsError(f"{path} can't be used ({error}); is another replay writing there?") from None
        raise SettingsError(f"{path} is damaged ({error}); begin anew with --restart") from None
    with closing(connection):
        store = ScoreStore(connection)
        _check(store, depends_on, path)
        yield store
        store.commit()


def _check(store: ScoreStore, depends_on: dict[str, str], path: Path) -> None:
    wanted = {"version": _VERSION, **depends_on}
    known = {name: store.get(name) for name in wanted}
    if all(value is None for value in known.values()):
        for name, value in wanted.items():
            store.put(name, value)
        store.commit()
        return
    changed = [f"{name} was {known[name]}, now {value}" for name, value in wanted.items() if known[name] != value]
    if changed:
        raise SettingsError(
            f"{path} holds scores made otherwise ({'; '.join(changed)}); "
            "begin anew with --restart, or choose another --out"
        )


def _marks(row: type[tuple[Any, ...]]) -> str:
    return ", ".join("?" * len(row._fields))  # type: ignore[attr-defined]
