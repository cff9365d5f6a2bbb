"""Finding: which recordings a folder holds, whose they are, when they began, and how they are labelled."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from stream_app.pipeline import Router
from whirr import layouts
from whirr.errors import FrameRejected, RecordingError, SettingsError
from whirr.recordings import Notes, RecordingInfo, is_recording
from whirr.replay.config import ReplayConfig
from whirr.replay.headers import Header, frame_count, read_header
from whirr.replay.names import compile_pattern
from whirr.replay.store import Store
from whirr.replay.times import TimeRow, read_times, time_in

if TYPE_CHECKING:
    from trainer.evaluation.labels import LabelRow

RECORDED: Final = "recordings.csv"  # what `whirr record` leaves: times, machines, sensors and labels of a folder
DEFAULT_FRAME_S: Final = 1.0
_AT_ONCE: Final = 512


class _Seen(NamedTuple):
    """A file as it was found."""

    name: str
    path: Path
    size: int
    mtime_ns: int
    header: Header | str  # or why there is none
    info: RecordingInfo | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    Attributes:
        times: Where times come from: ``names``, ``files``, ``pace`` or the path of a CSV file.
        in_train: Recordings that were left out because they belong to a training set.
        unplaced: Recordings that a pattern, or the file of times, doesn't cover; each has a dead letter.
        notes: What is to be said about recordings as they were read.
    """

    times: str
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

    def __init__(self, config: ReplayConfig, store: Store, router: Router, looked: Callable[[int], None]) -> None:
        self._config, self._store, self._router, self._looked = config, store, router, looked
        self._zone = ZoneInfo(config.zone)
        self._pattern = compile_pattern(config.pattern) if config.pattern else None
        self._times = self._read_times()
        self._labels = self._read_labels()
        self._in_train = 0
        self._notes = Notes()

    def find(self) -> Found:
        """Look through the folder.

        Raises:
            RecordingError: It is no folder, or holds no recording.
        """
        db, folder = self._store.db, self._config.folder
        if not folder.is_dir():
            raise RecordingError(f"{str(folder)!r} is no folder; expected one with recordings")
        db.execute("UPDATE files SET seen = 0")
        files, count = self._walk(), 0
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) * 2)) as pool:
            while chunk := list(islice(files, _AT_ONCE)):
                for seen in pool.map(self._look, chunk):
                    self._note(seen)
                count += len(chunk)
                self._looked(count)
        self._store.forget([row[0] for row in db.execute("SELECT id FROM files WHERE seen = 0").fetchall()])
        db.execute("DELETE FROM files WHERE seen = 0")
        if not count:
            left = f", but for {self._in_train} in folders named 'train'" if self._in_train else ""
            raise RecordingError(f"no recordings in {str(folder)!r}{left}; looked for .wav .flac .ogg .mp3 .mat .csv")
        times = self._give_times()
        self._give_letters()
        self._store.commit()
        unplaced = db.execute("SELECT count(*) FROM files WHERE problem LIKE 'no time%' OR problem LIKE 'its path%'")
        return Found(times, self._in_train, int(unplaced.fetchone()[0]), tuple(self._notes.lines()))

    def _read_times(self) -> Mapping[str, TimeRow] | None:
        given = self._config.times
        recorded = self._config.folder / RECORDED
        if given == "auto" and recorded.is_file():
            given = str(recorded)
        if given in ("auto", "names", "files", "pace"):
            self._rule = given
            return None
        self._rule = given
        return read_times(Path(given), self._config.folder, self._zone)

    def _read_labels(self) -> Mapping[str, LabelRow] | None:
        if self._config.labels is None:
            return None
        from trainer.evaluation.labels import read_labels

        return read_labels(self._config.labels, self._config.folder)

    def _walk(self) -> Iterator[Path]:
        """Yield the recordings, folder by folder; hidden ones and those of training sets aside."""
        folders = [self._config.folder]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = Path(entry.path)
                    if entry.is_dir():
                        if path.absolute() != self._config.out.absolute():
                            folders.append(path)
                    elif entry.is_file() and is_recording(path) and not self._trains(path):
                        yield path

    def _trains(self, path: Path) -> bool:
        name = path.relative_to(self._config.folder).as_posix()
        listed = self._labels is not None and name in self._labels
        trains = (
            not self._config.include_train and not listed and layouts.place(name, self._config.folder).part == "train"
        )
        self._in_train += trains
        return trains

    def _look(self, path: Path) -> _Seen:
        """Read a recording's header, unless it is known; runs in a thread."""
        stat = path.stat()
        name = path.relative_to(self._config.folder).as_posix()
        try:
            header: Header | str
            header, info = read_header(path, stat.st_size, self._config.columns)
        except RecordingError as error:
            header, info = str(error).removeprefix(f"{path}: "), None
        return _Seen(name, path, stat.st_size, stat.st_mtime_ns, header, info)

    def _note(self, seen: _Seen) -> None:
        """Write a recording into the store; what is there of it stays if nothing has changed."""
        machine, source, named_us, problem = self._place(seen)
        row: dict[str, Any] = {
            "name": seen.name,
            "seen": 1,
            "size": seen.size,
            "mtime_ns": seen.mtime_ns,
            "problem": problem,
            "stream": self._store.stream_id(machine, source or ""),
            "named_us": named_us,
            "sort_key": _sort_key(seen.name),
            "frames": 1,
        }
        row["label"], row["onset_s"] = self._label(seen.name)
        if seen.info is not None:
            self._notes.add(seen.name, seen.info)
        if isinstance(seen.header, Header):
            kind, rate_hz, channels, samples = seen.header
            frame_s, window_s = self._lengths(machine)
            frames = frame_count(samples, rate_hz, frame_s, window_s)
            row |= {"subtype": kind, "rate_hz": rate_hz, "channels": channels, "samples": samples}
            row |= {"frame_s": frame_s, "window_s": window_s, "frames": frames if problem is None else 1}
        self._upsert(row)

    def _upsert(self, row: dict[str, Any]) -> None:
        db = self._store.db
        known = db.execute(
            "SELECT id, size, mtime_ns, stream, frame_s, window_s, problem FROM files WHERE name = ?", (row["name"],)
        ).fetchone()
        if known is not None:
            same = tuple(row.get(name) for name in ("size", "mtime_ns", "stream", "frame_s", "window_s", "problem"))
            if tuple(known[1:]) != same:
                self._store.forget([known[0]])
        columns = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        updates = ", ".join(f"{name} = excluded.{name}" for name in row if name != "name")
        db.execute(
            f"INSERT INTO files ({columns}) VALUES ({marks}) ON CONFLICT (name, part) DO UPDATE SET {updates}",  # noqa: S608
            row,
        )

    def _place(self, seen: _Seen) -> tuple[str, str | None, int | None, str | None]:
        """Return a recording's machine, source, start if its name or the file of times tells it, and what is wrong."""
        config, name = self._config, seen.name
        listed = None if self._labels is None else self._labels.get(name)
        timed = None if self._times is None else self._times.get(name)
        machine = (
            config.machine or (listed and listed.machine) or (timed and timed.machine)
            or layouts.machine_of(name, config.folder)
        )  # fmt: skip
        source = config.source or (timed.source if timed else None)
        problem = seen.header if isinstance(seen.header, str) else None
        text = PurePosixPath(name).name
        if self._pattern is not None:
            match = self._pattern.fullmatch(PurePosixPath(name).with_suffix("").as_posix())
            fields = match.groupdict() if match else {}
            machine = config.machine or fields.get("machine") or machine
            source = config.source or fields.get("source") or source
            text = fields.get("time", text)
            if match is None:
                problem = problem or f"its path does not match the pattern {config.pattern!r}"
        if self._times is not None:
            named_us = timed.start_us if timed else None
        elif self._rule == "files":
            named_us = _by_file_time(seen)
        else:
            named_us = time_in(text, self._zone)
        return machine, source, named_us, problem

    def _label(self, name: str) -> tuple[str | None, float | None]:
        if self._labels is None:
            return layouts.label_of(name), None
        row = self._labels.get(name)
        return (None, None) if row is None else (row.label, row.onset_s)

    def _lengths(self, machine: str) -> tuple[float, float]:
        """Return the length of a machine's frames, and of its model's window, in seconds."""
        try:
            metadata = self._router.find(machine).model.metadata
        except FrameRejected:
            return self._config.frame_s or DEFAULT_FRAME_S, 0.0
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
            missing = db.execute("SELECT 1 FROM files WHERE named_us IS NULL AND problem IS NULL LIMIT 1").fetchone()
            rule = "pace" if missing else "names"
        if rule != "pace":
            db.execute(
                "UPDATE files SET problem = 'no time: ' || ? WHERE problem IS NULL AND named_us IS NULL",
                ("its name holds none" if rule in ("names", "auto") else f"{rule} doesn't list it",),
            )
            changed = "SELECT id FROM files WHERE start_us IS NOT named_us"
            self._store.forget([row[0] for row in db.execute(changed).fetchall()])
            db.execute(
                "UPDATE files SET start_us = named_us, frames = CASE WHEN problem IS NULL THEN frames ELSE 1 END"
            )
        else:
            self._pace()
        return rule

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
                long_us = samples * 1_000_000 // rate_hz if samples else 0
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
    samples, rate_hz = (seen.header.samples, seen.header.rate_hz) if isinstance(seen.header, Header) else (0, 1)
    return seen.mtime_ns // 1000 - samples * 1_000_000 // rate_hz


def _sort_key(name: str) -> str:
    """Return a text under which numbers in names count as numbers, and a leading label of a file doesn't count."""
    head, _, file = name.rpartition("/")
    unlabelled = re.sub(r"^(normal|anomaly|anomalous|abnormal)[_-]", "", file)
    return re.sub(r"\d+", lambda match: match[0].zfill(20), f"{head}/{unlabelled}")
