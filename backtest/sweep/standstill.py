"""False alerts of machines that stand still, which no number of the rule prevents: a running level does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from backtest.streams import NORMAL, ScoredStream
from backtest.sweep.grid import DEFAULT
from backtest.sweep.incidents import Levels

QUIETER_DB: Final = 12.0  # than usual


class Standstill(NamedTuple):
    """A machine's false alerts that open while it is quiet.

    Attributes:
        machine: Whose.
        false_alerts: How many, by the default rule.
        quiet_dbfs: How loud it is then, at most.
        usual_dbfs: How loud its normal frames usually are.
    """

    machine: str
    false_alerts: int
    quiet_dbfs: float
    usual_dbfs: float

    @property
    def running_dbfs(self) -> int:
        """A level between the two, for its route."""
        return round((self.quiet_dbfs + self.usual_dbfs) / 2)


def standstills(streams: Iterable[ScoredStream]) -> list[Standstill]:
    """Return the machines whose false alerts open while they are much quieter than usual."""
    found = []
    for stream in streams:
        moving = stream.moving
        normal = stream.label[moving] == NORMAL
        if not len(stream.level_dbfs) or not normal.any():
            continue
        level = stream.level_dbfs[moving]
        usual = float(np.median(level[normal]))
        spans = Levels.of([stream.ratio[moving]]).incidents(*DEFAULT[1:])
        quiet = [float(level[at]) for at, _ in spans if normal[at] and level[at] < usual - QUIETER_DB]
        if quiet:
            found.append(Standstill(stream.machine, len(quiet), max(quiet), usual))
    return found
