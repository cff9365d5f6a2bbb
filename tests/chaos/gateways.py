"""The gateways as the harness sees them: processes that publish at its pace."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from schemas.errors import ServiceUnavailable
from tests.chaos.gateway import Job
from whirr import process


class Gateways:
    """Runs gateways and tells them how fast to publish.

    Args:
        jobs: What each does, by its name.
        folder: Where their logs go.
    """

    def __init__(self, jobs: Mapping[str, Job], folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        for name, job in jobs.items():
            file = job.write(folder / f"{name}.json")
            with (folder / f"{name}.log").open("wb") as log, (folder / f"{name}.out").open("wb") as out:
                # They end when their standard input does, so also when the harness is killed.
                self._children[name] = subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.gateway", str(file)],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=log,
                    process_group=0,
                    env=os.environ,
                )

    def allow(self, frames: int) -> None:
        """Let each machine have recorded ``frames`` frames."""
        for child in self._children.values():
            if child.poll() is None and child.stdin is not None:
                try:
                    child.stdin.write(b"%d\n" % frames)
                    child.stdin.flush()
                except BrokenPipeError:  # it has ended; finish() says how
                    pass

    def check(self) -> None:
        """Raise ServiceUnavailable if one has failed."""
        for name, child in self._children.items():
            if child.poll() not in (None, 0):
                raise ServiceUnavailable(f"{name} ended with exit code {child.returncode}:\n{self._tail(name)}")

    async def finish(self, deadline_s: float) -> list[dict[str, Any]]:
        """Wait until all is published; return the agents' summaries.

        Raises:
            ServiceUnavailable: One failed, or was not done in time.
        """
        end = asyncio.get_running_loop().time() + deadline_s
        while any(child.poll() is None for child in self._children.values()):
            self.check()
            if asyncio.get_running_loop().time() > end:
                late = next(name for name, child in self._children.items() if child.poll() is None)
                raise ServiceUnavailable(f"{late} had not published all within {deadline_s:g} s:\n{self._tail(late)}")
            await asyncio.sleep(0.2)
        self.check()
        outs = [(self._folder / f"{name}.out").read_bytes() for name in self._children]
        return [summary for out in outs for summary in orjson.loads(out)]

    def stop(self) -> None:
        """End all that still run."""
        for child in self._children.values():
            if child.stdin is not None:
                child.stdin.close()
            process.stop(child)

    def _tail(self, name: str) -> str:
        return "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-8:])
