"""How fast a worker drains a filled topic with pushing on, as a ratio to pushing off; both in each round.

Only the second half of the topic counts: the pushing process imports Feast first, which costs seconds of a core once.
"""

from __future__ import annotations

import asyncio
import os
import statistics

from benchmarks.environment import Bench, Worker, fill
from benchmarks.features.stores import Store

FRAMES = int(os.environ.get("WHIRR_BENCH_FRAMES", "20000"))
ROUNDS = int(os.environ.get("WHIRR_BENCH_ROUNDS", "3"))


def prepare(bench: Bench) -> None:
    """Fill the topic."""
    asyncio.run(fill(bench, bench.settings.frames_topic, FRAMES))


def measure(bench: Bench, store: Store) -> dict[str, float]:
    """Return ``pushing_vs_not``: frames a second with pushing over those without, the median over the rounds."""
    ratios = []
    for number in range(ROUNDS):
        off = _rate(bench, f"{store.kind}-off-{number}", pushing=False)
        on = _rate(bench, f"{store.kind}-on-{number}", pushing=True)
        print(f"round {number + 1}: {on:.0f} frames/s pushing to {store.kind}, {off:.0f} without", flush=True)
        ratios.append(on / off)
    return {"pushing_vs_not": statistics.median(ratios)}


def _rate(bench: Bench, name: str, *, pushing: bool) -> float:
    os.environ["WHIRR_FEATURE_PUSH"] = str(pushing).lower()
    try:
        with Worker(bench, bench.calm, name, bench.settings.frames_topic) as worker:
            began_s, first = worker.wait_for(FRAMES / 2)
            ended_s, last = worker.wait_for(FRAMES * 9 / 10)
    finally:
        os.environ["WHIRR_FEATURE_PUSH"] = "true"
    return (last - first) / (ended_s - began_s)
