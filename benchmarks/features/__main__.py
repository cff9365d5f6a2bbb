"""``make bench-feast``: every measurement on SQLite, Redis and PostgreSQL, and one JSON line at the end.

``WHIRR_BENCH_MACHINES``, ``…_READS``, ``…_SECONDS``, ``…_FRAMES`` and ``…_ROUNDS`` set how much; ``--no-worker`` leaves
the worker's throughput out, which needs Kafka and torch.
"""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack

import orjson

from benchmarks.environment import Bench, prepared
from benchmarks.features import load, reads, worker, writes
from benchmarks.features.stores import KINDS, NotInstalled, applied


def main() -> None:
    """Print each store's table, then one JSON object with the figures."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    figures: dict[str, float] = {}
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        bench = None if "--no-worker" in sys.argv else stack.enter_context(prepared())
        if bench is not None:
            worker.prepare(bench)
            figures |= load.worker_side(bench.calm)
        for kind in KINDS:
            try:
                figures |= {f"{kind}_{name}": value for name, value in _measured(kind, bench).items()}
            except NotInstalled as error:
                skipped[kind] = str(error)
                print(f"{kind}: skipped, {error}", flush=True)
    rounded = {name: round(value, 3) for name, value in figures.items()}
    width = max(map(len, rounded))
    for name, value in rounded.items():
        print(f"{name:<{width}}  {value:>10.3f}")
    print(orjson.dumps({**rounded, "skipped": skipped}).decode())


def _measured(kind: str, bench: Bench | None) -> dict[str, float]:
    with applied(kind) as store:
        print(f"{kind}: reading, writing, pushing", flush=True)
        figures = reads.measure(store) | writes.measure(store) | load.measure(store)
        return figures if bench is None else figures | worker.measure(bench, store)


if __name__ == "__main__":
    main()
