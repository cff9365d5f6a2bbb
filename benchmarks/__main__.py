"""``make bench``: every measurement, and one JSON line at the end. Each ratio comes from one run."""

from __future__ import annotations

import orjson

from benchmarks import logmel, worker

FIGURES = (
    "logmel_vs_librosa",
    "logmel_vs_torch",
    "worker_vs_inprocess",
    "worker_vs_aiokafka",
    "worker_vs_quixstreams",
    "frames_per_second",
    "latency_ms_p50",
    "latency_ms_p99",
    "rss_growth_mb",
)


def main() -> None:
    """Print each measurement's table, then one JSON object with the figures."""
    measured = {**logmel.report(), **worker.report()}
    print(orjson.dumps({name: measured[name] for name in FIGURES}).decode())


if __name__ == "__main__":
    main()
