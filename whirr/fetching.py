"""How every consumer of Whirr takes records from a fetch: none stops it, and what can't be read is handed on as such.

aiokafka has no setting for how records are read, so importing this module puts :mod:`whirr.record_batches` in the place
of its own reader, for all consumers of the process: plain ones and Faust's; and :mod:`whirr.responses` in that of all
connections'. Records that can't be read come as one
:class:`UnreadableRecord` in its place among the others; whoever consumes it passes the offsets, as with any record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition, conn
from aiokafka.consumer import fetcher

from schemas import frame
from whirr.record_batches import BatchReader, Record, UnreadableRange
from whirr.responses import ResponseProtocol

log = logging.getLogger(__name__)

# After so much a partition waits for its turn; the rest is fetched and unpacked again.
_GIVEN_BYTES: Final = 4 * 1024 * 1024
_UNPACKED_BYTES: Final = 32 * 1024 * 1024
LOG_EVERY_S: Final = 60.0
READ_COMMITTED: Final = "read_committed"


@dataclass
class UnreadableRecord(ConsumerRecord):  # type: ignore[misc]
    """Stands for records that can't be read; ``offset`` is the last one's, and it has no value.

    Attributes:
        first_offset: The first one's offset.
        code: One of ``schemas.ERROR_CODES``.
        detail: What is wrong.
    """

    first_offset: int
    code: str
    detail: str


def unreadable_of(record: Any) -> frame.Unreadable | None:
    """Return why a record stands for some that can't be read, or None for any other."""
    if not isinstance(record, UnreadableRecord):
        return None
    return frame.Unreadable(record.first_offset, record.code, record.detail)


class ThrottledLog:
    """Logs the first of many like messages at once, and then how many more there were, once in a while.

    Args:
        tell: Takes the message.
        every_s: Between two messages.
        now_s: Monotonic time.
    """

    def __init__(
        self,
        tell: Callable[[str], object],
        every_s: float = LOG_EVERY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._every_s, self._now_s = tell, every_s, now_s
        self._next_s = -1.0
        self._untold = 0

    def __call__(self, message: str) -> None:
        """Say it, or count it."""
        now_s = self._now_s()
        if now_s < self._next_s:
            self._untold += 1
            return
        more = f" (and {self._untold} more like it since the last such line)" if self._untold else ""
        self._tell(message + more)
        self._next_s, self._untold = now_s + self._every_s, 0


_tell = ThrottledLog(log.warning)


class _Fetched:
    """What came of one partition, as it came; in the place of aiokafka's ``MemoryRecords``."""

    def __init__(self, data: bytes | None) -> None:
        self.data = bytes(data or b"")

    def has_next(self) -> bool:
        """Whether there is anything."""
        return bool(self.data)

    def size_in_bytes(self) -> int:
        """Return how much there is."""
        return len(self.data)


class _PartitionRecords:
    """The records of one partition; in the place of aiokafka's ``PartitionRecords``.

    Its signature is that one's; checksums are looked at always, and nothing here deserializes.
    """

    def __init__(  # noqa: PLR0917 - that one's
        self,
        tp: TopicPartition,
        records: _Fetched,
        aborted_transactions: Sequence[tuple[int, int]] | None,
        fetch_offset: int,
        key_deserializer: Any,
        value_deserializer: Any,
        _check_crcs: bool,
        isolation_level: int,
    ) -> None:
        assert key_deserializer is None
        assert value_deserializer is None
        committed_only = isolation_level == fetcher.READ_COMMITTED
        self._tp = tp
        self._reader = BatchReader(records.data, fetch_offset, (aborted_transactions or ()) if committed_only else None)
        self._found = iter(self._reader)
        self._given_bytes = 0

    def ends_at(self, end: int | None) -> None:
        """Say where the partition ends."""
        self._reader.end = end

    @property
    def next_fetch_offset(self) -> int:
        """The offset after what was given out."""
        return self._reader.position

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self

    def __next__(self) -> ConsumerRecord:
        unpacked = self._reader.unpacked_bytes
        if unpacked >= _UNPACKED_BYTES or (unpacked and self._given_bytes >= _GIVEN_BYTES):
            raise StopIteration
        one = self._next()
        return self._unreadable(one) if isinstance(one, UnreadableRange) else self._readable(one)

    def _next(self) -> Record | UnreadableRange:
        try:
            return next(self._found)
        except StopIteration:
            raise
        except Exception as error:  # whatever foreign bytes lead to, the records behind them count
            at = self._reader.position
            self._reader.position, self._found = at + 1, iter(())
            return UnreadableRange(at, at, -1, "batch_unreadable", repr(error)[:200])

    def _readable(self, one: Record) -> ConsumerRecord:
        key_bytes = -1 if one.key is None else len(one.key)
        value_bytes = -1 if one.value is None else len(one.value)
        self._given_bytes += max(key_bytes, 0) + max(value_bytes, 0)
        topic, partition = self._tp
        return ConsumerRecord(
            topic,
            partition,
            one.offset,
            one.timestamp_ms,
            one.timestamp_type,
            one.key,
            one.value,
            None,
            key_bytes,
            value_bytes,
            one.headers,
        )

    def _unreadable(self, one: UnreadableRange) -> UnreadableRecord:
        topic, partition = self._tp
        where = f"offset {one.first}" if one.first == one.last else f"offsets {one.first} to {one.last}"
        _tell(f"{topic}, partition {partition}, {where}: can't be read and is passed over ({one.code}: {one.detail})")
        nothing = (0, None, None, None, -1, -1, ())
        return UnreadableRecord(topic, partition, one.last, one.timestamp_ms, *nothing, one.first, one.code, one.detail)


class _FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """aiokafka's, which knows where the partition ends."""

    def __init__(self, tp: TopicPartition, *, assignment: Any, partition_records: _PartitionRecords, backoff: float):
        super().__init__(tp, assignment=assignment, partition_records=partition_records, backoff=backoff)
        state = assignment.state_value(tp)
        partition_records.ends_at(None if state is None else state.highwater)


def known_end(consumer: Any, place: TopicPartition) -> int | None:
    """Return where what a consumer of committed records can read ends, as its last fetch told it; None before that."""
    stable: int | None = consumer.last_stable_offset(place)
    end: int | None = consumer.highwater(place)
    return end if stable is None or stable < 0 else stable


fetcher.MemoryRecords = _Fetched
fetcher.PartitionRecords = _PartitionRecords
fetcher.FetchResult = _FetchResult
conn.AIOKafkaProtocol = ResponseProtocol
