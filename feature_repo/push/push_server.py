"""The pushing process: ``python -m feature_repo.push.push_server PARENT SOCKET``, see :class:`PushProcess`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection

from feature_repo.history import HistoryWriter
from feature_repo.push.online import OnlineStore
from feature_repo.push.pusher import Pusher
from feature_repo.rows import FeatureRow, HistorySink
from feature_repo.store import history_folder
from whirr import process
from whirr.logs import configure_logging
from whirr.settings import Settings

log = logging.getLogger(__name__)

_NICENESS = 5  # scoring comes first
_IDLE_S = 3600.0
_MAX_WAITING_ROWS = 100_000


class PushServer:
    """Takes rows from the worker, writes them to history and store, and reports; one thing after the other.

    Args:
        connection: To the worker.
        pusher: Writes to the online store.
        history: Where the rows are kept for good, if anywhere.
    """

    def __init__(self, connection: Connection, pusher: Pusher, history: HistorySink | None) -> None:
        self._connection = connection
        self._pusher = pusher
        self._history = history
        self._unkept: deque[FeatureRow] = deque(maxlen=_MAX_WAITING_ROWS)
        self._history_fails = False

    def serve(self) -> None:
        """Serve until the other end is closed; then write what is left, once, if the store is at hand."""
        with contextlib.suppress(EOFError, OSError):  # the worker has gone
            while True:
                due_in_s = self._pusher.due_in_s
                if self._connection.poll(_IDLE_S if due_in_s is None else due_in_s):
                    self._handle(*self._connection.recv())
                elif due_in_s is not None:
                    self._flush()
        if self._pusher.is_connected:  # else the next worker, which has the same states, is sooner
            self._pusher.flush()

    def _handle(self, kind: str, fresh: Sequence[FeatureRow], recovered: Sequence[FeatureRow]) -> None:
        self._keep(fresh)
        self._pusher.put(recovered, recovered=True)
        self._pusher.put(fresh)
        if self._pusher.due_in_s == 0.0:
            self._flush()
        else:  # nothing to do, or the store is away and it is too early to try again
            self._connection.send(("waiting", self._pusher.pending))
        if kind == "drain":
            self._pusher.forget()
            self._connection.send(("drained", None))

    def _flush(self) -> None:
        self._connection.send(("report", self._pusher.flush()))

    def _keep(self, rows: Sequence[FeatureRow]) -> None:
        if self._history is None or not rows:
            return
        self._unkept.extend(rows)
        try:
            self._history.append(tuple(self._unkept))
        except OSError as error:
            if not self._history_fails:
                log.warning("history of features can't be written: %s; the latest %d rows wait", error, len(rows))
            self._history_fails = True
            return
        if self._history_fails:
            log.info("history of features can be written again")
        self._history_fails = False
        self._unkept.clear()


def main() -> None:
    """Serve on the socket whose descriptor is the second argument; the settings come first."""
    process.end_with(int(sys.argv[1]))
    os.nice(_NICENESS)
    os.environ.setdefault("PGCONNECT_TIMEOUT", "5")  # libpq's own default is minutes
    with Connection(int(sys.argv[2])) as connection:
        settings: Settings = connection.recv()
        configure_logging(settings.log_level)
        history = _history(settings)
        PushServer(connection, Pusher(lambda: OnlineStore.open(settings)), history).serve()
    if history is not None:
        history.close()


def _history(settings: Settings) -> HistoryWriter | None:
    if not settings.feature_keep_history:
        return None
    return HistoryWriter(
        history_folder(settings),
        every_s=settings.feature_history_every_s,
        keep_days=settings.feature_history_days or None,
    )


if __name__ == "__main__":
    main()
