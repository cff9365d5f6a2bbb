"""The workers, and the supervisor that starts each again whenever it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whirr import process

RESTART_AFTER_S = 1.0
READY_S = 180.0
EXIT_S = 60.0
RESTARTED_CODES = frozenset({1, 70})  # it can't go on, and says so: what the supervisor is for


@dataclass(slots=True)
class Worker:
    """One place for a worker, whichever process has it now.

    Attributes:
        name: ``worker-1`` and so on.
        port: Where its pages are.
        log: What all its processes said.
        running: The process.
        wanted: Whether another is started when this one ends.
        paused: Whether it was stopped with SIGSTOP.
        asked: The exit codes that the harness asked for.
    """

    name: str
    port: int
    log: Path
    running: subprocess.Popen[bytes]
    wanted: bool = True
    paused: bool = False
    asked: tuple[int, ...] = ()
    ended_s: float | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.running.poll() is None

    def pages(self) -> dict[str, Any]:
        """Return what /ready says, {} while nothing answers. Blocks."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=3) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read()))
        except (OSError, ValueError):
            return {}


@dataclass(slots=True)
class Fleet:
    """All workers.

    Args:
        environment: That gives them their settings.
        folder: Where their logs go.

    Attributes:
        exits: Exits that nobody asked for, in words.
        restarts: How many processes were started in place of one that ended.
    """

    environment: Mapping[str, str]
    folder: Path
    workers: list[Worker] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    restarts: int = 0
    _named: int = 0

    def add(self) -> Worker:
        """Start one more; from the main thread, with which it ends."""
        self._named += 1
        name, port = f"worker-{self._named}", process.free_port()
        log = self.folder / f"{name}.log"
        worker = Worker(name, port, log, self._start(port, log))
        self.workers.append(worker)
        return worker

    async def supervise(self) -> None:
        """Start again whatever ends, until cancelled."""
        while True:
            for worker in list(self.workers):
                self._look_after(worker)
            await asyncio.sleep(0.2)

    async def settled(self, deadline_s: float = READY_S) -> None:
        """Return when every worker is ready and all partitions are theirs.

        Raises:
            TimeoutError: They are not in time; the message says what each lacks.
        """
        end = time.monotonic() + deadline_s
        while True:
            found = {worker.name: await asyncio.to_thread(worker.pages) for worker in self.workers}
            if found and all(page.get("ready") for page in found.values()):
                return
            if time.monotonic() > end:
                lacks = "; ".join(f"{name}: {page or 'no answer'}" for name, page in found.items())
                raise TimeoutError(f"workers were not ready within {deadline_s:g} s: {lacks}; logs: {self.folder}")
            await asyncio.sleep(0.3)

    def swollen(self, most_mb: int) -> list[str]:
        """Return which workers have ever had more memory than ``most_mb``, in words; none where that can't be told."""
        peaks = {worker.name: _peak_mb(worker.running.pid) for worker in self.workers if worker.alive}
        return [f"{name} had {peak} MB of memory; at most {most_mb}" for name, peak in peaks.items() if peak > most_mb]

    async def terminate(self, worker: Worker, keep: bool = True) -> None:
        """Ask a worker to stop and wait until it has; ``keep`` starts another in its place."""
        # A worker that is still being loaded knows no SIGTERM yet.
        worker.asked, worker.wanted = (0, -signal.SIGTERM), keep
        running = worker.running
        running.send_signal(signal.SIGTERM)
        end = time.monotonic() + EXIT_S
        while running.poll() is None and time.monotonic() < end:
            await asyncio.sleep(0.1)
        if running.poll() is None:
            self.wrong.append(f"{worker.name} did not stop within {EXIT_S:g} s of SIGTERM; see {worker.log}")
            os.killpg(running.pid, signal.SIGABRT)
        if not keep:
            running.wait()
            self._note_exit(worker)
            self.workers.remove(worker)

    def kill(self, worker: Worker) -> None:
        """End a worker as a power cut would; only its main process, what it started has to notice."""
        worker.asked = (-signal.SIGKILL,)
        worker.running.kill()

    def pause(self, worker: Worker) -> None:
        """Stop a worker's processes where they are."""
        os.killpg(worker.running.pid, signal.SIGSTOP)
        worker.paused = True

    def resume(self, worker: Worker) -> None:
        """Let a paused worker go on."""
        os.killpg(worker.running.pid, signal.SIGCONT)
        worker.paused = False

    async def stop(self) -> None:
        """Ask all to stop, and wait until they have."""
        for worker in list(self.workers):
            if worker.alive:
                worker.wanted = False
        await asyncio.gather(*(self.terminate(worker, keep=False) for worker in list(self.workers) if worker.alive))

    def abandon(self) -> None:
        """End whatever still runs."""
        for worker in self.workers:
            worker.wanted = False
            process.stop(worker.running, 0.0, signal.SIGKILL)

    def _look_after(self, worker: Worker) -> None:
        if worker.alive or not worker.wanted:
            return
        if worker.ended_s is None:
            worker.ended_s = time.monotonic()
            self._note_exit(worker)
        elif time.monotonic() > worker.ended_s + RESTART_AFTER_S:
            worker.running, worker.ended_s = self._start(worker.port, worker.log), None
            self.restarts += 1

    def _note_exit(self, worker: Worker) -> None:
        code, asked = worker.running.returncode, worker.asked
        worker.asked = ()
        if code in asked:
            return
        where = f"{worker.name} ended with exit code {code}, see {worker.log}"
        self.exits.append(where)
        if code not in RESTARTED_CODES:
            self.wrong.append(where)

    def _start(self, port: int, log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "commands", "worker", "--web-port", str(port)]
        with log.open("ab") as output:
            return process.start(command, output=output, env=self.environment)


def _peak_mb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(peak.split()[1]) // 1024
