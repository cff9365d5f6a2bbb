"""The files beside the segments: who has the spool, whose it is, up to where the broker has it, what was lost."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from schemas.errors import SettingsError
from whirr.outputs import replacing

SEGMENT = ".frames"
_LOCK, _STREAM, _COUNTS, _ACKNOWLEDGED, _DAMAGED = "lock", "stream.json", "counts.json", "acknowledged", "damaged"
_MARK = struct.Struct(">QI")
_LOCK_WAIT_S = 1.0  # whoever asks for the status holds it for a moment
KEPT_DAMAGED = 16


@dataclass(slots=True)
class SpoolLosses:
    """What a spool lost since it was made.

    Attributes:
        dropped_frames, dropped_bytes: Let go for want of room, oldest first.
        damaged_records: Pieces of a file that were no whole record, kept in the folder ``damaged``.
    """

    dropped_frames: int = 0
    dropped_bytes: int = 0
    damaged_records: int = 0


def stream_folder(root: Path, machine_id: str, source: str | None) -> Path:
    """Return the folder of one machine's one source; ``source`` may hold what no file name may."""
    suffix = "" if source is None else hashlib.sha256(source.encode()).hexdigest()[:12]
    return root / f"{machine_id}@{suffix}"


def lock(folder: Path, machine_id: str, source: str | None) -> int:
    """Make the folder and take it for this process; return the lock's file descriptor.

    Raises:
        SettingsError: Another agent has it, or it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SettingsError(f"the spool {str(folder)!r} can't be used ({error.strerror}); see --spool-dir") from None
    deadline_s = time.monotonic() + _LOCK_WAIT_S
    while not _taken(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline_s:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "?"
            os.close(descriptor)
            raise SettingsError(
                f"the spool {str(folder)!r} is in use by another agent (process {holder}); one agent publishes a "
                "machine's source: stop the other, or give this one another --source or --spool-dir"
            )
        time.sleep(0.02)
    with contextlib.suppress(OSError):  # a full disk; both are for people
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        (folder / _STREAM).write_bytes(orjson.dumps({"machine_id": machine_id, "source": source}))
    return descriptor


def is_locked(folder: Path) -> bool:
    """Whether an agent runs on this spool."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_stream(folder: Path) -> tuple[str, str | None]:
    """Return machine id and source; where the file that says so is gone, what the folder's name tells."""
    try:
        stream = orjson.loads((folder / _STREAM).read_bytes())
        return str(stream["machine_id"]), stream["source"]
    except (OSError, ValueError, KeyError, TypeError):
        machine_id, _, suffix = folder.name.rpartition("@")
        return machine_id, suffix or None


def segments(folder: Path) -> list[Path]:
    """Return the segments, oldest first: their names are numbers of equal length."""
    return sorted(folder.glob(f"*{SEGMENT}"))


def segment_path(folder: Path, number: int) -> Path:
    """Return the file of the segment whose first frame has this number."""
    return folder / f"{number:020d}{SEGMENT}"


class AcknowledgedMark:
    """The number of the newest frame that the broker has.

    It is not forced onto the disk: after a power cut an older one only means that frames are sent again, as it is when
    the mark itself is torn.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / _ACKNOWLEDGED, os.O_RDWR | os.O_CREAT, 0o644)

    def write(self, number: int) -> None:
        """Set the mark; a disk that is full leaves the older one."""
        raw = number.to_bytes(8, "big")
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, _MARK.pack(number, zlib.crc32(raw)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_mark(folder: Path) -> int:
    """Return the number of the newest frame that the broker has, 0 if that is not known."""
    try:
        number, checksum = _MARK.unpack((folder / _ACKNOWLEDGED).read_bytes())
    except (OSError, struct.error):
        return 0
    return int(number) if zlib.crc32(number.to_bytes(8, "big")) == checksum else 0


def read_counts(folder: Path) -> SpoolLosses:
    """Return what was lost so far."""
    try:
        return SpoolLosses(**orjson.loads((folder / _COUNTS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return SpoolLosses()


def write_counts(folder: Path, counts: SpoolLosses) -> None:
    """Write what was lost, for the status; a full disk may keep it from being written."""
    with contextlib.suppress(OSError), replacing(folder / _COUNTS, unfinished=f"{_COUNTS}.new") as file:
        file.write(orjson.dumps(asdict(counts)))


def keep_damaged(folder: Path, name: str, data: bytes) -> bool:
    """Keep damaged bytes for whoever wants to look; return False if they are there already. The newest few are kept."""
    kept = folder / _DAMAGED
    path = kept / name
    if path.exists():
        return False
    with contextlib.suppress(OSError):
        kept.mkdir(exist_ok=True)
        path.write_bytes(data)
        for old in sorted(kept.iterdir())[:-KEPT_DAMAGED]:
            old.unlink()
    return True
