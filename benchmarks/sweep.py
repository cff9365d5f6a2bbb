"""Settings of the alert rule tried a second, on the scores of 100,000 frames of fifty machines."""

from __future__ import annotations

import time

import numpy as np

from backtest.sweep.course import ANOMALY, Course
from backtest.sweep.grid import Grid
from backtest.sweep.outcome import outcomes

MACHINES, FRAMES = 50, 2000


def settings_per_second() -> float:
    """Return how many settings a second are judged, with incidents at most of them."""
    grid = Grid()
    began_s = time.perf_counter()
    tried = outcomes(_courses(), grid)
    return len(tried) / (time.perf_counter() - began_s)


def _courses() -> list[Course]:
    rng = np.random.default_rng(0)
    courses = []
    for number in range(MACHINES):
        ratio = rng.lognormal(-0.7, 0.3, FRAMES)
        label = np.zeros(FRAMES, np.int8)
        if number % 5 == 0:
            ratio[FRAMES * 3 // 4 :] *= 2
            label[FRAMES * 3 // 4 :] = ANOMALY
        courses.append(Course(f"machine-{number}", "", np.arange(FRAMES) * 1.0, np.ones(FRAMES), ratio, label))
    return courses
