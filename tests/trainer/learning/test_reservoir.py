"""A sample of months of scores: its size, its order, and that it favours no time."""

from __future__ import annotations

import numpy as np

from trainer.learning.reservoir import RUN, ScoreReservoir


def test_it_keeps_whole_runs_in_order_and_never_more_than_it_may() -> None:
    reservoir = ScoreReservoir(runs=8)
    for number in range(100 * RUN + 5):
        reservoir.add(float(number))
    runs = reservoir.runs()
    assert [len(run) for run in runs] == [RUN] * 8
    assert all((np.diff(run) == 1).all() and run[0] % RUN == 0 for run in runs)
    assert [run[0] for run in runs] == sorted(run[0] for run in runs)
    assert reservoir.scores == 100 * RUN + 5


def test_early_and_late_runs_are_as_likely() -> None:
    places = []
    for seed in range(200):
        reservoir = ScoreReservoir(runs=4, seed=seed)
        for number in range(40 * RUN):
            reservoir.add(float(number // RUN))
        places += [run[0] for run in reservoir.runs()]
    assert abs(np.mean(places) - 19.5) < 2.0


def test_a_pause_ends_a_run_and_drops_one_that_is_too_short() -> None:
    reservoir = ScoreReservoir()
    for _ in range(RUN // 2):
        reservoir.add(1.0)
    reservoir.pause()
    reservoir.add(2.0)
    reservoir.pause()
    assert [run.tolist() for run in reservoir.runs()] == [[1.0] * (RUN // 2)]
