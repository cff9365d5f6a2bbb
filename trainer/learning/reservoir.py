"""A machine's scores of months in constant space: runs of successive scores, a uniform sample of all runs heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

RUN: Final = 32  # successive scores: how alike these are decides what a threshold must be
RUNS: Final = 128


class ScoreReservoir:
    """A uniform sample of the runs of a stream of scores, each :data:`RUN` successive ones (algorithm R).

    Whole runs are kept, not single scores: the correlation of successive ones would be lost. The same scores give the
    same sample.

    Source: J. S. Vitter, "Random sampling with a reservoir" (1985).

    Args:
        runs: So many are kept at most.
        seed: Of the choice.
    """

    def __init__(self, runs: int = RUNS, seed: int = 0) -> None:
        self._kept: list[tuple[int, NDArray[np.float64]]] = []
        self._most = runs
        self._random = np.random.default_rng(seed)
        self._current: list[float] = []
        self._ended = 0
        self.scores = 0

    def add(self, score: float) -> None:
        """Take one more score."""
        self.scores += 1
        self._current.append(score)
        if len(self._current) == RUN:
            self._keep()

    def pause(self) -> None:
        """Note that the next score doesn't follow the last one: a run ends, and one that is too short is dropped."""
        if len(self._current) >= RUN // 2:
            self._keep()
        self._current = []

    def runs(self) -> Sequence[NDArray[np.float64]]:
        """Return the runs that are kept, float64 [score], in the order in which they were heard."""
        return [run for _, run in sorted(self._kept, key=lambda one: one[0])]

    def _keep(self) -> None:
        run = np.array(self._current)
        self._current = []
        number, self._ended = self._ended, self._ended + 1
        if len(self._kept) < self._most:
            self._kept.append((number, run))
            return
        place = int(self._random.integers(self._ended))
        if place < self._most:
            self._kept[place] = number, run
