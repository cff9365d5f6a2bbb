"""Settings of the alert rule tried a second, on the scores of 100,000 frames of fifty machines.

The unit of the ratio is numpy's sorting of the same scores, in turns and by processor time: ``sweep_vs_sort`` is how
many settings are tried, and judged by the labels, in the time of a hundred such sorts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from backtest.streams import ANOMALY, NORMAL, ScoredStream
from backtest.sweep.grid import Grid
from backtest.sweep.tried_settings import try_settings

MACHINES, FRAMES = 50, 2000
ROUNDS = 5
SORTS = 100


def measure() -> dict[str, float]:
    """Return ``sweep_settings_per_second`` and ``sweep_vs_sort``, medians over rounds; incidents at most settings."""
    grid, streams = Grid(), _streams()
    scores = np.concatenate([stream.ratio for stream in streams])
    rates, found = [], []
    for _ in range(ROUNDS):
        sorted_s = _cpu_s(lambda: [np.sort(scores) for _ in range(SORTS)])
        began_s = time.perf_counter()
        tried_s = _cpu_s(lambda: try_settings(streams, grid))
        rates.append(len(grid) / (time.perf_counter() - began_s))
        found.append(len(grid) * sorted_s / tried_s)
    return {"sweep_settings_per_second": statistics.median(rates), "sweep_vs_sort": statistics.median(found)}


def _cpu_s(call: Callable[[], object]) -> float:
    began_s = time.process_time()
    call()
    return time.process_time() - began_s


def _streams() -> list[ScoredStream]:
    rng = np.random.default_rng(0)
    streams = []
    start_us = np.arange(FRAMES) * 1_000_000
    scored = np.zeros(FRAMES, np.int8)
    for number in range(MACHINES):
        ratio = rng.lognormal(-0.7, 0.3, FRAMES)
        label = np.full(FRAMES, NORMAL, np.int8)
        if number % 5 == 0:
            ratio[FRAMES * 3 // 4 :] *= 2
            label[FRAMES * 3 // 4 :] = ANOMALY
        name, flat = f"machine-{number}", scored.astype(bool)
        streams.append(ScoredStream(name, "", 1.0, start_us, np.ones(FRAMES), ratio, label, scored, flat, start_us))
    return streams
