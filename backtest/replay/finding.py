"""Finding: which recordings a folder holds, whose they are, when they began, and how they are labelled."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from backtest.replay.frame_records import kind_of
from backtest.replay.replay_options import ReplayConfig
from backtest.score_store import ScoreStore
from recordings import SUFFIXES, Notes, RecordingInfo, recording_info
from recordings.cut import frame_count, offset_us
from recordings.find import Problem, checked_folder, sort_key, walk
from recordings.name_times import NONE, NoTimestamp
from recordings.naming import MetadataResolver, RecordingMetadata
from schemas.condition import UNKNOWN
from schemas.errors import FrameRejected, RecordingError, SettingsError
from schemas.times import format_rfc3339
from stream_app.pipeline import Router
from whirr.counts import counted

DEFAULT_FRAME_S: Final = 1.0
_AT_ONCE: Final = 512
_TO_A_THREAD: Final = 16


class _Seen(NamedTuple):
    """A file as it was found; None where nothing is known of it."""

    name: str
    known: RecordingMetadata | None
    size: int
    mtime_ns: int
    info: RecordingInfo | str  # or why there is none


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """What a folder holds.

    Attributes:
        times: Where times come from: ``names``, ``files``, ``pace`` or the path of a CSV file.
        files: How many there are, but for those of a training set.
        in_train: Recordings that were left out because they belong to a training set.
        unplaced: Recordings that a pattern, or the file of times, doesn't cover; each has a dead letter.
        notes: What a person should know of machines and times, and of the recordings as they were read.
    """

    times: str
    files: int
    in_train: int
    unplaced: int
    notes: tuple[str, ...] = ()


class Finder:
    """Looks through a folder and writes what it finds into the store.

    Args:
        config: Which folder, and how names, times and labels are to be understood.
        store: Where to.
        router: Says which frame length suits a machine.
        looked: Called with how many files have been looked at.
    """

    def __init__(self, config: ReplayConfig, store: ScoreStore, router: Router, looked: Callable[[int], None]) -> None:
        self._config, self._store, self._router, self._looked = config, store, router, looked
        self._namer = MetadataResolver(config.folder, config.naming)
        self._rule = config.times if self._namer.timed_by is None else str(self._namer.timed_by)
        self._in_train = 0
        self._untimed = 0
        self._doubt = ("", NONE)  # a name without a time, and why
        self._unclear, self._first_unclear = 0, ""
        self._unseen, self._first_unseen = 0, ""
        self._grouped = 0  # files beyond the first of those that one problem names
        self._said: list[str] = []
        self._notes = Notes()

    def find(self) -> FoundFolder:
        """Look through the folder.

        Raises:
            RecordingError: It is no folder, or holds no recording; or two of its folders would be one machine.
        """
        db, folder = self._store.db, checked_folder(self._config.folder, "recordings")
        db.execute("UPDATE files SET seen = 0")
        files, count = walk(folder, leave=self._config.out), 0
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) * 2)) as pool:
            while chunk := list(islice(files, _AT_ONCE)):
                wanted = [known for one in chunk if (known := self._known(one)) is not None]
                # Several to a thread at a time: handing over costs as much as looking at a file that is near.
                handed = [wanted[at : at + _TO_A_THREAD] for at in range(0, len(wanted), _TO_A_THREAD)]
                for several in pool.map(self._look_at, handed):
                    for seen in several:
                        self._note(seen)
                count += len(wanted)
                self._looked(count)
        self._store.forget([row[0] for row in db.execute("SELECT id FROM files WHERE seen = 0").fetchall()])
        db.execute("DELETE FROM files WHERE seen = 0")
        count += self._grouped
        if count == self._unseen:
            left = f", but for {self._in_train} in folders named 'train'" if self._in_train else ""
            looked = f"no recordings in {str(folder)!r}{left}; looked for {' '.join(SUFFIXES)}"
            raise RecordingError(f"{looked}; {self._first_unseen}" if self._unseen else looked)
        times = self._give_times()
        self._give_letters()
        self._store.commit()
        unplaced = db.execute("SELECT count(*) FROM files WHERE problem LIKE 'no time%' OR problem LIKE 'its path%'")
        if self._unseen:
            passed = counted(self._unseen, "file or folder is", "files or folders are")
            self._said.append(f"{passed} passed, such as {self._first_unseen}")
        if self._unclear:
            self._said.append(
                f"{counted(self._unclear, 'recording is', 'recordings are')} not used, such as {self._first_unclear}"
            )
        notes = (*self._namer.notes(), *self._said, *self._notes.lines())
        return FoundFolder(times, count, self._in_train, int(unplaced.fetchone()[0]), notes)

    def _known(self, found: str | Problem) -> RecordingMetadata | Problem | None:
        """Return what is known of a recording, None if it belongs to a training set that is left alone."""
        if isinstance(found, Problem):
            self._unseen += found.count
            self._grouped += found.count - 1
            self._first_unseen = self._first_unseen or f"{found.name}: {found.reason}"
            return found
        known = self._namer.known(found, lambda: self._config.machine or self._namer.home())
        listed = self._namer.labels is not None and known.name in self._namer.labels
        if known.split == "train" and not self._config.include_train and not listed:
            self._in_train += 1
            return None
        return known

    def _look_at(self, found: Sequence[RecordingMetadata | Problem]) -> list[_Seen]:
        return [self._look(one) for one in found]

    def _look(self, found: RecordingMetadata | Problem) -> _Seen:
        """Read a recording's header; runs in a thread."""
        if isinstance(found, Problem):
            return _Seen(found.name, None, 0, 0, found.reason)
        path = self._config.folder / found.name
        try:
            stat = path.stat()
            info: RecordingInfo | str = recording_info(path, self._config.columns)
        except RecordingError as error:
            info = str(error).removeprefix(f"{path}: ")
        except OSError as error:  # it went away meanwhile
            return _Seen(found.name, found, 0, 0, f"can't be read ({error.strerror})")
        return _Seen(found.name, found, stat.st_size, stat.st_mtime_ns, info)

    def _note(self, seen: _Seen) -> None:
        """Write a recording into the store; what is there of it stays if nothing has changed."""
        seen = seen._replace(known=self._dated(seen))
        known, problem = seen.known, self._problem(seen)
        machine = (known and known.machine) or self._config.machine or self._namer.home()
        source = known.source if known else self._config.source
        row: dict[str, Any] = {
            "name": seen.name,
            "seen": 1,
            "size": seen.size,
            "mtime_ns": seen.mtime_ns,
            "problem": problem,
            "stream": self._store.stream_id(machine, source or ""),
            "named_us": self._start_us(seen),
            "sort_key": sort_key(seen.name),
            "label": known.label if known else None,
            "onset_s": known.onset_s if known else None,
            **(known.condition if known else UNKNOWN)._asdict(),
            "frames": 1,
        }
        if not isinstance(seen.info, str):
            self._notes.add(seen.name, seen.info)
            kind = kind_of(self._config.folder / seen.name, seen.size, seen.info)
            rate_hz, channels, samples = seen.info.rate_hz, seen.info.channels, seen.info.samples
            frame_s, window_s = self._lengths(machine)
            # Of one that is too short for a frame, the worker says so.
            frames = max(1, frame_count(samples, rate_hz, frame_s, window_s))
            row |= {"subtype": kind, "rate_hz": rate_hz, "channels": channels, "samples": samples}
            row |= {"frame_s": frame_s, "window_s": window_s, "frames": frames if problem is None else 1}
        self._upsert(row)

    def _dated(self, seen: _Seen) -> RecordingMetadata | None:
        """Return what is known of a recording, labelled by the label spans that hold it."""
        if seen.known is None or isinstance(seen.info, str):
            return seen.known
        return seen.known.dated(seen.info.samples / seen.info.rate_hz, self._start_us(seen))

    def _upsert(self, row: dict[str, Any]) -> None:
        db = self._store.db
        known = db.execute(
            "SELECT id, size, mtime_ns, stream, frame_s, window_s, problem, rpm, load FROM files WHERE name = ?",
            (row["name"],),
        ).fetchone()
        if known is not None:
            told = ("size", "mtime_ns", "stream", "frame_s", "window_s", "problem", "rpm", "load")
            same = tuple(row.get(name) for name in told)
            if tuple(known[1:]) != same:
                self._store.forget([known[0]])
        self._store.put_file(**row)

    def _problem(self, seen: _Seen) -> str | None:
        """Return why a file can't be used, or None; count those whose time isn't known."""
        known = seen.known
        if isinstance(seen.info, str) or known is None:
            return str(seen.info)
        if known.unplaced or known.unclear:
            if known.unclear and not known.unplaced:
                self._unclear += 1
                self._first_unclear = self._first_unclear or f"{known.name}: {known.unclear}"
            return known.unplaced or known.unclear
        if isinstance(known.start, NoTimestamp) and self._rule not in {"files", "pace"}:
            if self._rule != "auto":
                return f"no time: {known.start.reason}"
            self._untimed += 1
            if not self._doubt[0] or (self._doubt[1] == NONE and known.start.reason != NONE):
                self._doubt = known.name, known.start.reason
        return None

    def _start_us(self, seen: _Seen) -> int | None:
        if self._rule == "files":
            return _by_file_time(seen)
        return seen.known.start if seen.known is not None and isinstance(seen.known.start, int) else None

    def _lengths(self, machine: str) -> tuple[float, float]:
        """Return the length of a machine's frames, and of its model's window, in seconds."""
        try:
            model = self._router.find(machine).loaded
        except FrameRejected:
            model = None
        if model is None:
            return self._config.frame_s or DEFAULT_FRAME_S, 0.0
        metadata = model.metadata
        frame_s, window_s = self._config.frame_s or metadata.calibration.frame_s, metadata.features.window_s
        if frame_s < window_s - 1e-9:
            raise SettingsError(
                f"frames of {frame_s:g} s are shorter than the window of {window_s:g} s of model {metadata.name!r}"
            )
        return frame_s, window_s

    def _give_times(self) -> str:
        """Write each recording's start, and return by which rule."""
        db, rule = self._store.db, self._rule
        if rule == "auto":
            rule = "pace" if self._names_are_no_times() else "names"
        if rule != "pace":
            changed = "SELECT id FROM files WHERE start_us IS NOT named_us"
            self._store.forget([row[0] for row in db.execute(changed).fetchall()])
            db.execute(
                "UPDATE files SET start_us = named_us, frames = CASE WHEN problem IS NULL THEN frames ELSE 1 END"
            )
        else:
            self._pace()
        return rule

    def _names_are_no_times(self) -> bool:
        """Return whether names can't be taken for times; where some could be, a note says why they aren't."""
        how = "state their form with --pattern, such as '*_{time:%d.%m.%Y_%H%M%S}', or give a CSV file to --times"
        timed = self._store.db.execute(
            "SELECT count(*) FROM files WHERE named_us IS NOT NULL AND problem IS NULL"
        ).fetchone()[0]
        if self._untimed:
            name, reason = self._doubt
            if timed or reason != NONE:
                self._said.append(
                    f"{self._untimed} of {self._untimed + timed} names hold no time that can be read in one way only "
                    f"({name}: {reason}), so recordings are taken to follow one another; {how}"
                )
            return True
        twice = self._store.db.execute(
            "SELECT s.machine, f.named_us, min(f.name), max(f.name) FROM files f JOIN streams s ON s.id = f.stream "
            "WHERE f.problem IS NULL GROUP BY f.stream, f.named_us HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice is not None:
            machine, at_us, one, other = twice
            self._said.append(
                f"{one} and {other} of {machine} would both begin at {format_rfc3339(at_us)}, so recordings are taken "
                f"to follow one another; if they are of two sensors, say so with {{source}} in --pattern, else {how}"
            )
        return twice is not None

    def _pace(self) -> None:
        """Let recordings follow one another, stream by stream."""
        db, config = self._store.db, self._config
        first = "label IS 'anomaly', " if config.order == "labels" else ""
        stream, next_us = None, 0
        query = f"SELECT id, stream, start_us, samples, rate_hz FROM files ORDER BY stream, {first}sort_key, name"  # noqa: S608
        # Into a table of its own: what is being read must not change.
        db.execute("CREATE TEMP TABLE IF NOT EXISTS paced (id INTEGER PRIMARY KEY, start_us INTEGER, changed INTEGER)")
        db.execute("DELETE FROM paced")
        for page in self._store.pages(query):
            rows = []
            for file, own, start_us, samples, rate_hz in page:
                if own != stream:
                    stream, next_us = own, config.start_us
                rows.append((file, next_us, start_us != next_us))
                long_us = offset_us(samples, rate_hz) if samples else 0
                next_us += max(long_us, round((config.every_s or 0.0) * 1_000_000))
            db.executemany("INSERT INTO paced VALUES (?, ?, ?)", rows)
        self._store.forget([row[0] for row in db.execute("SELECT id FROM paced WHERE changed").fetchall()])
        db.execute("UPDATE files SET start_us = (SELECT start_us FROM paced WHERE paced.id = files.id)")

    def _give_letters(self) -> None:
        """Write a dead letter for each recording that can't be used at all."""
        db = self._store.db
        db.execute(
            "INSERT OR REPLACE INTO letters SELECT f.id, -1, s.machine, nullif(s.source, ''), NULL, 'not_audio', "
            "f.problem FROM files f JOIN streams s ON s.id = f.stream WHERE f.problem IS NOT NULL"
        )
        db.execute("UPDATE files SET done = 1, frames = 1 WHERE problem IS NOT NULL")


def _by_file_time(seen: _Seen) -> int:
    """Return a recording's start by when its file was last written, which is when it ended."""
    long_us = 0 if isinstance(seen.info, str) else offset_us(seen.info.samples, seen.info.rate_hz)
    return seen.mtime_ns // 1000 - long_us
