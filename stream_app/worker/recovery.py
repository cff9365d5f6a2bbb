"""What Faust does between a rebalance and the first frame, in an order that loses none."""

from __future__ import annotations

import logging

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


class OrderlyRecovery(Recovery):  # type: ignore[misc]
    """Goes back to the committed offsets before it lets frames in.

    Faust lets them in first. What then arrives while it still asks for the committed offsets is thrown away when
    the flow resumes, although the consumer's position has passed it. And a fetch that was under way before the
    rebalance may bring frames of partitions that have gone, or whose states are not here yet: the lease, opened
    only now, keeps them out, and they come again.
    """

    logger = logging.getLogger("faust.whirr.recovery")

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Let frames in; the states of their streams are here."""
        app, consumer = self.app, self.app.consumer
        await app.on_rebalance_complete.send()
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        if app.consumer_generation_id != generation_id:
            return  # there was another rebalance, with a recovery of its own
        if consumer.assignment():
            await self._wait(consumer.perform_seek(), timeout=app.conf.broker_request_timeout)
        frames = [tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)]
        app.lease.open(generation_id, (tp.partition for tp in frames))
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_partitions(set(frames))
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()  # not waited for: they only shorten a later recovery
        app.on_rebalance_end()


class Tables(TableManager):  # type: ignore[misc]
    """Faust's tables, with that recovery."""

    logger = logging.getLogger("faust.whirr.tables")
    _recovery: Recovery | None = None

    @property
    def recovery(self) -> Recovery:
        """The service that recovers tables."""
        if self._recovery is None:
            self._recovery = OrderlyRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
