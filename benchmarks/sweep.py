"""Settings of the alert rule tried a second, on the scores of 100,000 frames of fifty machines."""

from __future__ import annotations

import time

import numpy as np

from backtest.streams import ANOMALY, NORMAL, ScoredStream
from backtest.sweep.grid import Grid
from backtest.sweep.tried_settings import try_settings

MACHINES, FRAMES = 50, 2000


def settings_per_second() -> float:
    """Return how many settings a second are judged, with incidents at most of them."""
    grid, streams = Grid(), _streams()
    began_s = time.perf_counter()
    tried = try_settings(streams, grid)
    return len(tried) / (time.perf_counter() - began_s)


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
