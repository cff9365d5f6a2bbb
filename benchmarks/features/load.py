"""What pushing costs in processor time while a thousand machines are heard each second: a push a second, as live.

The pushing process is the worker's own, with the history; the worker's side is making rows of states and sending them.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.features.stores import MACHINES, Store, rows_at
from feature_repo.push.push_process import PushProcess
from stream_app.pipeline import Model, Router, StreamState
from stream_app.pipeline.rolling import RollingMean
from stream_app.worker.feature_row import feature_row
from stream_app.worker.states import state_key
from whirr.settings import Route

SECONDS = int(os.environ.get("WHIRR_BENCH_SECONDS", "20"))
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(store: Store) -> dict[str, float]:
    """Return the share of one core, by process: ``push_cpu_share`` of the pushing one."""
    return {"push_cpu_share": asyncio.run(_pushing(store))}


def worker_side(model: Path) -> dict[str, float]:
    """Return ``offer_cpu_share``: the share of one core that a worker spends on making and sending the rows."""
    router = Router.from_routes([Route(model=str(model))], {str(model): Model.load(model)})
    routed = router.find("pump-0")
    state = StreamState(newest_us=1, frames=1, rolling=RollingMean(2.0, np.arange(13.0)))
    keys = [state_key((f"pump-{number}", "")) for number in range(MACHINES)]
    began = time.process_time()
    for _ in range(5):
        pickle.dumps([feature_row(key, state, routed) for key in keys])
    return {"offer_cpu_share": (time.process_time() - began) / 5 * 1000 / MACHINES}


async def _pushing(store: Store) -> float:
    reports: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    process = PushProcess(store.settings, lambda kind, answer: reports.put_nowait((kind, answer)))
    try:
        for number in range(2):  # the first opens the store
            await _push(process, number, reports)
        began, used_s = time.perf_counter(), _cpu_s(process)
        for number in range(SECONDS):
            await asyncio.sleep(max(0.0, began + number - time.perf_counter()))
            await _push(process, number + 2, reports)
        await asyncio.sleep(max(0.0, began + SECONDS - time.perf_counter()))
        return (_cpu_s(process) - used_s) / (time.perf_counter() - began) * 1000 / MACHINES
    finally:
        await process.close()


async def _push(process: PushProcess, number: int, reports: asyncio.Queue[tuple[str, Any]]) -> None:
    rows = rows_at(number)
    await process.send(lambda: ("rows", rows, ()))
    kind, answer = await reports.get()
    if kind != "report" or answer.failed:
        raise RuntimeError(f"the push failed: {kind} {answer}")


def _cpu_s(process: PushProcess) -> float:
    stat = Path(f"/proc/{process._child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICKS
