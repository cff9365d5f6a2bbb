"""How far a machine has come from its anchor: the model of its first mature baseline, which is kept for ever.

Every later baseline may move a little with the machine, and many little moves are a wear that nobody noticed. So all
that is to be learnt is first scored by the anchor, and its own test for a lasting shift decides what has left it: that
is not learnt until a person says that it is normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas import Thresholds
from stream_app.pipeline.cusum import NEVER, Shift, moved

_NOTHING: Final = np.zeros(16)
_SETTLED_S: Final = 2 * 86_400.0  # an excursion that is over for so long was none; wear does not come back
RECENT: Final = 50  # frames
FOR_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a machine stands, seen from its anchor.

    Attributes:
        distance: Mean of its last frames' scores above the anchor's normal median, in standard deviations of normals.
        since_us: From when on it has left the anchor; None: it has not, or has come back two days ago or more.
        per_day: How fast the distance grows since then, deviations a day.
    """

    distance: float
    since_us: int | None = None
    per_day: float = 0.0


def departure(thresholds: Thresholds, moments_us: Sequence[int], scores: Sequence[float]) -> Departure:
    """Return where the anchor's scores of what was heard lead.

    Args:
        thresholds: The anchor's, of the machine.
        moments_us: When each frame was recorded, ascending, microseconds since the epoch.
        scores: The anchor's score of each.
    """
    if not len(scores):
        return Departure(0.0)
    test, values = thresholds.early, np.asarray(scores, np.float64)
    centre = test.centre if test is not None else float(np.median(values))
    scale = test.scale if test is not None else max(thresholds.decision_threshold - centre, 1e-12)
    standard = (values - centre) / scale
    distance = float(standard[-RECENT:].mean())
    since_us = _left(thresholds, moments_us, values)
    if since_us is None:
        return Departure(distance)
    since = np.asarray(moments_us) >= since_us
    days = (np.asarray(moments_us, np.float64)[since] - since_us) / 86_400e6
    per_day = float(np.polyfit(days, standard[since], 1)[0]) if since.sum() > 2 and days[-1] > 0 else 0.0
    return Departure(distance, since_us, per_day)


def _left(thresholds: Thresholds, moments_us: Sequence[int], scores: np.ndarray) -> int | None:
    if thresholds.early is None:
        return _left_for_days(thresholds.decision_threshold, moments_us, scores)
    shift = Shift()
    for at_us, score in zip(moments_us, scores.tolist(), strict=True):
        shift = moved(shift, score, _NOTHING, at_us, thresholds.early, _SETTLED_S)
    return shift.since_us if shift.found and shift.since_us != NEVER else None


def _left_for_days(limit: float, moments_us: Sequence[int], scores: np.ndarray) -> int | None:
    """Return since when the median of each day lies above a limit that one normal frame in twenty exceeds."""
    days = np.asarray(moments_us) // 86_400_000_000
    above = [day for day in np.unique(days) if np.median(scores[days == day]) > limit]
    last = list(np.unique(days))[-FOR_DAYS:]
    if len(last) < FOR_DAYS or not set(last) <= set(above):
        return None
    first = last[0]
    while first - 1 in above:
        first -= 1
    return int(np.asarray(moments_us)[days == first][0])
