"""A gateway: ``python -m tests.chaos.gateway JOB`` runs an edge agent for each machine, at the harness's pace.

It reads from standard input how many frames each machine may have recorded by now, and ends when all are published, or
when standard input ends: the harness has gone.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from edge_agent import EdgeAgent, EdgeConfig
from edge_agent.framer import FrameSamples
from edge_agent.sources import FolderSource
from tests.chaos.plant import FRAME_S, SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a gateway does.

    Attributes:
        bootstrap, topic: Where frames go.
        start_us: When its recordings began.
        machines: Their recordings, by machine id.
        spool: Folder where frames wait on disk, or None to keep them in memory.
    """

    bootstrap: str
    topic: str
    start_us: int
    machines: dict[str, str]
    spool: str | None = None

    def write(self, path: Path) -> Path:
        """Write it to a file, and return the path."""
        path.write_bytes(orjson.dumps(asdict(self)))
        return path


class Pace:
    """How many frames each machine may have recorded by now."""

    def __init__(self) -> None:
        self._frames = 0
        self._raised = asyncio.Condition()

    async def follow(self, reader: asyncio.StreamReader) -> None:
        """Take numbers, one a line, until there is no more."""
        while line := await reader.readline():
            async with self._raised:
                self._frames = int(line)
                self._raised.notify_all()

    async def reach(self, frames: int) -> None:
        """Return when as many frames may have been recorded."""
        async with self._raised:
            await self._raised.wait_for(lambda: self._frames >= frames)


class PacedTimes:
    """A timeline by which a recording is played at the harness's pace."""

    def __init__(self, pace: Pace, start_us: int) -> None:
        self._pace, self._start_us = pace, start_us

    async def stamp(self, frame: FrameSamples) -> int:
        """Wait until the frame may have been recorded; return its recording time."""
        await self._pace.reach(frame.end_us // (FRAME_S * 10**6))
        return self._start_us + frame.offset_us


async def run(job: Job) -> list[dict[str, Any]]:
    """Publish every machine's frames; return the agents' summaries."""
    reader, pace = asyncio.StreamReader(), Pace()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    following = asyncio.create_task(pace.follow(reader))
    agents = [_agent(job, machine_id, Path(path), pace) for machine_id, path in job.machines.items()]
    publishing = asyncio.gather(*(agent.run() for agent in agents))
    waited_for: set[asyncio.Future[Any]] = {following, publishing}
    await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
    if not publishing.done():
        sys.exit("the harness has gone")
    following.cancel()
    return [asdict(summary) for summary in publishing.result()]


def _agent(job: Job, machine_id: str, recording: Path, pace: Pace) -> EdgeAgent:
    config = EdgeConfig(
        machine_id=machine_id,
        bootstrap=job.bootstrap,
        topic=job.topic,
        source=SOURCE,
        frame_s=FRAME_S,
        spool_dir=None if job.spool is None else Path(job.spool),
    )
    return EdgeAgent(config, FolderSource([recording]), PacedTimes(pace, job.start_us))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    given = Job(**orjson.loads(Path(sys.argv[1]).read_bytes()))
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(run(given)), option=orjson.OPT_APPEND_NEWLINE))
