"""How fast a worker drains a filled topic, against the same computation in process, bare aiokafka and quixstreams.

One-second 16 kHz frames, the seed's autoencoder, scores and states written, one worker. All drain the same topic, one
after the other in each round; a ratio is the median over the rounds. Frames are counted between a tenth and nine
tenths, so starting up and running dry don't count. ``WHIRR_BENCH_FRAMES`` and ``WHIRR_BENCH_ROUNDS`` set how much.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys

from benchmarks.environment import DEADLINE_S, Bench, Worker, fill, settings_for
from stream_app.worker.topic_setup import ensure_topics

FRAMES = int(os.environ.get("WHIRR_BENCH_FRAMES", "4000"))
ROUNDS = int(os.environ.get("WHIRR_BENCH_ROUNDS", "3"))
RIVALS = ("inprocess", "aiokafka", "quixstreams")


def measure(bench: Bench) -> dict[str, float]:
    """Return the figures.

    Returns:
        ``frames_per_second`` of the worker, and of each rival its rate (``…_per_second``) and the worker's rate over
        it (``worker_vs_…``).
    """
    asyncio.run(fill(bench, bench.settings.frames_topic, FRAMES))
    for topic in ("rival-scores", "rival-states"):
        asyncio.run(ensure_topics(settings_for(bench, topic)))
    rates = [_round(bench, number) for number in range(1, ROUNDS + 1)]
    figures = {"frames_per_second": statistics.median(rate["worker"] for rate in rates)}
    for rival in RIVALS:
        figures[f"{rival}_per_second"] = statistics.median(rate[rival] for rate in rates)
        figures[f"worker_vs_{rival}"] = statistics.median(rate["worker"] / rate[rival] for rate in rates)
    return figures


def _round(bench: Bench, number: int) -> dict[str, float]:
    rates = {"inprocess": _rival(bench, "inprocess"), "worker": _worker(bench, number)}
    rates |= {name: _rival(bench, name) for name in RIVALS[1:]}
    print(f"round {number}: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()), flush=True)
    return rates


def _worker(bench: Bench, number: int) -> float:
    with Worker(bench, bench.calm, f"bench-{number}", bench.settings.frames_topic) as worker:
        began_s, first = worker.wait_for(FRAMES / 10)
        ended_s, last = worker.wait_for(FRAMES * 9 / 10)
    return (last - first) / (ended_s - began_s)


def _rival(bench: Bench, name: str) -> float:
    settings = bench.settings
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.rivals", name]
    ended = subprocess.run(
        [*program, str(bench.calm), settings.bootstrap, settings.frames_topic, str(FRAMES)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    return float(json.loads(ended.stdout.splitlines()[-1])["frames_per_second"])
