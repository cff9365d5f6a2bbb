"""One source's frames on disk: appended to segment files, forced onto the disk, deleted when the broker has them.

Nothing here is asynchronous, and one thread at a time may call it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.outgoing import OutgoingFrame
from edge_agent.spool import files
from edge_agent.spool.records import Damage, Entry, pack, read, scan, unpack

log = logging.getLogger(__name__)
SEGMENT_BYTES = 4 * 1024 * 1024
_LEAST_SEGMENT_BYTES = 64 * 1024
_sync = getattr(os, "fdatasync", os.fsync)


@dataclass(slots=True)
class _Segment:
    """A file, and those of its frames that wait."""

    path: Path
    size: int = 0
    entries: deque[Entry] = field(default_factory=deque)


class Spool:
    """Frames that wait for the broker, oldest first, in files of at most ``limit_bytes`` together.

    While the disk takes nothing (it is full, say), new frames are held in memory, at most ``held_bytes`` of them, and
    written once there is room. Whatever the limit that is reached, the oldest frames are let go first, a segment at a
    time, counted and logged.

    Args:
        folder: The source's own folder; it is made.
        limit_bytes: Most that its segments take on disk; there is always room for one frame.
        held_bytes: Most that waits in memory while the disk takes nothing.
        machine_id, source: Whose frames, for the status.

    Attributes:
        resumed: Frames that waited when it was opened.
        counts: What was lost since the spool was made.
        dropped_frames, dropped_bytes: What was let go since it was opened.

    Raises:
        SettingsError: Another agent has the folder, or it can't be written.
    """

    def __init__(
        self, folder: Path, limit_bytes: int, *, held_bytes: int, machine_id: str, source: str | None = None
    ) -> None:
        self._folder, self._limit_bytes, self._held_bytes = folder, limit_bytes, held_bytes
        self._segment_bytes = max(_LEAST_SEGMENT_BYTES, min(SEGMENT_BYTES, limit_bytes // 8))
        self._lock = files.lock(folder, machine_id, source)
        self._mark = files.AcknowledgedMark(folder)
        self.counts = files.read_counts(folder)
        self.dropped_frames = self.dropped_bytes = 0
        self._segments: deque[_Segment] = deque()
        self._file: int | None = None  # the newest segment's, while it is written to
        self._held: deque[tuple[int, OutgoingFrame]] = deque()
        self._head: tuple[int, OutgoingFrame] | None = None
        self._failing = self._overflowed = False
        self._newest = files.read_mark(folder)
        self._load()
        self.resumed = len(self)

    def __len__(self) -> int:
        return len(self._held) + sum(len(segment.entries) for segment in self._segments)

    @property
    def newest(self) -> int:
        """The number of the newest frame."""
        return self._newest

    @property
    def head_number(self) -> int | None:
        """The number of what :meth:`head` returned, until :meth:`done`."""
        return None if self._head is None else self._head[0]

    @property
    def disk_bytes(self) -> int:
        """What the segments take."""
        return sum(segment.size for segment in self._segments)

    def fits(self, size: int) -> bool:
        """Whether a frame of ``size`` bytes has room without another being let go."""
        if not len(self):
            return True
        return not self._held and self.disk_bytes + size <= self._limit_bytes

    def append(self, frame: OutgoingFrame) -> None:
        """Add a frame; it is on the disk when this returns, or in memory while the disk takes nothing."""
        self._newest += 1
        self._held.append((self._newest, frame))
        self._write_held()
        while self._held and sum(len(held.value) for _, held in self._held) > self._held_bytes and len(self) > 1:
            if any(segment.entries for segment in self._segments):
                self._drop_segment()
                self._write_held()
            else:
                number, gone = self._held.popleft()
                if number != self.head_number:
                    self._count_dropped(1, len(gone.value))

    def head(self) -> tuple[int, OutgoingFrame] | None:
        """Return the oldest frame and its number, or None; the same one until :meth:`done`."""
        while self._head is None:
            segment = next((segment for segment in self._segments if segment.entries), None)
            if segment is None:
                self._head = self._held[0] if self._held else None
                return self._head
            entry = segment.entries[0]
            frame = self._read(segment, entry)
            if frame is not None:
                self._head = entry.number, frame
            else:
                segment.entries.popleft()
        return self._head

    def done(self) -> None:
        """Remove what :meth:`head` returned: the broker has it."""
        assert self._head is not None
        number, self._head = self._head[0], None
        self._mark.write(number)
        if self._held and self._held[0][0] == number:
            self._held.popleft()
        for segment in self._segments:
            if segment.entries:
                if segment.entries[0].number == number:
                    segment.entries.popleft()
                break
        if self._delete_sent() and self._held:
            self._write_held()

    def close(self) -> None:
        """Write what is held, close the files and let another agent have the folder."""
        self._write_held()
        if self._held:
            log.error("%d frames were in memory only, since the disk took none, and are lost", len(self._held))
            self._count_dropped(len(self._held), sum(len(frame.value) for _, frame in self._held))
        self._seal()
        self._delete_sent()
        self._mark.close()
        os.close(self._lock)

    def _load(self) -> None:
        for path in files.segments(self._folder):
            segment = _Segment(path, path.stat().st_size)
            for found in list(scan(path)):
                if isinstance(found, Damage):
                    self._quarantine(segment, found)
                elif found.number > self._newest:  # neither acknowledged nor written twice
                    segment.entries.append(found)
                    self._newest = found.number
            self._segments.append(segment)
        self._delete_sent()

    def _quarantine(self, segment: _Segment, damage: Damage) -> None:
        """Count a damaged piece once, however often it is met, and keep its bytes."""
        name = f"{segment.path.stem}-{damage.offset:08d}.bin"
        try:
            data = read(segment.path, Entry(0, 0, damage.offset, damage.length))
        except OSError as error:
            data = str(error).encode()
        if files.keep_damaged(self._folder, name, data):
            self.counts.damaged_records += 1
            files.write_counts(self._folder, self.counts)
            log.error("%d bytes of %s are no whole frame; kept as damaged/%s", damage.length, segment.path.name, name)

    def _read(self, segment: _Segment, entry: Entry) -> OutgoingFrame | None:
        try:
            frame = unpack(read(segment.path, entry))
        except OSError:
            frame = None
        if frame is None:
            self._quarantine(segment, Damage(entry.offset, entry.length))
        return frame

    def _write_held(self) -> None:
        """Move frames from memory onto the disk, in order, until none is left or the disk takes none."""
        while self._held:
            number, frame = self._held[0]
            record = pack(number, frame)
            self._make_room(len(record))
            try:
                self._write(number, frame, record)
            except OSError as error:
                if self._delete_sent():  # what was sent may be what filled the disk
                    continue
                self._tell_failing(error)
                return
            self._held.popleft()
        if self._failing:
            self._failing = False
            log.warning("the spool can write to its disk again")

    def _tell_failing(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            held = self._held_bytes / 1e6
            log.error("the spool can't write (%s): new frames wait in memory, at most %g MB", error.strerror, held)

    def _write(self, number: int, frame: OutgoingFrame, record: bytes) -> None:
        if self._file is not None and self._segments[-1].size + len(record) > self._segment_bytes:
            self._seal()
            self._delete_sent()
        if self._file is None:
            self._file = self._create(number)
        segment = self._segments[-1]
        try:
            written = 0
            while written < len(record):
                written += os.write(self._file, record[written:])
            _sync(self._file)
        except OSError:
            self._undo(segment)
            raise
        segment.entries.append(Entry(number, frame.recorded_us, segment.size, len(record)))
        segment.size += len(record)

    def _create(self, number: int) -> int:
        path = files.segment_path(self._folder, number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._segments.append(_Segment(path))
        directory = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(directory)  # so that a power cut leaves the name, too
        finally:
            os.close(directory)
        return descriptor

    def _undo(self, segment: _Segment) -> None:
        """Take back what was written of a frame; the file is written to no more, so that it goes once it is sent."""
        assert self._file is not None
        with contextlib.suppress(OSError):  # what can't be taken back is told from frames by its checksum
            os.ftruncate(self._file, segment.size)
        self._seal()

    def _seal(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _delete_sent(self) -> bool:
        """Delete the segments of which no frame waits, except the one being written; say whether that made room."""
        gone = [s for s in self._segments if not s.entries and (self._file is None or s is not self._segments[-1])]
        for segment in gone:
            self._segments.remove(segment)
            segment.path.unlink(missing_ok=True)
        return any(segment.size for segment in gone)

    def _make_room(self, size: int) -> None:
        while self._segments and self.disk_bytes + size > self._limit_bytes:
            self._drop_segment()

    def _drop_segment(self) -> None:
        """Delete the oldest segment; the frame that is being sent does not count as dropped."""
        segment = self._segments.popleft()
        if not self._segments:
            self._seal()
        segment.path.unlink(missing_ok=True)
        lost = [entry for entry in segment.entries if entry.number != self.head_number]
        self._count_dropped(len(lost), sum(entry.length for entry in lost))

    def _count_dropped(self, frames: int, size: int) -> None:
        if not frames:
            return
        self.dropped_frames += frames
        self.dropped_bytes += size
        self.counts.dropped_frames += frames
        self.counts.dropped_bytes += size
        files.write_counts(self._folder, self.counts)
        if not self._overflowed:
            self._overflowed = True
            log.error("the spool of %d bytes is full: the oldest frames are dropped and counted", self._limit_bytes)
