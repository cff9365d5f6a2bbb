"""Whether a worker is ready, and whether it still gets anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

STALLED_EXIT_CODE = 70


class Progress:
    """Measures how long something that should catch up has not moved.

    Fed with what was wanted and what is reached, by partition: frames acknowledged and the broker's committed offset,
    or the topic's end and the position of the fetcher. Faust's own idea of what is committed also advances when
    Kafka refuses the commit, so the numbers must come from the broker.
    """

    def __init__(self) -> None:
        self._waiting_since_s: dict[int, tuple[float, float]] = {}

    def observe(self, now_s: float, wanted: Mapping[int, int], reached: Mapping[int, int]) -> float:
        """Return for how many seconds the slowest partition has waited without moving; 0 when none waits.

        Args:
            now_s: Monotonic time.
            wanted: Offsets by partition.
            reached: The same; a partition that it lacks has never moved.
        """
        waiting = {}
        for partition, goal in wanted.items():
            at = reached.get(partition, -math.inf)
            if at >= goal:
                continue
            since_s, before = self._waiting_since_s.get(partition, (now_s, at))
            waiting[partition] = (since_s if at <= before else now_s, at)
        self._waiting_since_s = waiting
        return max((now_s - since_s for since_s, _ in waiting.values()), default=0.0)

    def reset(self) -> None:
        """Start over, after a rebalance."""
        self._waiting_since_s.clear()


_REASONS = {
    "partitions_assigned": "no partitions have been assigned yet",
    "tables_recovered": "stream states are still being read",
    "models_loaded": "no models are loaded",
    "commits_moving": "acknowledged frames wait for a commit",
    "frames_answered": "frames were taken and none is answered: the computation hangs, or answers can't be sent",
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """What must hold before frames can be expected to be answered.

    Attributes:
        partitions_assigned: The group has given this worker its share (which may be none).
        tables_recovered: The stream states of that share are here.
        models_loaded: Every route has its model.
        commits_moving: What was acknowledged is committed, or about to be.
        frames_answered: Of the frames that were taken, some are answered, or none waits.
    """

    partitions_assigned: bool
    tables_recovered: bool
    models_loaded: bool
    commits_moving: bool
    frames_answered: bool

    @property
    def ready(self) -> bool:
        """Whether all of it holds."""
        return not self.reasons

    @property
    def reasons(self) -> list[str]:
        """What keeps frames from being answered, in words."""
        return [_REASONS[name] for name, holds in asdict(self).items() if not holds]

    def to_json(self, **more: Any) -> dict[str, Any]:
        """Return what /ready answers."""
        return {"ready": self.ready, "reasons": self.reasons, **asdict(self), **more}
