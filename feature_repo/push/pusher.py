"""What is to be written, and what must not be: the latest row of every machine, never one older than the stored."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from feature_repo.rows import FeatureRow
from schemas.errors import WhirrError
from whirr.retries import Backoff

log = logging.getLogger(__name__)

CHUNK_ROWS = 1000
TRUSTED_S = 10.0
BACKOFF_S = (1.0, 30.0)


class PushTarget(Protocol):
    """Where rows go; what it raises is a WhirrError."""

    @property
    def shown(self) -> str:
        """How to speak of it."""

    def stored_us(self, machine_ids: Sequence[str]) -> dict[str, int]:
        """Return the times of the rows that are stored."""

    def push(self, rows: Sequence[FeatureRow]) -> None:
        """Write rows of different machines."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a flush did.

    Attributes:
        pushed: Rows written.
        stale: Rows dropped, since the store has newer ones.
        pending: Machines whose row is still to be written.
        seconds: How long it took.
        failed: Whether the store refused, or was away.
        is_back: Whether it had, before.
    """

    pushed: int = 0
    stale: int = 0
    pending: int = 0
    seconds: float = 0.0
    failed: bool = False
    is_back: bool = False


class Pusher:
    """Keeps the latest row of every machine until it is written.

    The times of the stored rows are read before a machine's first push, and again after a failure or a pause: another
    worker, or ``feast materialize``, may have written since. So a row that was overtaken is dropped, on stores too that
    overwrite blindly.

    Args:
        connect: Opens the store; a failed one is opened anew, since its connection may be broken for good.
        clock: Seconds that never go back.
    """

    def __init__(self, connect: Callable[[], PushTarget], clock: Callable[[], float] = time.monotonic) -> None:
        self._connect = connect
        self._clock = clock
        self._store: PushTarget | None = None
        self._pending: dict[str, FeatureRow] = {}
        self._stored_us: dict[str, int] = {}
        self._trusted_until_s = 0.0
        self._backoff = Backoff(*BACKOFF_S)
        self._next_s = 0.0
        self._trouble = ""

    @property
    def pending(self) -> int:
        """Machines whose row is still to be written."""
        return len(self._pending)

    @property
    def is_connected(self) -> bool:
        """Whether the store has been opened, and has not failed since."""
        return self._store is not None

    @property
    def due_in_s(self) -> float | None:
        """Seconds until :meth:`flush` should be called; None while there is nothing to write."""
        return max(self._next_s - self._clock(), 0.0) if self._pending else None

    def put(self, rows: Sequence[FeatureRow], recovered: bool = False) -> None:
        """Have rows written, each in place of an older one of its machine.

        Args:
            rows: Of any machines.
            recovered: They may have been written; what is stored is read anew.
        """
        for row in rows:
            if recovered:
                self._stored_us.pop(row.machine_id, None)
            waiting = self._pending.get(row.machine_id)
            if waiting is None or row.event_us >= waiting.event_us:
                self._pending[row.machine_id] = row

    def forget(self) -> None:
        """Write nothing of what is pending, and read the stored times anew: partitions went or came."""
        self._pending.clear()
        self._stored_us.clear()

    def flush(self) -> Report:
        """Write what is pending; of a failure say the first time what is wrong, and wait longer each time."""
        began_s = self._clock()
        if began_s > self._trusted_until_s:
            self._stored_us.clear()
        pushed = stale = 0
        try:
            while self._pending:
                chunk = list(self._pending.values())[:CHUNK_ROWS]
                fresh = self._fresh(chunk)
                if fresh:
                    self._opened().push(fresh)
                self._done(chunk)
                pushed, stale = pushed + len(fresh), stale + len(chunk) - len(fresh)
        except WhirrError as error:
            self._failed(error)
            return Report(pushed, stale, self.pending, self._clock() - began_s, failed=True)
        return Report(pushed, stale, 0, self._clock() - began_s, is_back=self._succeeded())

    def _opened(self) -> PushTarget:
        if self._store is None:
            self._store = self._connect()
        return self._store

    def _fresh(self, rows: Sequence[FeatureRow]) -> list[FeatureRow]:
        """Return the rows that the store has no newer one for, nor the same."""
        unread = [row.machine_id for row in rows if row.machine_id not in self._stored_us]
        if unread:
            self._stored_us.update(dict.fromkeys(unread, 0) | self._opened().stored_us(unread))
        return [row for row in rows if row.event_us > self._stored_us[row.machine_id]]

    def _done(self, rows: Sequence[FeatureRow]) -> None:
        for row in rows:
            del self._pending[row.machine_id]
            self._stored_us[row.machine_id] = max(row.event_us, self._stored_us[row.machine_id])

    def _failed(self, error: WhirrError) -> None:
        trouble = str(error)
        if trouble != self._trouble:
            log.warning("%s; scoring goes on, and the latest features of every machine are kept until then", trouble)
        self._trouble = trouble
        self._store = None
        self._stored_us.clear()
        self._next_s = self._clock() + self._backoff.failed()

    def _succeeded(self) -> bool:
        """Return whether it had failed before."""
        is_back = bool(self._trouble)
        if is_back and self._store is not None:
            log.info("%s can be used again; every machine's features are brought up to date", self._store.shown)
        self._trouble = ""
        self._backoff.succeeded()
        self._next_s = 0.0
        self._trusted_until_s = self._clock() + TRUSTED_S
        return is_back
