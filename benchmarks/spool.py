"""How many frames a second the spool takes and gives back, and what forcing each onto the disk costs.

python -m benchmarks.spool --frames 300 --frame-kb 20
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from edge_agent.outgoing import OutgoingFrame
from edge_agent.spool import open_spool
from edge_agent.spool import spool as module


def measure(root: Path, frames: int, frame_bytes: int) -> tuple[float, float]:
    """Return frames written, and frames read and deleted, per second."""
    spool = open_spool(root, "pump-1", None, limit_bytes=1_000_000_000, held_bytes=1_000_000)
    value = os.urandom(frame_bytes)
    began_s = time.perf_counter()
    for number in range(frames):
        spool.append(OutgoingFrame(b"pump-1", value, (("ce_sequence", str(number).encode()),), number, number + 1))
    written_s = time.perf_counter()
    for _ in range(frames):
        spool.head()
        spool.done()
    read_s = time.perf_counter()
    spool.close()
    return frames / (written_s - began_s), frames / (read_s - written_s)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--frames", type=int, default=300)
    options.add_argument("--frame-kb", type=float, default=20.0)
    options.add_argument("--dir", type=Path, help="on the disk to measure; default: the system's temporary folder")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        size = int(arguments.frame_kb * 1000)
        forced, read = measure(Path(folder) / "a", arguments.frames, size)
        module._sync = lambda _descriptor: None
        unforced, _ = measure(Path(folder) / "b", arguments.frames, size)
    figures = {"written_per_s": forced, "read_per_s": read, "written_without_sync_per_s": unforced}
    print(json.dumps({"frames": arguments.frames, "frame_bytes": size, **{k: round(v) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
