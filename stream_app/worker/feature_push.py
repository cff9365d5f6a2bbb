"""The worker's side of the pushing process: what has moved is handed over once a second, whatever the store does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from feature_repo.push.push_metrics import PushMetrics
from feature_repo.push.push_process import PushProcess
from feature_repo.rows import FeatureRow
from schemas.errors import FrameRejected
from stream_app.pipeline import Router, StreamState, newest_of, state_header
from stream_app.worker.feature_row import feature_row
from stream_app.worker.states import StreamStates, stream_of
from whirr.retries import Backoff
from whirr.settings import Settings

log = logging.getLogger(__name__)

DRAIN_S = 2.0  # a rebalance waits no longer for the store
HUNG_S = 120.0
REFRESH_S = 60.0
_BACKOFF_S = (1.0, 60.0)
_AT_ONCE = 100


class _Moved(NamedTuple):
    key: bytes
    state: StreamState | bytes  # unpacked, or as the changelog has it
    recovered: bool


class FeaturePush:
    """Keeps the newest stream of each machine that moved, and hands it to a process that writes it to Feast.

    Nothing here waits for the store: what moves while the other process is busy replaces what it finds.

    Args:
        settings: Which store, and how often.
        states: All streams of this worker's partitions.
        router: Returns the routing table in force.
        metrics: Where counts go.
    """

    def __init__(
        self, settings: Settings, states: StreamStates, router: Callable[[], Router], metrics: PushMetrics
    ) -> None:
        self._settings = settings
        self._states = states
        self._router = router
        self._metrics = metrics
        self._newest: dict[bytes, tuple[int, bytes]] = {}
        self._moved: dict[bytes, _Moved] = {}
        self._process: PushProcess | None = None
        self._offering: asyncio.Task[None] | None = None

    def offer(self, key: bytes, state: StreamState | bytes, recovered: bool = False) -> None:
        """Note that a stream's state has moved and is stored in the changelog.

        Of a machine's streams the one with the newest frame counts; of two with the same time, the first by name.
        """
        machine = key.partition(b"\0")[0]
        own_us = newest_of(state)
        newest_us, newest_key = self._newest.get(machine, (own_us, key))
        if (own_us, newest_key) < (newest_us, key):
            return
        self._newest[machine] = (own_us, key)
        waiting = self._moved.get(machine)
        # What is new goes into the history, too; what is recovered has been there.
        self._moved[machine] = _Moved(key, state, recovered and (waiting is None or waiting.recovered))

    def forget(self, key: bytes) -> None:
        """Forget a stream that has been silent for long; what the store has of its machine stays there."""
        machine = key.partition(b"\0")[0]
        if self._newest.get(machine, (0, b""))[1] == key:
            del self._newest[machine]

    def offer_all(self) -> None:
        """Offer every state that this worker has, in small portions; what the store has already is not written again.

        That is done after a rebalance, when the store is back, and now and then: it writes what another worker had no
        time to write, and puts right what one wrote late, or what a store lost that came back empty.
        """
        if self._offering is not None:
            self._offering.cancel()
        self._offering = asyncio.create_task(self._offer_all(), name="offer features")

    async def _offer_all(self) -> None:
        count = 0
        for partition in self._states.partitions():
            for key, state in self._states.items(partition):
                if state_header(state).frames:
                    self.offer(key, state, recovered=True)
                count += 1
                if count % _AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def drain(self) -> None:
        """Hand over what has moved, and wait a moment until it is written: partitions go, or the worker stops.

        What is not written by then is forgotten here; whoever takes the partitions has it in the states.
        """
        if self._offering is not None:
            self._offering.cancel()
        moved, self._moved = self._moved, {}
        try:
            async with asyncio.timeout(DRAIN_S):
                if self._process is not None and (moved or self._process.used):
                    await self._process.drain(lambda: ("drain", *self._rows(moved)))
        except (TimeoutError, OSError):
            log.warning("features were not written within %g s before partitions go; they will be later", DRAIN_S)
        self._moved.clear()
        self._newest.clear()

    async def run(self) -> None:
        """Hand over what moves, until cancelled; start the other process, and start it again when it has gone."""
        backoff = Backoff(*_BACKOFF_S)
        while True:
            process = self._process = PushProcess(self._settings, self._on_answer)
            self.offer_all()
            began_s = time.monotonic()
            try:
                await self._feed(process)
            except (OSError, EOFError) as error:
                if time.monotonic() - began_s > HUNG_S:
                    backoff.succeeded()
                wait_s = backoff.failed()
                log.warning(
                    "the process that writes features has gone (%s); another is started in %.1f s", error, wait_s
                )
            finally:
                self._process = None
                await process.close()
            await asyncio.sleep(wait_s)

    async def _feed(self, process: PushProcess) -> None:
        offered_s = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.feature_push_interval_s)
            if process.unanswered_s > HUNG_S:
                raise OSError(f"no answer for {process.unanswered_s:.0f} s")
            if time.monotonic() - offered_s > REFRESH_S:
                offered_s = time.monotonic()
                self.offer_all()
            if self._moved and not process.busy:
                moved, self._moved = self._moved, {}
                await process.send(lambda: ("rows", *self._rows(moved)))  # noqa: B023 - sent before the next turn

    def _rows(self, moved: dict[bytes, _Moved]) -> tuple[list[FeatureRow], list[FeatureRow]]:
        """Return the rows of what has moved: new ones, and those that were recovered; runs in another thread."""
        router = self._router()
        fresh: list[FeatureRow] = []
        recovered: list[FeatureRow] = []
        for key, state, is_recovered in moved.values():
            with contextlib.suppress(FrameRejected):  # its route is no more
                unpacked = StreamState.from_bytes(state) if isinstance(state, bytes) else state
                row = feature_row(key, unpacked, router.find(stream_of(key)[0], unpacked.newest_us))
                (recovered if is_recovered else fresh).append(row)
        return fresh, recovered

    def _on_answer(self, kind: str, answer: Any) -> None:
        if kind == "waiting":
            self._metrics.pending.set(answer)
        elif kind == "report":
            self._metrics.report(answer)
            if answer.is_back:
                self.offer_all()
