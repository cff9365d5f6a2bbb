"""How long an online read takes, as whoever uses the client sees it: all 13 + 7 features of 1 and of 64 machines."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from benchmarks.features.stores import MACHINES, Store, rows_at
from feature_repo.client import FeatureClient
from feature_repo.push.online import OnlineStore

READS = int(os.environ.get("WHIRR_BENCH_READS", "2000"))
MANY = 64


def measure(store: Store) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds: ``read_1_ms_p50``, …, ``read_64_ms_p99``."""
    OnlineStore.open(store.settings).push(rows_at(0))
    with FeatureClient(store.settings) as client:
        one = _times_ms(lambda i: client.machine(f"pump-{i % MACHINES}"), READS)
        many = _times_ms(lambda i: client.machines([f"pump-{(i + j) % MACHINES}" for j in range(MANY)]), READS // 10)
    return {**_named("read_1_ms", one), **_named(f"read_{MANY}_ms", many)}


def _times_ms(read: Callable[[int], object], count: int) -> list[float]:
    for i in range(20):
        assert read(i)
    times = []
    for i in range(count):
        began = time.perf_counter()
        read(i)
        times.append((time.perf_counter() - began) * 1e3)
    return times


def _named(name: str, times_ms: list[float]) -> dict[str, float]:
    quantiles = statistics.quantiles(times_ms, n=100)
    return {f"{name}_p50": quantiles[49], f"{name}_p99": quantiles[98]}
