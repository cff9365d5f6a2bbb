"""What is kept of a machine, as far as its learning asks: recordings in the archive, statistics in Feast's history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from archive import Archive, ArchiveEntry
from archive.operating_states import band_edges_hz
from feature_repo import fields
from schemas import Band
from schemas.times import MICROSECONDS
from stream_app.pipeline.alert_builder import band_ranges
from stream_app.pipeline.statistics import STATISTICS
from trainer.learning.drift import DAY_US, LEAST_OF_A_DAY, DailyMedians, Drift, drifts
from trainer.learning.spans import Span
from trainer.learning.stability import share_of_new

NORMAL = "normal"


class KeptHistory:
    """The archive and the features' history.

    Args:
        archive: Of recordings.
        features: Folder of the features' history; one that is missing holds nothing.
        false_drifts_per_30_days: Promised, of all statistics of a machine together.
        now_us: Wall clock, microseconds since the epoch.
    """

    def __init__(
        self, archive: Archive, features: Path, false_drifts_per_30_days: float, now_us: Callable[[], int]
    ) -> None:
        self._archive, self._features = archive, features
        self._allowed, self._now_us = false_drifts_per_30_days, now_us

    def share_of_new(self, machine_id: str, from_us: int) -> float:
        """Return how much of what came last is unlike all before, by coarse spectrum, level, speed and load.

        Raises:
            ServiceUnavailable: The archive can't be reached.
        """
        entries = sorted(self._archive.entries(machine_id, from_us), key=lambda one: one.recorded_us)
        bands = max((len(one.spectrum) for one in entries), default=0)
        return share_of_new(np.array([_quantities(one, bands) for one in entries]).reshape(len(entries), bands + 3))

    def keep(self, machine_id: str, span: Span, why: str) -> None:
        """Keep what was heard in a time for good, beyond all quotas; done again, it changes nothing.

        Raises:
            ServiceUnavailable: The archive can't be reached.
        """
        self._archive.pin(machine_id, span.from_us, span.until_us, why)

    def drifts(self, machine_id: str, baseline: Span) -> Sequence[Drift]:
        """Return which of the 13 statistics have drifted from a baseline, by the days on which all was normal."""
        from feature_repo.history import History

        if not self._features.is_dir():
            return []
        start = datetime.fromtimestamp(baseline.from_us / MICROSECONDS, UTC)
        table = History(self._features).rows(start=start, machines=[machine_id], columns=[*STATISTICS, "alert_state"])
        normal = np.array([state == NORMAL for state in table["alert_state"].to_pylist()], bool)
        times_us = table[fields.EVENT_TIMESTAMP].cast("int64").to_numpy()[normal]
        values = np.stack([table[name].to_numpy() for name in STATISTICS], axis=1)[normal]
        by_day = DailyMedians(STATISTICS)
        for place in np.argsort(times_us, kind="stable"):
            by_day.add(int(times_us[place]), values[place].tolist())
        days, medians = by_day.days()
        named = {name: medians[:, number] for number, name in enumerate(STATISTICS)}
        until_us = baseline.until_us
        learnt = 0 if until_us is None else int(np.count_nonzero((days + 1) * DAY_US <= until_us))
        return drifts(days, named, false_per_30_days=self._allowed, reference=learnt)

    def moved_bands(self, machine_id: str, from_us: int, since_us: int) -> tuple[Band, ...]:
        """Return the bands whose level in the archived recordings is another since a moment, most moved first.

        A band's part is by how much its median level has moved, up or down, in the spread of its level before.

        Args:
            machine_id: Whose.
            from_us: What was recorded from then on until ``since_us`` is compared with, microseconds since the epoch.
            since_us: What was recorded from then on is.

        Raises:
            ServiceUnavailable: The archive can't be reached.
        """
        entries = self._archive.entries(machine_id, from_us)
        if not entries:
            return ()
        rate_hz = Counter(one.rate_hz for one in entries).most_common(1)[0][0]
        alike = [one for one in entries if one.rate_hz == rate_hz and one.spectrum]
        before = np.array([one.spectrum for one in alike if one.recorded_us < since_us], np.float64)
        since = np.array([one.spectrum for one in alike if one.recorded_us >= since_us], np.float64)
        if min(len(before), len(since)) < LEAST_OF_A_DAY:
            return ()
        moved = np.abs(np.median(since, axis=0) - np.median(before, axis=0))
        parts = moved / np.maximum(before.std(axis=0), 1.0)  # levels are whole dB
        if not (total := float(parts.sum())) > 0:
            return ()
        return band_ranges(parts / total, band_edges_hz(rate_hz))


def _quantities(entry: ArchiveEntry, bands: int) -> list[float]:
    known = [float(power) for power in entry.spectrum]
    rpm, load = (np.nan if number is None else number for number in entry.condition)
    return [*known, *[np.nan] * (bands - len(known)), entry.level_dbfs, rpm, load]
