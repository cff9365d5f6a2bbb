"""What a worker's memory does over many frames. ``WHIRR_BENCH_MEMORY_FRAMES`` sets how many."""

from __future__ import annotations

import asyncio
import os

from benchmarks.environment import Bench, Worker, fill, settings_for
from stream_app.worker.topic_setup import ensure_topics

FRAMES = int(os.environ.get("WHIRR_BENCH_MEMORY_FRAMES", "100000"))
TOPIC = "bench-memory"


def measure(bench: Bench) -> dict[str, float]:
    """Feed frames while the worker takes them, so that they need not all be kept.

    While there is a backlog the worker reads ahead until its buffers are full, which may take some ten thousand frames;
    what counts comes after. Peaks are compared, for what it holds at one moment varies by some tens of megabytes.

    Returns:
        ``rss_mb``, the most resident memory that the worker and its computing process had over the last two fifths of
        the frames; ``rss_growth_mb``, how much more that was than over the two fifths before. The first fifth is left
        out.
    """
    asyncio.run(ensure_topics(settings_for(bench, TOPIC)))
    with Worker(bench, bench.calm, TOPIC, TOPIC) as worker:
        worker.wait_until_ready()
        asyncio.run(fill(bench, TOPIC, FRAMES))
        before_mb, after_mb = (_peak_mb(worker, begin, begin + 20) for begin in (10, 30))
    return {"rss_mb": after_mb, "rss_growth_mb": after_mb - before_mb}


def _peak_mb(worker: Worker, begin: int, end: int) -> float:
    """Return the most memory between two fiftieths of the frames."""
    peak_mb = 0.0
    for step in range(begin, end + 1):
        worker.wait_for(step * FRAMES / 50)
        peak_mb = max(peak_mb, worker.rss_mb())
    return peak_mb
