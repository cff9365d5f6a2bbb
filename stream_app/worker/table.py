"""The Faust table of stream states: what recovers them from their changelog after a rebalance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import faust
from faust.types import TP, EventT

from stream_app.worker.states import StreamStates
from whirr.settings import changelog_topic

log = logging.getLogger(__name__)

TABLE = "stream-states"  # the changelog's name has it

_BUFFERED_MESSAGES = 4  # each has all that a fetch brought of a partition

__all__ = ["TABLE", "StateTable", "changelog_topic", "make_table"]


class StateTable(faust.Table):  # type: ignore[misc]
    """A table whose records are read by Faust and written by the batch processor.

    Faust's own writes are fire and forget and need a current event, which a batch has not; so the processor sends a
    batch's states to the changelog itself, awaits the acknowledgement, and puts them into :attr:`states`.
    Recovery is Faust's, with the choice between two records of a stream made in :class:`StreamStates`.
    """

    logger = logging.getLogger("faust.whirr.table")
    states: StreamStates
    on_recovered: Callable[[], object] | None = None  # after each rebalance

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        """Apply changelog records, in order; each message has some."""
        for event in batch:
            message = event.message
            for key, value in message.states:
                self.states.restore(message.partition, key, value)

    async def on_changelog_event(self, event: EventT) -> None:
        """Notice a record fetched before the last rebalance.

        It would make Faust skip older records of its partition as already read.
        """
        if event.message.generation_id != self.app.consumer_generation_id:
            self.app.tables.recovery.active_offsets[event.message.tp] = -1

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Forget partitions that went or came; those that came are read from the changelog's beginning."""
        moved = {tp for tp in revoked | newly_assigned if tp.topic == self.changelog_topic_name}
        self.states.drop(tp.partition for tp in moved)
        for tp in moved:
            # Faust forgets a position only on a rebalance that runs to its end.
            self.app.tables.recovery.revoke(tp)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Keep the states of the partitions that this worker now has."""
        self.states.keep_only(tp.partition for tp in active_tps)
        log.info("recovered %d stream states of %d partitions", len(self.states), len(active_tps))
        if self.on_recovered is not None:
            self.on_recovered()
        await super().on_recovery_completed(active_tps, standby_tps)

    def partition_for_key(self, key: Any) -> int | None:
        """Refuse: a write that did not come from the processor would not be awaited."""
        raise NotImplementedError(f"stream states are written by the batch processor, not by table[{key!r}] = …")


def make_table(app: faust.App, partitions: int, states: StreamStates) -> StateTable:
    """Return the table, registered with ``app``; its changelog has as many partitions as the frames topic."""
    table = StateTable(
        app,
        name=TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        help="stream states",
        recovery_buffer_size=_BUFFERED_MESSAGES,
    )
    table.states = states
    app.tables.add(table)
    return table
