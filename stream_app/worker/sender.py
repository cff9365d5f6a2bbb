"""Sending many messages at once, and knowing that the broker has them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import murmur2

from stream_app.worker.messages import Message
from whirr.topics import MAX_DEAD_LETTER_BYTES

BATCH_BYTES = 512 * 1024  # below the 1 MiB that a topic takes unless told otherwise
MAX_REQUEST_BYTES = MAX_DEAD_LETTER_BYTES
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class Sender(Protocol):
    """Whatever takes messages and returns once all are stored."""

    async def send(self, messages: Sequence[Message]) -> list[Message]:
        """Send ``messages``, in order within a partition; raises if one may not have been stored.

        Returns:
            Those that are too large for their topic, and so are stored nowhere.
        """


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Java's and aiokafka's default partitioner (murmur2) gives a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class KafkaSender:
    """Sends by a running aiokafka producer, one prepared batch a partition.

    A batch costs a tenth of what as many ``producer.send`` calls do: they would look the topic up, choose a partition
    among a fresh list and make a future for each message.

    Args:
        producer: Returns the producer; it exists only while the worker runs.
    """

    def __init__(self, producer: Callable[[], Any]) -> None:
        self._producer = producer

    async def send(self, messages: Sequence[Message]) -> list[Message]:
        """Send ``messages`` and await the broker's acknowledgement of each.

        Returns:
            Those that are too large for their topic, and so are stored nowhere.

        Raises:
            KafkaError: At least one may not have been stored.
        """
        refused = [message for message in messages if _exceeds(message, MAX_REQUEST_BYTES)]
        again: list[Message] = []
        for batch, error in await self._send([m for m in messages if m not in refused] if refused else messages):
            if isinstance(error, _TOO_LARGE):
                (refused if len(batch) == 1 else again).extend(batch)
            elif error is not None:
                raise error
        for message in again:  # which one was it?
            refused += await self.send([message])
        return refused

    async def _send(self, messages: Sequence[Message]) -> list[tuple[list[Message], BaseException | None]]:
        """Send messages; return them by batch, each with its error, if any."""
        producer = self._producer()
        now_ms = time.time_ns() // 1_000_000
        counts = {topic: len(await producer.partitions_for(topic)) for topic in {m.topic for m in messages}}
        open_batches: dict[tuple[str, int], tuple[Any, list[Message]]] = {}
        sent: list[tuple[list[Message], asyncio.Future[Any]]] = []
        for message in messages:
            place = message.topic, _partition(message, counts[message.topic])
            batch, members = open_batches.get(place, (None, []))
            if batch is None or not _append(batch, message, now_ms):
                if batch is not None:
                    sent.append((members, await producer.send_batch(batch, place[0], partition=place[1])))
                batch, members = producer.create_batch(), []
                _append(batch, message, now_ms)  # an empty batch takes any size
                open_batches[place] = batch, members
            members.append(message)
            if _exceeds(message, BATCH_BYTES):  # what follows would be refused with it
                del open_batches[place]
                batch.close()
                sent.append((members, await producer.send_batch(batch, place[0], partition=place[1])))
                await _answered(producer, sent[-1][1])
        for place, (batch, members) in open_batches.items():
            batch.close()
            sent.append((members, await producer.send_batch(batch, place[0], partition=place[1])))
        return [(members, await _answered(producer, future)) for members, future in sent]


async def _answered(producer: Any, stored: asyncio.Future[Any]) -> BaseException | None:
    """Return what became of a batch: an error, or None once it is stored."""
    await asyncio.wait({stored})
    error = stored.exception()
    manager = producer._txn_manager
    if isinstance(error, _TOO_LARGE) and manager is not None:
        # The batch has used up numbers that the broker now waits for; an idempotent producer begins anew.
        manager._pid_and_epoch = type(manager._pid_and_epoch)(-1, -1)
        manager._pid_waiter = asyncio.get_running_loop().create_future()
        manager._sequence_numbers.clear()
    return error


def _exceeds(message: Message, limit: int) -> bool:
    """Whether a message takes more than ``limit`` bytes, of which its headers are far less than half."""
    return len(message.value or b"") + len(message.key or b"") > limit // 2 and message.size > limit


def _partition(message: Message, partitions: int) -> int:
    if message.partition is not None:
        return message.partition
    return 0 if message.key is None else partition_of(message.key, partitions)


def _append(batch: Any, message: Message, now_ms: int) -> bool:
    taken = batch.append(timestamp=now_ms, key=message.key, value=message.value, headers=list(message.headers))
    return taken is not None
