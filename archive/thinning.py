"""Thinning: which frames of many stand for all of them.

Frames are put in an order of which every beginning is a good choice: by turns the one that is farthest in operating
state, and the one that is farthest in time, from all before it (greedy k-centre; Gonzalez, "Clustering to minimize the
maximum intercluster distance", 1985). So a state that was there for a few frames has one of them among the first, and
what was there for long is spread over all of its time. Ties go by the frame's id, which is a hash, and all arithmetic
is in whole numbers: whoever orders the same frames gets the same order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from archive.entries import DAY_US, HOUR_US, ArchiveEntry, day_begins_us
from archive.operating_states import Int64, vectors

MOST_ORDERED: Final = 1000  # more are never ordered by distance: the rest follows by the hash


def order(entries: Iterable[ArchiveEntry], most: int = MOST_ORDERED) -> list[ArchiveEntry]:
    """Return frames of one stream, the best to keep first; the cost is at most ``most`` distances each.

    Args:
        entries: In any order.
        most: So many are chosen by distance; the rest follows by the hash.
    """
    hashed = sorted(entries, key=lambda entry: entry.frame_id)
    if len(hashed) < 2:
        return hashed
    state = vectors(hashed)
    times = np.array([[entry.recorded_us // 1000] for entry in hashed], np.int64)
    times -= times.min()
    chosen = _farthest((state, times), min(most, len(hashed)))
    left = set(range(len(hashed))).difference(chosen)
    return [hashed[index] for index in (*chosen, *sorted(left))]


def _farthest(spaces: Sequence[Int64], count: int) -> list[int]:
    """Return rows in the order in which they are chosen, the first row first, by turns in each of the spaces.

    Squared distances stay far below 2**63: 19 columns of at most some thousands, or one of milliseconds of a day.
    """
    chosen = [0]
    nearest = [_squares(space, 0) for space in spaces]
    while len(chosen) < count:
        turn = nearest[(len(chosen) - 1) % len(spaces)]
        index = int(turn.argmax())
        if turn[index] <= 0:  # all are like a chosen one, in this respect
            others = [one for one in nearest if one.max() > 0]
            index = int(others[0].argmax()) if others else next(iter(set(range(len(turn))).difference(chosen)))
        chosen.append(index)
        for distance, space in zip(nearest, spaces, strict=True):
            np.minimum(distance, _squares(space, index), out=distance)
            distance[index] = -1
    return chosen


def _squares(space: Int64, index: int) -> Int64:
    away = space - space[index]
    found: Int64 = np.einsum("nd,nd->n", away, away)
    return found


def by_stream(entries: Iterable[ArchiveEntry]) -> dict[str | None, list[ArchiveEntry]]:
    """Return a machine's frames by source."""
    found: defaultdict[str | None, list[ArchiveEntry]] = defaultdict(list)
    for entry in entries:
        found[entry.source].append(entry)
    return dict(found)


def thin(entries: Sequence[ArchiveEntry], most: int, before_us: int) -> list[ArchiveEntry]:
    """Return which of a machine's frames of one day stay.

    Of each stream's hours that have ended by ``before_us``, ``most`` frames stay; once the day has ended by then,
    ``most`` of all of them. Since a day is chosen from what its hours kept, it doesn't matter how often this is called
    meanwhile.

    Args:
        entries: Without those that are pinned.
        most: Frames of a stream and day, at least 1.
        before_us: Frames of hours that ended later all stay, microseconds since the epoch.
    """
    kept: list[ArchiveEntry] = []
    for stream in by_stream(entries).values():
        by_hour: defaultdict[int, list[ArchiveEntry]] = defaultdict(list)
        for entry in stream:
            by_hour[entry.recorded_us // HOUR_US].append(entry)
        own: list[ArchiveEntry] = []
        for hour, some in sorted(by_hour.items()):
            over = (hour + 1) * HOUR_US <= before_us and len(some) > most
            own += order(some, most)[:most] if over else some
        if len(own) > most and day_begins_us(own[0].day) + DAY_US <= before_us:
            own = order(own, most)[:most]
        kept += own
    return kept
