"""Which of a machine's archived frames are learnt, and how far apart its frames come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from archive import ArchiveEntry
from archive.thinning import by_stream, order
from trainer.learning.machine_incidents import Unlearnable
from trainer.learning.spans import Span
from whirr.maintenance import Maintenance

FOR_STATES: Final = 8  # one of so many frames is chosen for its operating state, the others evenly by time
_INTERVALS: Final = 20  # fewer between frames don't tell how far apart these come
_RECENT_US: Final = 6 * 3_600_000_000


class Learnable(NamedTuple):
    """A machine's frames that may be learnt, in the order of time, and how many may not, by reason."""

    entries: list[ArchiveEntry]
    left_out: dict[str, int]


def learnable(
    entries: Sequence[ArchiveEntry],
    left_out: Sequence[Unlearnable],
    running_dbfs: float | None = None,
    maintenance: Maintenance | None = None,
) -> Learnable:
    """Return the frames no part of which lies in what is left out.

    Args:
        entries: Of the machine.
        left_out: What may not be learnt.
        running_dbfs: Quieter ones are of a machine that stands.
        maintenance: Those of a machine that is worked on are not learnt.
    """
    windows = maintenance or Maintenance()
    may: list[ArchiveEntry] = []
    reasons: Counter[str] = Counter()
    for entry in entries:
        own = Span(entry.recorded_us, max(entry.until_us, entry.recorded_us + 1))
        why: str | None = next((one.why for one in left_out if one.span.meets(own)), None)
        if why is None and windows.active(entry.machine, entry.recorded_us) is not None:
            why = "maintenance"
        if why is None and running_dbfs is not None and entry.level_dbfs < running_dbfs:
            why = "idle"
        if why is None:
            may.append(entry)
        else:
            reasons[why] += 1
    return Learnable(sorted(may, key=lambda one: one.recorded_us), dict(reasons))


def represent(entries: Sequence[ArchiveEntry], most: int) -> list[ArchiveEntry]:
    """Return so many frames that stand for all, in the order of time, the same number of each stream.

    Most are taken evenly by time, so that thresholds are those of what comes; one in eight for its operating state, so
    that none is missing which was there.

    Args:
        entries: Of one machine, in any order.
        most: At least 8.
    """
    streams = by_stream(entries)
    share = max(most // max(len(streams), 1), 1)
    chosen: set[str] = set()
    for own in streams.values():
        if len(own) <= share:
            chosen.update(one.frame_id for one in own)
            continue
        chosen.update(one.frame_id for one in order(own, share // FOR_STATES)[: share // FOR_STATES])
        rest = sorted((one for one in own if one.frame_id not in chosen), key=lambda one: one.recorded_us)
        evenly = np.linspace(0, len(rest) - 1, share - share // FOR_STATES)
        chosen.update(rest[round(place)].frame_id for place in evenly.tolist())
    return sorted((one for one in entries if one.frame_id in chosen), key=lambda one: one.recorded_us)


def usual_interval_s(entries: Sequence[ArchiveEntry]) -> float | None:
    """Return how many seconds lie between the starts of a stream's frames, the median.

    The newest frames are asked alone, where they are enough: those of which nothing has been thinned yet.

    Args:
        entries: Of one machine.

    Returns:
        None where they are too few to tell.
    """
    newest_us = max((one.recorded_us for one in entries), default=0)
    recent = [one for one in entries if one.recorded_us > newest_us - _RECENT_US]
    for some in (recent, entries):
        gaps = [gap for own in by_stream(some).values() for gap in _gaps_s(own)]
        if len(gaps) >= _INTERVALS:
            return median(gaps)
    return None


def _gaps_s(stream: Sequence[ArchiveEntry]) -> list[float]:
    times = sorted(one.recorded_us for one in stream)
    return [(after - before) / 1e6 for before, after in pairwise(times) if after > before]
