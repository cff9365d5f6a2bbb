"""Frames from the buffer to Kafka: in order, each acknowledged before the next, again and again until it is.

One frame is under way at a time. That keeps a sensor's frames in order through any retry, and is fast enough by far
for what one sensor records; a frame sent twice has the same identity both times.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)

from edge_agent.outgoing import FrameBuffer, OutgoingFrame
from edge_agent.timeline import Clock
from schemas.errors import AccessRefused, ServiceUnavailable, WhirrError
from whirr.counts import counted
from whirr.kafka_clients import client_options, refusal, why_not_connected
from whirr.retries import retrying
from whirr.settings import Settings, load_settings

log = logging.getLogger(__name__)
MAX_REQUEST_BYTES = 2 * 1024 * 1024
REQUEST_TIMEOUT_S = 10.0
SLOW_ACK_S = 5.0  # how long an acknowledgement may take before the agent says so
BACKOFF_S = (0.5, 15.0)


class RetryableError(Exception):
    """The frame is not acknowledged; the message says why. Sending it again may help."""


class Sink(Protocol):
    """Where frames go; it is opened again after each :class:`RetryableError`."""

    async def open(self) -> None:
        """Connect; raise :class:`RetryableError` if that does not work now."""
        ...

    async def send(self, frame: OutgoingFrame) -> None:
        """Return when the frame is acknowledged; raise :class:`RetryableError` if it is not."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class KafkaSink:
    """A topic.

    Args:
        bootstrap: The broker's addresses.
        topic: The topic.
        settings: How Kafka is reached, with TLS and a password; default: the settings in force.
    """

    def __init__(self, bootstrap: str, topic: str, settings: Settings | None = None) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._settings = settings or load_settings(kafka_bootstrap_servers=bootstrap)
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Connect; raise :class:`RetryableError` if no broker answers, ``AccessRefused`` if one refuses."""
        packing = self._settings.edge_compression
        self._producer = AIOKafkaProducer(
            **client_options(self._settings),
            acks="all",
            compression_type=None if packing == "none" else packing,
            enable_idempotence=True,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        )
        try:
            await self._producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            # The client says the same of a broker that is away and of one that refuses.
            reason = await why_not_connected(self._settings)
            raise (reason if isinstance(reason, AccessRefused) else self._translated(error)) from None

    async def send(self, frame: OutgoingFrame) -> None:
        """Return when all replicas in sync have the frame."""
        assert self._producer is not None
        try:
            await self._producer.send_and_wait(self._topic, frame.value, key=frame.key, headers=list(frame.headers))
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._translated(error) from None

    async def close(self) -> None:
        """Disconnect; a broker that is away can't keep this waiting."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            await asyncio.wait_for(producer.stop(), 5)
        except (KafkaError, OSError, TimeoutError) as error:
            log.debug("the producer did not stop cleanly: %r", error)

    def _translated(self, error: Exception) -> RetryableError | WhirrError:
        """Return what the error means here: worth another try, or not."""
        if (refused := refusal(error, self._settings, "write", f"topic {self._topic!r}")) is not None:
            return refused
        if isinstance(error, MessageSizeTooLargeError):
            return ServiceUnavailable(
                f"topic {self._topic!r} takes no frame this large: set its max.message.bytes to {MAX_REQUEST_BYTES}, "
                "or shorten the frames"
            )
        if isinstance(error, UnknownTopicOrPartitionError):
            return RetryableError(
                f"{self._bootstrap} has no topic {self._topic!r} and made none: create it, or start `whirr worker`"
            )
        if isinstance(error, _HOPELESS):
            return ServiceUnavailable(f"{self._bootstrap} refuses topic {self._topic!r}: {error!r}")
        if isinstance(error, _NO_ANSWER):
            return RetryableError(f"no Kafka answers at {self._bootstrap}")
        return RetryableError(f"Kafka at {self._bootstrap} answers {error!r}")


_NO_ANSWER = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError, OSError, TimeoutError)
_HOPELESS = (InvalidTopicError, IncompatibleBrokerVersion)


class Publisher:
    """Sends what is in the buffer until it is closed and empty.

    Args:
        sink: Where to.
        buffer: Where from; a frame leaves it when it is acknowledged.
        backlog_bytes_per_s: Most that a backlog may take of the link; None for no limit.
        clock: For waiting between tries.
        give_up_s: Fail after so long without an acknowledgement; None to go on for ever.
        acknowledged: Called with each frame that the broker has.

    Attributes:
        frames, bytes: What the broker has acknowledged.
        retries: How often a frame had to be sent anew.
    """

    def __init__(
        self,
        sink: Sink,
        buffer: FrameBuffer,
        clock: Clock,
        *,
        backlog_bytes_per_s: float | None = None,
        give_up_s: float | None = None,
        acknowledged: Callable[[OutgoingFrame], None] = lambda _frame: None,
    ) -> None:
        self._sink, self._buffer, self._clock = sink, buffer, clock
        self._backlog_bytes_per_s = backlog_bytes_per_s
        self._give_up_s = give_up_s
        self._acknowledged = acknowledged
        self._open = False
        self._alive_s = 0.0
        self.frames = 0
        self.bytes = 0
        self.retries = 0

    async def run(self) -> None:
        """Send until the buffer is closed and empty.

        Raises:
            ServiceUnavailable: The broker refuses for good, or nothing was acknowledged for ``give_up_s``.
        """
        try:
            while (frame := await self._buffer.next()) is not None:
                began_s = self._clock.elapsed_s()
                await self._deliver(frame)
                backlog = self._buffer.backlog
                await self._buffer.done()
                self.frames += 1
                self.bytes += len(frame.value)
                self._acknowledged(frame)
                if backlog:
                    await self._limit_rate(frame, began_s)
        finally:
            await self._sink.close()

    async def _limit_rate(self, frame: OutgoingFrame, began_s: float) -> None:
        """Wait after a frame of a backlog, so that it takes no more than its share of the link.

        Never longer than half of what the frame lasts: new frames wait behind the backlog, in order, so it has to
        become shorter however low the limit is.
        """
        if self._backlog_bytes_per_s is None:
            return
        share_s = min(len(frame.value) / self._backlog_bytes_per_s, (frame.end_us - frame.recorded_us) / 2e6)
        rest_s = share_s - (self._clock.elapsed_s() - began_s)
        if rest_s > 0:
            await self._clock.sleep(rest_s)

    async def _deliver(self, frame: OutgoingFrame) -> None:
        """Return when the frame is acknowledged."""
        self._alive_s = self._clock.elapsed_s()
        await retrying(RetryableError, *BACKOFF_S, self._failed, self._clock.sleep)(self._try, frame)

    async def _try(self, frame: OutgoingFrame) -> None:
        try:
            if not self._open:
                await self._with_progress_log(self._sink.open())
                self._open = True
                self._buffer.connected()
            await self._with_progress_log(self._sink.send(frame))
        except RetryableError:
            self._open = False
            await self._sink.close()
            raise

    def _failed(self, reason: Exception, _failures: int, wait_s: float) -> None:
        self.retries += 1
        self._warn(str(reason), f"next try in {wait_s:.1f} s")

    async def _with_progress_log(self, step: Coroutine[Any, Any, None]) -> None:
        """Await a step, and say so whenever it takes long: the client's own retries are silent."""
        task = asyncio.ensure_future(step)
        try:
            while not (await asyncio.wait({task}, timeout=SLOW_ACK_S))[0]:
                self._warn(f"no acknowledgement for {SLOW_ACK_S:g} s", "still trying")
        finally:
            if not task.done():
                task.cancel()
        task.result()

    def _warn(self, reason: str, following: str) -> None:
        """Log, or give up."""
        waiting = len(self._buffer)
        message = f"{reason}; {counted(waiting, 'frame waits', 'frames wait')}"
        waited_s = self._clock.elapsed_s() - self._alive_s
        if self._give_up_s is not None and waited_s >= self._give_up_s:
            raise ServiceUnavailable(f"{message}, given up after {waited_s:.0f} s")
        log.warning("%s, %s", message, following)
