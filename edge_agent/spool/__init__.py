"""The spool: frames wait on disk, within a bounded size, until the broker has acknowledged them."""

from pathlib import Path

from edge_agent.spool.files import stream_folder
from edge_agent.spool.spool import Spool
from edge_agent.spool.spool_buffer import SpoolBuffer
from edge_agent.spool.spool_status import SpoolStatus, read_status

__all__ = ["Spool", "SpoolBuffer", "SpoolStatus", "open_spool", "read_status"]


def open_spool(root: Path, machine_id: str, source: str | None, *, limit_bytes: int, held_bytes: int) -> Spool:
    """Open the spool of one machine's one source below ``root``.

    Raises:
        SettingsError: Another agent has it, or it can't be written.
    """
    folder = stream_folder(root, machine_id, source)
    return Spool(folder, limit_bytes, held_bytes=held_bytes, machine_id=machine_id, source=source)
