"""Processes that a measurement watches or holds back: their family, their processor time, and a share of a core."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

TICK_S: Final = 0.004
_FAMILY_S: Final = 0.5  # how often a held process is asked for children
_BURST_S: Final = 0.02  # of processor time that may be saved up while there is nothing to do
_CPU_CLOCK: Final = 2  # of a process, all its threads: what clock_getcpuclockid(3) makes of a process id


def family(pid: int) -> list[int]:
    """Return a process and all that it started, and those did."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(child))]


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has used, 0 once it has gone."""
    try:
        return time.clock_gettime(~pid << 3 | _CPU_CLOCK)
    except OSError:
        return 0.0


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, or 0 once it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmRSS:\s+(\d+)", status)
    return int(match[1]) / 1024 if match else 0.0


class HeldToShare:
    """Holds a process and all that it started to a share of a core, for as long as the ``with`` block.

    As ``cpulimit`` does it, which any user may: every 4 ms their processor time is read; once they have had more than
    their share they are stopped (SIGSTOP), and go on (SIGCONT) when it has grown again. They may save up 20 ms.

    Args:
        pid: The process.
        share: Of one core, for all of them together.
    """

    def __init__(self, pid: int, share: float) -> None:
        self._pid, self._share = pid, share
        self._used_s: dict[int, float] = {}
        self._stopped: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def _hold(self) -> None:
        left_s, looked_s, asked_s = 0.0, time.perf_counter(), 0.0
        while not self._end.wait(TICK_S):
            now_s = time.perf_counter()
            if now_s > asked_s + _FAMILY_S:
                asked_s = now_s
                self._used_s = {pid: self._used_s.get(pid, cpu_s(pid)) for pid in family(self._pid)}
            left_s = min(left_s + self._share * (now_s - looked_s), _BURST_S) - self._spent_s()
            looked_s = now_s
            if left_s < 0 and not self._stopped:
                self._stopped = list(self._used_s)
                _send(self._stopped, signal.SIGSTOP)
            elif left_s >= 0 and self._stopped:
                self._go_on()

    def _spent_s(self) -> float:
        """Return the processor time since the last look."""
        spent_s = 0.0
        for pid, before_s in self._used_s.items():
            used_s = max(before_s, cpu_s(pid))
            spent_s += used_s - before_s
            self._used_s[pid] = used_s
        return spent_s

    def _go_on(self) -> None:
        _send(self._stopped, signal.SIGCONT)
        self._stopped = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._go_on()


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
