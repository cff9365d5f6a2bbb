"""One machine's features at one moment, as they go to the online store and to the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class FeatureRow(NamedTuple):
    """A machine's features after one frame.

    Attributes:
        machine_id: The entity.
        source: The stream that the values are from, '' for none.
        event_us: Recording time of the newest frame in the values, microseconds since the epoch, UTC.
        created_us: When that frame was scored, likewise.
        values: In the order of ``fields.FIELDS``; None for what is not known, as without a model.
    """

    machine_id: str
    source: str
    event_us: int
    created_us: int
    values: tuple[float | int | str | None, ...]


class HistorySink(Protocol):
    """Where rows are kept for good."""

    def append(self, rows: Sequence[FeatureRow]) -> None:
        """Keep rows; those of one machine come in the order of their times, and may come again after a restart.

        Raises:
            OSError: They can't be written now; the caller hands them over again.
        """
