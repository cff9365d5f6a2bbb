"""What a worker does with a batch of scored frames, in the order that loses nothing. Knows no Faust."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from schemas.dead_letter import DeadLetter
from schemas.frame import FrameRecord
from stream_app.encode import Encoder, Message
from stream_app.lease import Lease
from stream_app.metrics import Metrics
from stream_app.pipeline import Computed, Outcome, StreamState
from stream_app.placement import Placement
from stream_app.sender import Sender
from stream_app.states import StreamStates, state_key, stream_of

Answer = Computed | DeadLetter


class Advancing(Protocol):
    """The stateful half of the engine."""

    def advance(self, computed: Computed, state: StreamState | None, now_us: int) -> Outcome:
        """Apply a scored frame to its stream."""

    def silence(self, machine_id: str, source: str, state: StreamState, now_us: int) -> Outcome | None:
        """Return what a timer's look at a stream leads to, or None."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame taken from the topic.

    Attributes:
        record: The frame's record.
        generation: Generation of the consumer group in which it was fetched.
        ack: Marks it as done, so that its offset can be committed.
    """

    record: FrameRecord
    generation: int
    ack: Callable[[], object]


class _Stream(NamedTuple):
    partition: int
    key: bytes


class BatchProcessor:
    """Applies answers to their streams, sends what follows from them, and acknowledges the frames.

    Order within a batch: scores, alerts and dead letters until the broker has them; then the stream states until the
    changelog has them; then the frames. What fails raises, and leaves the frames unacknowledged.

    Attributes:
        next_offset: By partition, the offset after the last frame acknowledged in this generation.
    """

    def __init__(
        self,
        *,
        engine: Advancing,
        states: StreamStates,
        sender: Sender,
        lease: Lease,
        encoder: Encoder,
        metrics: Metrics,
        placement: Placement,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._engine = engine
        self._states = states
        self._sender = sender
        self._lease = lease
        self._encoder = encoder
        self._metrics = metrics
        self._placement = placement
        self._now_us = now_us
        self._busy = asyncio.Lock()
        self.next_offset: dict[int, int] = {}

    async def finish(self, batch: Sequence[Taken], answers: Sequence[Answer]) -> None:
        """Bring one batch to its end; batches come in the order in which they were taken.

        Args:
            batch: The frames, in the order of their offsets within each partition.
            answers: The engine's answer to each.

        Raises:
            KafkaError: Something could not be sent; the worker must end.
        """
        async with self._busy:
            pairs = zip(batch, answers, strict=True)
            admitted = [pair for pair in pairs if self._lease.admits(pair[0].generation, pair[0].record.partition)]
            tally = Counter({"revoked": len(batch) - len(admitted)})
            if admitted:
                messages, moved = self._apply(admitted, tally)
                await self._store(messages, moved, admitted[0][0].generation)
                self._acknowledge([taken for taken, _ in admitted])
            self._count(tally)

    async def watch(self, heard_since_us: Mapping[int, int], silent_after_s: float) -> None:
        """Raise alerts for streams from which nothing has come for a while.

        Args:
            heard_since_us: By partition that is caught up: since when (wall clock) a frame would have been seen.
            silent_after_s: The shortest silence that any route calls a fault.
        """
        async with self._busy:
            generation = self._lease.generation
            messages: list[Message] = []
            moved: dict[_Stream, StreamState] = {}
            now_us = self._now_us()
            for partition, since_us in heard_since_us.items():
                if not self._lease.admits(generation, partition):
                    continue
                for key, state in self._states.items(partition):
                    seen_us = max(state.seen_us, since_us)
                    if state.silent.incident_id or now_us - seen_us < silent_after_s * 1e6:
                        continue
                    outcome = self._engine.silence(*stream_of(key), replace(state, seen_us=seen_us), now_us)
                    if outcome is not None:
                        self._collect(outcome, _Stream(partition, key), messages, moved)
            if messages:
                await self._store(messages, moved, generation)

    async def settle(self, timeout_s: float) -> bool:
        """Begin no other batch of this generation and wait for the one in flight; return whether it ended in time."""
        self._lease.close()
        try:
            async with asyncio.timeout(timeout_s), self._busy:
                return True
        except TimeoutError:
            return False

    def _apply(
        self, admitted: Sequence[tuple[Taken, Answer]], tally: Counter[str]
    ) -> tuple[list[Message], dict[_Stream, StreamState]]:
        messages: list[Message] = []
        moved: dict[_Stream, StreamState] = {}
        now_us = self._now_us()
        for taken, answer in admitted:
            if isinstance(answer, DeadLetter):
                messages.append(self._bury(answer, tally))
                continue
            partition = taken.record.partition
            stream = _Stream(partition, state_key(answer.frame.stream))
            self._placement.see(taken.record.key or b"", partition)
            state = moved.get(stream) or self._states.get(*stream)
            outcome = self._engine.advance(answer, state, now_us)
            self._collect(outcome, stream, messages, moved)
            if outcome.dead_letter is not None:
                messages.append(self._bury(outcome.dead_letter, tally))
            if outcome.score is not None:
                tally[outcome.score.status] += 1
                if missing := outcome.score.missing_before:
                    self._metrics.count_gap(answer.frame.machine_id, answer.frame.source or "", missing)
        return messages, moved

    def _bury(self, letter: DeadLetter, tally: Counter[str]) -> Message:
        tally["dead_letter"] += 1
        self._metrics.dead_letters.labels(letter.code).inc()
        return self._encoder.dead_letter(letter)

    def _collect(
        self, outcome: Outcome, stream: _Stream, messages: list[Message], moved: dict[_Stream, StreamState]
    ) -> None:
        if outcome.score is not None and (message := self._encoder.score(outcome.score)) is not None:
            messages.append(message)
        for alert in outcome.alerts:
            self._metrics.alerts.labels(alert.kind, alert.state).inc()
            messages.append(self._encoder.alert(alert))
        if outcome.state is not None:
            moved[stream] = outcome.state

    async def _store(self, messages: list[Message], moved: dict[_Stream, StreamState], generation: int) -> None:
        began = time.perf_counter()
        if messages:
            await self._sender.send(messages)
        if moved and self._lease.holds(generation):
            await self._sender.send([self._encoder.state(*stream, state) for stream, state in moved.items()])
            if self._lease.holds(generation):
                for (partition, key), state in moved.items():
                    self._states.put(partition, key, state)
        self._metrics.send_seconds.observe(time.perf_counter() - began)

    def _acknowledge(self, batch: Sequence[Taken]) -> None:
        now_s = self._now_us() / 1e6
        observe = self._metrics.latency_seconds.observe
        for taken in batch:
            if self._lease.holds(taken.generation):
                taken.ack()
                self.next_offset[taken.record.partition] = taken.record.offset + 1
                observe(max(now_s - taken.record.timestamp_ms / 1e3, 0.0))

    def _count(self, tally: Counter[str]) -> None:
        for outcome, frames in tally.items():
            if frames:
                self._metrics.frames.labels(outcome).inc(frames)
