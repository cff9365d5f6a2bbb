"""What became of a machine's live scores, hour by hour: all that thresholds learn from, in space that doesn't grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from schemas import Thresholds
from trainer.learning.drift import DAY_US, LEAST_OF_A_DAY
from trainer.learning.learning_rule import HOUR_US
from trainer.learning.spans import Span
from trainer.live_days import MOST_DAYS, LiveDay

_KEPT_HOURS: Final = 24 * MOST_DAYS


@dataclass(slots=True)
class _Hour:
    frames: int = 0
    opening: float = 0.0
    total: float = 0.0
    standardised: int = 0


class LiveScores:
    """The scores that the models which served gave a machine's frames.

    Hours, so that what turns out to be a fault, or nobody's business to learn, can be left out afterwards.

    Args:
        k, n: Of the rule by which the machine alerts.
    """

    def __init__(self, k: int, n: int) -> None:
        self._k, self._n = k, n
        self._hours: dict[int, _Hour] = {}
        self._recent: dict[str | None, deque[float]] = {}

    def add(self, at_us: int, source: str | None, score: float, thresholds: Thresholds) -> None:
        """Take the score of one frame, recorded at ``at_us``, with the machine's thresholds of the model behind it."""
        share = score / thresholds.decision_threshold
        recent = self._recent.setdefault(source, deque(maxlen=self._n))
        recent.append(share)
        hour = self._hours.setdefault(at_us // HOUR_US, _Hour())
        hour.frames += 1
        if len(recent) >= self._k:
            hour.opening = max(hour.opening, sorted(recent)[-self._k])
        if (test := thresholds.early) is not None:
            hour.total += min((score - test.centre) / test.scale, test.most)
            hour.standardised += 1
        if len(self._hours) > _KEPT_HOURS:
            del self._hours[min(self._hours)]

    def days(self, from_us: int, left_out: Iterable[Span]) -> tuple[LiveDay, ...]:
        """Return the days since a moment, without hours any part of which is in what is left out, in order."""
        spans = list(left_out)
        found: dict[int, _Hour] = {}
        for number, hour in sorted(self._hours.items()):
            own = Span(number * HOUR_US, (number + 1) * HOUR_US)
            if own.from_us < from_us or any(one.meets(own) for one in spans):
                continue
            day = found.setdefault(own.from_us // DAY_US, _Hour())
            day.frames += hour.frames
            day.opening = max(day.opening, hour.opening)
            day.total += hour.total
            day.standardised += hour.standardised
        return tuple(
            LiveDay(
                day=number,
                frames=day.frames,
                opening=day.opening,
                mean=day.total / day.standardised if day.standardised else None,
            )
            for number, day in found.items()
            if day.frames >= LEAST_OF_A_DAY and day.opening > 0
        )
