"""What waits in the spools of a gateway, read beside running agents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.spool import files
from edge_agent.spool.records import Damage, scan
from schemas.times import format_rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStatus:
    """One source's spool.

    Attributes:
        running: Whether an agent has it now.
        frames, bytes: What waits for the broker's acknowledgement.
        oldest_recorded: Of what waits, RFC 3339; None if nothing does.
        oldest_age_s: Seconds since then.
        dropped_frames, dropped_bytes, damaged_records: What was lost since the spool was made.
    """

    machine_id: str
    source: str | None
    folder: str
    running: bool
    frames: int
    bytes: int
    oldest_recorded: str | None
    oldest_age_s: float | None
    dropped_frames: int
    dropped_bytes: int
    damaged_records: int


def read_status(root: Path, now_us: int) -> list[SpoolStatus]:
    """Return the spools below ``root``, by machine and source; none if there is no such folder."""
    folders = [path for path in sorted(root.glob("*@*")) if path.is_dir()]
    return [_status(folder, now_us) for folder in folders]


def _status(folder: Path, now_us: int) -> SpoolStatus:
    running, acknowledged = files.is_locked(folder), files.read_mark(folder)
    waiting = []
    for path in files.segments(folder):
        try:
            waiting += [e for e in scan(path) if not isinstance(e, Damage) and e.number > acknowledged]
        except FileNotFoundError:  # sent, and so deleted, a moment ago
            continue
    machine_id, source = files.read_stream(folder)
    counts = files.read_counts(folder)
    oldest_us = min((entry.recorded_us for entry in waiting), default=None)
    return SpoolStatus(
        machine_id=machine_id,
        source=source,
        folder=str(folder),
        running=running,
        frames=len(waiting),
        bytes=sum(entry.length for entry in waiting),
        oldest_recorded=None if oldest_us is None else format_rfc3339(oldest_us),
        oldest_age_s=None if oldest_us is None else max(0.0, (now_us - oldest_us) / 1e6),
        dropped_frames=counts.dropped_frames,
        dropped_bytes=counts.dropped_bytes,
        damaged_records=counts.damaged_records,
    )
