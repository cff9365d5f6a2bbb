"""Faust's Kafka transport, with what Faust gives no setting for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from schemas.frame import FrameRecord
from stream_app.worker.backpressure import size_of
from stream_app.worker.offset_tracker import FetchedFrame
from whirr.fetching import READ_COMMITTED, known_end, unreadable_of

FETCH_WAIT_MS = 20
IDLE_FETCH_WAIT_MS = 250
FETCH_BYTES = 4 * 1024 * 1024  # of all partitions; more would leave the processor's cache before it is looked at
_SEEK_S = 30.0
_TOGETHER_FRAMES = 128
_TOGETHER_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The consumer's thread, with a short fetch wait while there is something to do.

    aiokafka sends one fetch at a time to each broker and leaves partitions out whose last records are not consumed
    yet. Their next records wait until that fetch returns; with Faust's 1.5 s a busy partition beside idle ones
    stands still for as long. A fetch that leaves none out may wait longer: whatever comes ends it.
    """

    logger = logging.getLogger("faust.whirr.thread")

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._fetch_max_bytes = FETCH_BYTES
        consumer._isolation_level = READ_COMMITTED
        return consumer

    def highwater(self, tp: TP) -> int | None:
        """Return where a partition ends for those who read what is committed, as the last fetch told it."""
        return known_end(self._ensure_consumer(), tp)

    def stored(self, tp: TP) -> int | None:
        """Return where a partition ends, with what is not committed yet; as the last fetch told it."""
        found: int | None = self._ensure_consumer().highwater(tp)
        return found

    async def _fetch_records(self, consumer: Any, active_partitions: set[TP], *args: Any, **options: Any) -> Any:
        """Return what was fetched, after taking note of how far that goes."""
        wanted = await self._wanted_records(consumer, active_partitions, *args, **options)
        for tp, position in positions_of(assignment_of(consumer)).items():
            self.consumer.fetched(TP(*tp), wanted[tp][-1].offset if tp in wanted else None, position)
        return wanted

    async def _wanted_records(self, consumer: Any, active_partitions: set[TP], *args: Any, **options: Any) -> Any:
        """Return what was fetched of partitions that are wanted still; go back to where the rest began.

        A fetch may be under way through a whole rebalance, and read what recovery has gone back to before: of a flow
        that has stopped, or of partitions that wait for their turn (aiokafka takes all when the set of those to read,
        which Faust changes meanwhile, is empty). Faust throws that away, although the position has passed it. A
        recovery that needs it would wait for ever, and frames would never be scored.
        """
        fetched = await super()._fetch_records(consumer, active_partitions, *args, **options)
        positions = positions_of(assignment_of(consumer))
        wanted = {}
        for tp, records in fetched.items():
            if self.consumer.wants(tp):
                wanted[tp] = records
            elif positions.get(tp, -1) > records[-1].offset:  # else somebody has gone elsewhere since
                consumer.seek(tp, records[0].offset)
        return wanted

    async def on_start(self) -> None:
        """Start the consumer; its fetcher exists from then on."""
        await super().on_start()
        self.make_patient(self._ensure_consumer()._fetcher)

    def make_patient(self, fetcher: Any) -> None:
        """Let fetches that leave no partition of frames out wait longer, while the flow is active."""
        plan = fetcher._get_actions_per_node

        def patient_plan(assignment: Any) -> Any:
            planned = plan(assignment)
            for node, request in planned[0]:
                asked = {(topic, one[0]) for topic, partitions in request.topics for one in partitions}
                left_out = (tp for tp in assignment.tps if tuple(tp) not in asked)
                frames = (tp for tp in left_out if not self.consumer._is_changelog_tp(TP(*tp)))
                if self.consumer.flow_active and not any(fetcher._select_read_replica(tp) == node for tp in frames):
                    request._max_wait_ms = IDLE_FETCH_WAIT_MS
            return planned

        fetcher._get_actions_per_node = patient_plan


class Consumer(driver.Consumer):  # type: ignore[misc]
    """The consumer, which hands frames on in batches and knows what only the broker can tell.

    Through Faust a message costs ten times what it takes to read it: tasks, wake-ups, sensors. So what a fetch brought
    of a partition's frames is one message here, whose ``frames`` they are; so is what it brought of a changelog, whose
    ``states`` are the records' keys and values.

    Which offset to commit is found here, not by Faust: it takes an offset at which there is nothing (of a transaction's
    marker, or within a batch that can't be read) for a gap, which it fills with a list of all numbers in it, and never
    commits past the last one. Records must be acknowledged in the order of their offsets.
    """

    logger = logging.getLogger("faust.whirr.consumer")  # Faust's own talk, not ours

    def __init__(self, *args: Any, **options: Any) -> None:
        # By partition, the offset after the last record that was acknowledged; before the first one, where it began.
        self._done: dict[TP, int] = {}
        # By partition, the last record that was fetched for the worker (-1 for none), and the offset fetched next; what
        # lies between is for nobody, such as a transaction's marker. Written in the consumer's thread only.
        self._fetched: dict[TP, tuple[int, int]] = {}
        super().__init__(*args, **options)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def __post_init__(self) -> None:
        self._backpressure = asyncio.Event()

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch again from a partition that was held back."""
        super().on_buffer_drop(tp)
        self._backpressure.set()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Fetch again from partitions."""
        super().resume_partitions(tps)
        self._backpressure.set()

    def _to_message(self, tp: TP, record: Any) -> Any:
        message = super()._to_message(tp, record)
        message.unreadable, message.frames, message.states = unreadable_of(record), None, ()
        return message

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Yield what the next fetch brought, in batches of a partition's: a changelog's records, and frames."""
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            try:
                await self.perform_seek()
            except Exception as error:  # as Faust does: the next fetch tries again
                log.warning("going back to what was committed failed: %r", error)
            return
        generation = self.app.consumer_generation_id
        for tp, message in self._messages(records):
            # Each is handled before the next one is asked for.
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return  # the partitions go, or wait for a recovery, and are gone back in
            if active is None or tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, message

    def _messages(self, records: Mapping[Any, Sequence[Any]]) -> Iterator[tuple[TP, Any]]:
        for place, own in records.items():
            tp = TP(*place)
            if self._is_changelog_tp(tp):
                message = self._to_message(tp, own[-1])
                # A record that can't be read is told of in the log.
                message.states = [(one.key, one.value) for one in own if unreadable_of(one) is None]
                yield tp, message
                continue
            frames: list[FetchedFrame] = []
            size = 0
            for record in self._unread(tp, own):
                taken = FetchedFrame(_frame_record(record), self.app.consumer_generation_id, size_of(record))
                if frames and (len(frames) >= _TOGETHER_FRAMES or size + taken.size > _TOGETHER_BYTES):
                    yield tp, self._message_of(tp, frames)
                    frames, size = [], 0
                frames.append(taken)
                size += taken.size
            if frames:
                yield tp, self._message_of(tp, frames)

    def _unread(self, tp: TP, records: Sequence[Any]) -> Sequence[Any]:
        """Return the records that were not handed on yet, as Faust's own look at each message would say."""
        read = self._read_offset[tp]
        return records if read is None or records[0].offset >= read else [r for r in records if r.offset >= read]

    def _message_of(self, tp: TP, frames: Sequence[FetchedFrame]) -> Any:
        """Return frames of a partition as one message, at the last one's offset, without key and value."""
        last = frames[-1].record
        generation = frames[-1].generation
        message = ConsumerMessage(
            *tp, last.offset, last.timestamp_ms / 1000, 0, (), None, None, None, 0, 0, tp, generation_id=generation
        )
        message.unreadable, message.frames, message.states = None, frames, ()
        return message

    def fetched(self, tp: TP, last: int | None, position: int) -> None:
        """Take note that a partition was fetched up to ``position``; ``last`` is the last record's offset, if any."""
        before, _ = self._fetched.get(tp, (-1, -1))
        self._fetched[tp] = before if last is None else last, position

    def acknowledge(self, tp: TP, upto: int, frames: int) -> None:
        """Take note that ``frames`` more frames of a partition are answered, and so all before the offset ``upto``."""
        if tp in self._done:
            self._done[tp] = max(self._done[tp], upto)
            self._n_acked += frames

    def answered(self, topic: str) -> dict[int, int]:
        """Return, by partition, the offset before which all is answered; without those that are not begun."""
        found = {tp.partition: self._answered(tp) for tp in tuple(self._done) if tp.topic == topic}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    def past(self, tp: TP, done: int | None = None) -> int:
        """Return ``done``, the offset after a record, or one beyond it if what follows there is for nobody.

        Without ``done``, the offset before which all is answered.
        """
        if done is None:
            done = self._done.get(tp, -1)
        last, position = self._fetched.get(tp, (-1, -1))
        return max(done, position) if last < done or last < 0 else done

    def _answered(self, tp: TP) -> int | None:
        offset = self.past(tp)
        return offset if offset > 0 else None

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return [tp for tp in tuple(self._done) if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        return self._answered(tp)

    async def _add_gap(self, *_: Any) -> None:
        """Fill no gap: see the class."""

    def wants(self, tp: TP) -> bool:
        """Return whether records of a partition are taken now; those that come while it is held back are, too."""
        return self.flow_active and (tp in self._get_active_partitions() or tp in self._buffered_partitions)

    async def _wait_next_records(self, timeout: float) -> Any:
        # Faust waits for a second: for partitions that have nothing while others are held back, or for none. They
        # are let go meanwhile, and the worker runs dry.
        if self._buffered_partitions:
            timeout = FETCH_WAIT_MS / 1000
        if self.flow_active and not self._get_active_partitions():
            self._backpressure.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._backpressure.wait(), 1.0)
        return await super()._wait_next_records(timeout)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget which partitions were held back: Faust would let them in again during the next recovery."""
        self._buffered_partitions.clear()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._done.pop(tp, None)

    async def perform_seek(self) -> None:
        """Go back to the committed offset of each partition of frames, or to its beginning where there is none.

        aiokafka's ``seek_to_committed`` leaves a partition alone that has no committed offset; its records that
        were fetched before a rebalance and then dropped would not come again.
        """
        frames = {driver.ensure_aiokafka_TP(tp) for tp in self.assignment() if not self._is_changelog_tp(tp)}
        if not frames:
            return
        consumer = self._thread._ensure_consumer()
        committed = await self._ask(_SEEK_S, consumer._coordinator.fetch_committed_offsets, frames)
        offsets = {tp: committed[tp].offset if tp in committed else -1 for tp in frames}
        await self._ask(_SEEK_S, self._go_to, consumer, offsets)
        for tp, offset in offsets.items():
            # Faust's way of saying "none".
            self._read_offset[TP(*tp)] = self._committed_offset[TP(*tp)] = offset if offset > 0 else None

    async def _go_to(self, consumer: Any, offsets: Mapping[Any, int]) -> None:
        # In the consumer's thread, so that no fetch comes in between.
        self._fetched = {}
        self._done = {TP(*tp): offset for tp, offset in offsets.items()}
        await _seek(consumer, offsets)

    async def committed_offsets(self, topic: str, timeout_s: float) -> dict[int, int]:
        """Return what the broker has as committed for each assigned partition of ``topic`` that has any.

        Raises:
            TimeoutError: No answer in time.
            KafkaError: No answer.
        """
        coordinator = self._thread._ensure_consumer()._coordinator
        asked = [tp for tp in self.assignment() if tp.topic == topic]
        found = await self._ask(timeout_s, coordinator.fetch_committed_offsets, asked) if asked else {}
        return {tp.partition: meta.offset for tp, meta in found.items() if meta.offset >= 0}

    async def end_offsets(self, topic: str, timeout_s: float) -> dict[int, int]:
        """Return the offset after the last record of each assigned partition, as the broker has it.

        Raises:
            TimeoutError: No answer in time.
            KafkaError: No answer.
        """
        asked = [tp for tp in self.assignment() if tp.topic == topic]
        found = await self._ask(timeout_s, self._thread._highwaters, asked) if asked else {}
        return {tp.partition: offset for tp, offset in found.items()}

    def positions(self, topic: str) -> dict[int, int]:
        """Return the offset that each assigned partition is fetched from next."""
        found = positions_of(assignment_of(self._thread._ensure_consumer()))
        return {tp.partition: offset for tp, offset in found.items() if tp.topic == topic}

    def stored(self, topic: str, partition: int) -> int | None:
        """Return where a partition ends, with what is not committed yet; None before the first fetch."""
        return self._thread.stored(TP(topic, partition))  # type: ignore[no-any-return]

    def held_back(self, topic: str) -> set[int]:
        """Return the partitions that are not fetched from while there is no room for their frames."""
        return {tp.partition for tp in self._buffered_partitions if tp.topic == topic}

    async def commit_now(self, topic: str, offsets: Mapping[int, int], timeout_s: float) -> None:
        """Commit ``offsets`` (by partition) without asking Faust, which has forgotten them once a rebalance began.

        Raises:
            TimeoutError: No answer in time.
            KafkaError: Refused; the frames will come again.
        """
        mine = self.assignment()
        wanted = {TP(topic, p): offset for p, offset in offsets.items() if TP(topic, p) in mine}
        if wanted:
            by_tp = {driver.ensure_aiokafka_TP(tp): (offset, "") for tp, offset in wanted.items()}
            await self._ask(timeout_s, self._thread._ensure_consumer().commit, by_tp)

    async def _ask(self, timeout_s: float, function: Any, *args: Any) -> Any:
        # Not by the thread's method queue: its two workers are for fetching and for Faust's own commits.
        asked = asyncio.run_coroutine_threadsafe(function(*args), self._thread.thread_loop)
        return await asyncio.wait_for(asyncio.wrap_future(asked), timeout_s)


def _frame_record(record: Any) -> FrameRecord:
    return FrameRecord(
        record.key,
        record.value,
        record.headers or (),
        record.timestamp or 0,
        record.topic,
        record.partition,
        record.offset,
        unreadable_of(record),
    )


def assignment_of(consumer: Any) -> Any:
    """Return the assignment that an aiokafka consumer has now, or None; each rebalance makes another object."""
    subscription = consumer._subscription.subscription
    return None if subscription is None else subscription.assignment


def positions_of(assignment: Any) -> dict[Any, int]:
    """Return the offset that each partition of an assignment is read from next, where that is known."""
    if assignment is None:
        return {}
    states = {tp: assignment.state_value(tp) for tp in assignment.tps}
    return {tp: state._position for tp, state in states.items() if state is not None and state.has_valid_position}


async def _seek(consumer: Any, offsets: Mapping[Any, int]) -> None:
    for tp, offset in offsets.items():
        if offset >= 0:
            consumer.seek(tp, offset)
    beginnings = [tp for tp, offset in offsets.items() if offset < 0]
    if beginnings:
        await consumer.seek_to_beginning(*beginnings)


class Producer(driver.Producer):  # type: ignore[misc]
    """The producer, idempotent: a retry writes no record twice or out of order."""

    logger = logging.getLogger("faust.whirr.producer")

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):  # type: ignore[misc]
    """Kafka, as Whirr uses it."""

    Consumer = Consumer
    Producer = Producer
