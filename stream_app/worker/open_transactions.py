"""Transactions that stay open: what is stored behind the first record of one can't be read until it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from whirr.counts import counted
from whirr.fetching import ThrottledLog

log = logging.getLogger(__name__)

SHORT_S = 10.0  # as long as an ordinary transaction may take
LONG_S = 60.0


class _Stable(NamedTuple):
    stable: int
    since_s: float


class OpenTransactions:
    """Notices partitions whose end of what is committed does not move although more is stored.

    Args:
        tell: Takes a message for people.
    """

    def __init__(self, tell: Callable[[str], object] = log.warning) -> None:
        self._tell = ThrottledLog(tell)
        self._stable: dict[int, _Stable] = {}

    def hides(self, partition: int, stable: int | None, stored: int | None, now_s: float) -> bool:
        """Return whether frames may be there that nobody can see yet, so that no stream can be called silent.

        While transactions come and go nothing is hidden for long; only one that stays open hides what is behind it.

        Args:
            partition: Which.
            stable: Where what is committed ends.
            stored: Where what is stored ends.
            now_s: Monotonic time.
        """
        if stable is None or stored is None or stored <= stable:
            self._stable.pop(partition, None)
            return False
        seen = self._stable.get(partition)
        if seen is None or seen.stable != stable:
            seen = self._stable[partition] = _Stable(stable, now_s)
        age_s = now_s - seen.since_s
        if age_s > LONG_S:
            self._tell(
                f"partition {partition}: a producer's transaction has been open for {age_s:.0f} s at offset {stable}; "
                f"{counted(stored - stable, 'record waits', 'records wait')} behind it"
            )
        return age_s > SHORT_S
