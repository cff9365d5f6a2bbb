"""When incidents open and close under a rule, for many rules on the same scores.

The worker steps its latch frame by frame (:mod:`stream_app.pipeline.rule`). Here the same answer comes from where the
score exceeds a level: the t-th frame that does can open an incident if it and the k - 1 before it lie within n frames,
and after the last incident; an incident closes at the first frame that ends a run of m below the lower level.
All streams are laid end to end. What thresholds, hystereses and counts share is worked out once, so a setting costs two
searches for each incident.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backtest.streams import IncidentSpan

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What rules of one threshold share.

    Attributes:
        ratio: Scores as multiples of the threshold, the streams end to end; float64 [n].
        starts: Where each stream begins, ascending; int64 [streams].
    """

    ratio: Floats
    starts: Indices
    _exceeding: Indices = field(init=False)
    _stream: Indices = field(init=False)
    _ends: list[int] = field(init=False)
    _openings: dict[tuple[int, int], list[int]] = field(init=False, default_factory=dict)
    _runs: dict[float, Indices] = field(init=False, default_factory=dict)
    _closings: dict[tuple[float, int], list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        exceeding = np.flatnonzero(self.ratio > 1.0)
        set_ = object.__setattr__  # the class is frozen
        set_(self, "_exceeding", exceeding)
        set_(self, "_stream", np.searchsorted(self.starts, exceeding, side="right") - 1)
        set_(self, "_ends", [*self.starts[1:].tolist(), len(self.ratio)])

    @classmethod
    def of(cls, ratios: Sequence[Floats]) -> Levels:
        """Return the levels of streams, each float64 [n]."""
        lengths = np.array([0, *map(len, ratios)], np.int64)
        return cls(np.concatenate([np.empty(0), *ratios]), np.cumsum(lengths)[:-1])

    def above(self, factor: float) -> Levels:
        """Return the levels of a threshold that is ``factor`` times as high."""
        return Levels(self.ratio / factor, self.starts)

    def incidents(self, k: int, n: int, m: int, hysteresis: float) -> list[IncidentSpan]:
        """Return the incidents of a rule, in order; see :class:`whirr.settings.Route` for its numbers."""
        openings, closings = self._opening(k, n), self._closing(hysteresis, m)
        exceeding, streams = self._exceeding, self._stream
        found: list[IncidentSpan] = []
        at, most = 0, len(openings)
        while at < most:
            rank = openings[at]
            opened = int(exceeding[rank])
            end = self._ends[streams[rank]]
            place = bisect_left(closings, opened + m)
            closes = place < len(closings) and closings[place] < end
            found.append(IncidentSpan(opened, closings[place] if closes else end))
            # The k-th frame above the threshold from there on is the first that may open the next one.
            free_from = closings[place] + 1 if closes else end
            at = bisect_left(openings, int(exceeding.searchsorted(free_from)) + k - 1, at + 1)
        return found

    def _opening(self, k: int, n: int) -> list[int]:
        """Return which of the exceeding frames have k within n frames of their stream."""
        if (k, n) not in self._openings:
            last = max(0, len(self._exceeding) - k + 1)
            near = self._exceeding[k - 1 :] - self._exceeding[:last] < n
            same = self._stream[k - 1 :] == self._stream[:last]
            self._openings[k, n] = (np.flatnonzero(near & same) + k - 1).tolist()
        return self._openings[k, n]

    def _closing(self, hysteresis: float, m: int) -> list[int]:
        """Return the frames that end at least m in a row below the closing threshold."""
        if (hysteresis, m) not in self._closings:
            self._closings[hysteresis, m] = np.flatnonzero(self._run(hysteresis) >= m).tolist()
        return self._closings[hysteresis, m]

    def _run(self, hysteresis: float) -> Indices:
        """Return for each frame how many in a row up to it are below the closing threshold.

        A run may reach back into the stream before, but an incident asks for one that began after it opened.
        """
        if hysteresis not in self._runs:
            index = np.arange(len(self.ratio))
            last_above = np.maximum.accumulate(np.where(self.ratio < hysteresis, -1, index))
            self._runs[hysteresis] = index - last_above
        return self._runs[hysteresis]
