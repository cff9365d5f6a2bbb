"""When incidents open and close under a rule, for many rules on the same scores.

The worker steps its latch frame by frame (:mod:`stream_app.pipeline.rule`). Here the same answer comes from where the
score exceeds a level: the t-th frame that does can open an incident if it and the k - 1 before it lie within n frames,
and after the last incident; an incident closes at the first frame that ends a run of m below the lower level.
All streams are laid end to end, and every stream under every rule goes from incident to incident in step with the
others, so that a step is two searches for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backtest.streams import IncidentSpan

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Rule = tuple[int, int, int, float]
_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What rules of one threshold are tried on.

    Attributes:
        ratio: Scores as multiples of the threshold, the streams end to end; float64 [n].
        starts: Where each stream begins, ascending; int64 [streams].
    """

    ratio: Floats
    starts: Indices

    @classmethod
    def of(cls, ratios: Sequence[Floats]) -> Levels:
        """Return the levels of streams, each float64 [n]."""
        lengths = np.array([0, *map(len, ratios)], np.int64)
        return cls(np.concatenate([np.empty(0), *ratios]), np.cumsum(lengths)[:-1])

    def above(self, factors: Sequence[float]) -> Levels:
        """Return the levels of thresholds that are so many times as high, one after the other, end to end."""
        ratio = np.concatenate([self.ratio / factor for factor in factors])
        return Levels(ratio, np.concatenate([self.starts + len(self.ratio) * index for index in range(len(factors))]))

    def incidents(self, k: int, n: int, m: int, hysteresis: float) -> list[IncidentSpan]:
        """Return the incidents of a rule, in order; see :class:`whirr.settings.Route` for its numbers."""
        (spans,) = self.incidents_of([(k, n, m, hysteresis)])
        return [IncidentSpan(opened, until) for opened, until in spans.tolist()]

    def incidents_of(self, rules: Sequence[Rule]) -> list[Indices]:
        """Return the incidents of each of many rules, in order.

        Args:
            rules: Each with its k, n, m and hysteresis.

        Returns:
            For each rule its incidents as :class:`backtest.streams.IncidentSpan` has them, int64 [incident, 2].
        """
        frames, streams = len(self.ratio), len(self.starts)
        exceeds = self.ratio > 1.0
        exceeding = np.flatnonzero(exceeds)
        exceeding_before = np.concatenate([[0], np.cumsum(exceeds)])
        openings, opening_row = self._openings(exceeding, rules)
        closings, closing_row = self._closings(rules)
        frame_of = np.append(exceeding, frames)
        ends = np.append(self.starts[1:], frames)

        # A chain is one stream under one rule.
        chain = np.arange(len(rules) * streams)
        free_from = np.tile(self.starts, len(rules))  # the first frame that counts towards the next incident
        found: list[tuple[Indices, ...]] = [(chain[:0],) * 3]
        k, m = (np.array([rule[index] for rule in rules], np.int64) for index in (0, 2))
        while len(chain):
            rule, stream = np.divmod(chain, streams)
            # The k-th frame above the threshold from there on is the first that may open the next one.
            row = opening_row[rule] * len(exceeding)
            place = openings.searchsorted(row + exceeding_before[free_from] + k[rule] - 1)
            opened = frame_of[np.minimum(openings[place] - row, len(exceeding))]
            opens = opened < ends[stream]
            chain, rule, opened, end = chain[opens], rule[opens], opened[opens], ends[stream[opens]]
            row = closing_row[rule] * frames
            until = closings[closings.searchsorted(row + opened + m[rule])] - row
            closes = until < end
            found.append((chain, opened, np.where(closes, until, end)))
            chain, free_from = chain[closes], until[closes] + 1
        chain, opened, until = (np.concatenate(one) for one in zip(*found, strict=True))
        order = np.argsort(chain, kind="stable")
        spans = np.column_stack([opened, until])[order]
        borders = np.searchsorted(chain[order], np.arange(len(rules) + 1) * streams)
        return [spans[begin:end] for begin, end in pairwise(borders.tolist())]

    def _openings(self, exceeding: Indices, rules: Sequence[Rule]) -> tuple[Indices, Indices]:
        """Return which exceeding frames have k within n frames of their stream, and each rule's row.

        The first value holds ``row * len(exceeding) + index`` for all that do, ascending, and one that is never
        reached.
        """
        pairs = list(dict.fromkeys(rule[:2] for rule in rules))
        stream = np.searchsorted(self.starts, exceeding, side="right")
        opens = np.zeros((len(pairs), len(exceeding)), bool)
        for row, (k, n) in enumerate(pairs):
            last = max(0, len(exceeding) - k + 1)
            near, same = exceeding[k - 1 :] - exceeding[:last] < n, stream[k - 1 :] == stream[:last]
            opens[row, k - 1 :] = near & same
        return np.append(np.flatnonzero(opens), _NEVER), np.array([pairs.index(rule[:2]) for rule in rules], np.int64)

    def _closings(self, rules: Sequence[Rule]) -> tuple[Indices, Indices]:
        """Return which frames end at least m in a row below the closing threshold, and each rule's row.

        The first value is like that of :meth:`_openings`. A run may reach back into the stream before, but an incident
        asks for one that began after it opened.
        """
        pairs = list(dict.fromkeys(rule[2:] for rule in rules))
        index = np.arange(len(self.ratio))
        runs: dict[float, Indices] = {}
        closes = np.zeros((len(pairs), len(index)), bool)
        for row, (m, hysteresis) in enumerate(pairs):
            if hysteresis not in runs:
                last_above = np.maximum.accumulate(np.where(self.ratio < hysteresis, -1, index))
                runs[hysteresis] = index - last_above
            closes[row] = runs[hysteresis] >= m
        return np.append(np.flatnonzero(closes), _NEVER), np.array([pairs.index(rule[2:]) for rule in rules], np.int64)
