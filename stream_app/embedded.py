"""Faust's transport for the embedded broker: what that broker does otherwise than Kafka.

It keeps one number a partition, raises it when a batch arrives, and stores the batch after that. A reader that comes in
between is given the batches that are stored, so where two gateways write at once it may be given offset 6 before 5 is
there. A client of Kafka takes that for a gap (compaction leaves such) and never asks for 5 again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from faust.types import TP

from stream_app import transport
from stream_app.transport import FETCH_WAIT_MS, assignment_of, positions_of

log = logging.getLogger(__name__)

PATIENCE_S = 5.0


class _Numbered(Protocol):
    offset: int


class GapGuard:
    """Cuts what was fetched of a partition where an offset is missing, so that it can be asked for once more.

    A batch whose writer was killed in between never comes, so patience ends; an idempotent or retrying writer has sent
    it again by then, with another offset.

    Args:
        patience_s: How long to wait for the same offset.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._missing: dict[TP, tuple[int, float]] = {}

    def admit(self, tp: TP, position: int, records: Sequence[_Numbered], now_s: float) -> tuple[int, int | None]:
        """Return how many of ``records`` to take, and the offset to go back to, or None.

        Args:
            tp: The partition.
            position: The offset that was to be read next.
            records: What came, in the order of their offsets.
            now_s: Monotonic time.
        """
        for index, record in enumerate(records):
            if record.offset > position and not self._gave_up(tp, position, now_s):
                return index, position
            position = record.offset + 1
        self._missing.pop(tp, None)
        return len(records), None

    def _gave_up(self, tp: TP, offset: int, now_s: float) -> bool:
        missed, since_s = self._missing.get(tp, (None, now_s))
        if missed != offset:
            since_s = now_s
        self._missing[tp] = offset, since_s
        if now_s - since_s < self._patience_s:
            return False
        log.warning("%s/%d: the embedded broker has no record at offset %d", tp.topic, tp.partition, offset)
        return True


class EmbeddedConsumerThread(transport.ConsumerThread):
    """The consumer's thread for the embedded broker."""

    logger = transport.ConsumerThread.logger

    def __post_init__(self) -> None:
        super().__post_init__()
        self._gaps = GapGuard()

    async def _fetch_records(self, consumer: Any, active_partitions: set[TP], *args: Any, **options: Any) -> Any:
        """Return what was fetched, up to the first offset that is missing."""
        assignment = assignment_of(consumer)
        before = positions_of(assignment)
        fetched = await super()._fetch_records(consumer, active_partitions, *args, **options)
        if assignment_of(consumer) is not assignment:
            return fetched  # of no use after a rebalance: every partition goes back to its committed offset
        admitted = {}
        for tp, records in fetched.items():
            position = before.get(tp, records[0].offset)
            count, missing = self._gaps.admit(TP(*tp), position, records, time.monotonic())
            if missing is not None:
                consumer.seek(tp, missing)
            if count:
                admitted[tp] = records[:count]
        return admitted

    async def _highwaters(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """Return where partitions end, from what was fetched.

        Asked for it, the embedded broker answers with the offset after the *first* record of the last batch. Recovery
        would leave the others out.
        """
        consumer = self._ensure_consumer()
        ends = await consumer.end_offsets(list(partitions))
        for tp in ends:
            while consumer.highwater(tp) is None:  # known once a first fetch has returned
                await asyncio.sleep(FETCH_WAIT_MS / 1000)
        return {TP(*tp): max(end, consumer.highwater(tp)) for tp, end in ends.items()}


class EmbeddedConsumer(transport.Consumer):
    """The consumer for the embedded broker."""

    logger = transport.Consumer.logger

    def _new_consumer_thread(self) -> EmbeddedConsumerThread:
        return EmbeddedConsumerThread(self, loop=self.loop, beacon=self.beacon)


class PlainProducer(transport.Producer):
    """The producer for the embedded broker, which knows no idempotence."""

    logger = transport.Producer.logger
    idempotent = False


class EmbeddedTransport(transport.Transport):
    """The embedded broker."""

    Consumer = EmbeddedConsumer
    Producer = PlainProducer
