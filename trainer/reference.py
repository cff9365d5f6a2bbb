"""Reference statistics: what a machine's rolling statistics were while it was well, from the features' history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feature_repo import fields
from schemas import StatisticsReference, format_rfc3339
from schemas.errors import FeatureStoreError
from schemas.times import MICROSECONDS
from stream_app.pipeline.statistics import STATISTICS
from whirr.label_spans import LabelSpan

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
NORMAL = "normal"


def reference_statistics(
    folder: Path, machines: Sequence[str], now: datetime, seconds: float, faults: Sequence[LabelSpan] = ()
) -> dict[str, StatisticsReference]:
    """Return percentiles of the 13 statistics by machine, over rows whose alert state was normal.

    Idle and anomalous rows don't count, nor do those of a backfill, of which nobody knows.

    Args:
        folder: The history's.
        machines: Whose; empty for all that the history knows. Those without a normal row are left out.
        now: The end of the period.
        seconds: Its length.
        faults: When machines had one; their rows of these times don't count, whichever sensor's they are.

    Raises:
        FeatureStoreError: The history has no normal row of any of them in the period.
    """
    from feature_repo.history import History

    start = now - timedelta(seconds=seconds)
    table = History(folder).rows(
        start=start, end=now, machines=list(machines) or None, columns=[*STATISTICS, "alert_state"]
    )
    owners = np.array(table[fields.ENTITY].to_pylist(), dtype=object)
    normal = np.array([state == NORMAL for state in table["alert_state"].to_pylist()], dtype=bool)
    times_us = table[fields.EVENT_TIMESTAMP].cast("int64").to_numpy()
    for span in faults:
        until_us = span.until_us or int(now.timestamp() * MICROSECONDS) + 1
        normal &= ~((owners == span.machine) & (times_us >= span.from_us) & (times_us < until_us))
    if not normal.any():
        whose = f" of {', '.join(sorted(machines)[:5])}" if machines else ""
        raise FeatureStoreError(
            f"the history {folder} has {len(normal)} rows{whose} since {start:%Y-%m-%d %H:%M} UTC, none with the alert "
            "state 'normal'; expected what a worker wrote in a time without alerts"
        )
    values = np.stack([table[name].to_numpy() for name in STATISTICS], axis=1)
    chosen = {machine: normal & (owners == machine) for machine in sorted(set(owners[normal]))}
    return {machine: _reference(values[own], times_us[own]) for machine, own in chosen.items()}


def _reference(values: NDArray[np.float64], times_us: NDArray[np.int64]) -> StatisticsReference:
    found = np.nanpercentile(values, PERCENTILES, axis=0)
    return StatisticsReference(
        rows=len(values),
        first_at=format_rfc3339(int(times_us.min())),
        last_at=format_rfc3339(int(times_us.max())),
        percentiles={
            name: {str(number): float(found[i, j]) for i, number in enumerate(PERCENTILES)}
            for j, name in enumerate(STATISTICS)
        },
    )
