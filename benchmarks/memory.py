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

    Returns:
        ``rss_mb``, the resident memory of the worker and its computing process at the end; ``rss_growth_mb``, how much
        of that came over the last four fifths of the frames.
    """
    asyncio.run(ensure_topics(settings_for(bench, TOPIC)))
    with Worker(bench, bench.calm, TOPIC, TOPIC) as worker:
        worker.wait_until_ready()
        asyncio.run(fill(bench, TOPIC, FRAMES))
        worker.wait_for(FRAMES / 5)
        before_mb = worker.rss_mb()
        worker.wait_for(FRAMES)
        after_mb = worker.rss_mb()
    return {"rss_mb": after_mb, "rss_growth_mb": after_mb - before_mb}
