"""What a worker does with a batch of scored frames, in the order that loses nothing. Knows no Faust."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from schemas.alert import Alert, AlertState
from schemas.dead_letter import DeadLetter
from stream_app.pipeline import Computed, Outcome, StreamState, silent_in_summary, state_header
from stream_app.pipeline.alert_builder import silence_summary_id
from stream_app.worker.lease import Lease
from stream_app.worker.messages import Encoder, Message
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.offset_tracker import FetchedFrame, OffsetTracker
from stream_app.worker.placement import Placement
from stream_app.worker.sender import Sender
from stream_app.worker.silence import SilentStreams
from stream_app.worker.states import StreamKey, StreamStates, state_key, stream_of
from whirr.counts import counted
from whirr.fetching import ThrottledLog

log = logging.getLogger(__name__)

Answer = Computed | DeadLetter
T = TypeVar("T")


class StatefulEngine(Protocol):
    """The stateful half of the engine."""

    def advance(self, computed: Computed, state: StreamState | None, now_us: int) -> Outcome:
        """Apply a scored frame to its stream."""

    def silence(
        self, machine_id: str, source: str, state: StreamState, watched_since_us: int, now_us: int
    ) -> Outcome | None:
        """Return what a timer's look at a stream leads to, or None."""

    def silence_due_us(self, machine_id: str, seen_us: int, watched_since_us: int) -> int | None:
        """Return when a stream last heard at ``seen_us`` is to be reported silent; None for never."""

    def forget_due_us(self, machine_id: str, seen_us: int) -> int | None:
        """Return when a stream last heard at ``seen_us`` is to be forgotten; None for never."""

    def forget(self, machine_id: str, source: str, state: StreamState, now_us: int) -> tuple[Alert, ...]:
        """Return the alerts that close what is open in a stream that is forgotten."""

    def silence_summary(self, machines: Sequence[str], **details: Any) -> Alert | None:
        """Return the alert about many streams' silence; None without any route."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many streams a worker takes: ids come from outside, and each costs memory until it is forgotten.

    Attributes:
        streams: Most streams.
        new_per_min: Most new ones a minute; after a quiet minute all at once.
        summary_from: So many that fall silent within a minute are reported by one alert.
    """

    streams: int = 300_000
    new_per_min: int = 60_000
    summary_from: int = 100


_Moved = dict[StreamKey, StreamState | bytes | None]  # bytes: no frame moved it; None: it is forgotten
_ALERTS_AT_ONCE = 200
_JOINED_AT_ONCE = 250
_LOOK_EVERY_S = 10.0


class BatchProcessor:
    """Applies answers to their streams, sends what follows from them, and acknowledges the frames.

    Order within a batch: scores, alerts and dead letters until the broker has them; then the stream states until the
    changelog has them; then the frames. What fails raises, and leaves the frames unacknowledged.

    Attributes:
        offsets: Which frames are unanswered; acknowledges the others.
        is_queued: Whether a frame of a stream waits to be computed: such a stream is not silent.
        next_offset: By partition, the offset up to which all frames are acknowledged in this generation.
    """

    def __init__(  # noqa: PLR0913 - the parts that a batch meets on its way
        self,
        *,
        engine: StatefulEngine,
        states: StreamStates,
        sender: Sender,
        lease: Lease,
        encoder: Encoder,
        metrics: WorkerMetrics,
        placement: Placement,
        limits: StreamLimits | None = None,
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
        self._limits = limits or StreamLimits()
        self._silent = SilentStreams(engine, states, self._limits.summary_from)
        self._may_be_new = float(self._limits.new_per_min)
        self._may_be_new_at_us = 0
        self._looked_at_us = 0
        self._busy = asyncio.Lock()
        self.offsets = OffsetTracker()
        self.is_queued: Callable[[int, bytes], bool] = lambda _partition, _key: False
        self._tell = ThrottledLog(log.error)
        self.next_offset: dict[int, int] = {}

    async def finish(self, batch: Sequence[FetchedFrame], answers: Sequence[Answer]) -> None:
        """Bring one batch to its end.

        Args:
            batch: The frames; those of one stream come in the order of their offsets, within a batch and from one to
                the next.
            answers: The engine's answer to each.

        Raises:
            KafkaError: Something could not be sent; the worker must end.
        """
        async with self._busy:
            admitted = []
            for taken, answer in zip(batch, answers, strict=True):
                if self._lease.admits(taken.generation, taken.record.partition):
                    admitted.append((taken, answer))
                else:
                    self.offsets.drop(taken)
            tally = Counter({"revoked": len(batch) - len(admitted)})
            if admitted:
                messages, moved = self._apply(admitted, tally)
                await self._store(messages, moved, admitted[0][0].generation)
                self._acknowledge([taken for taken, _ in admitted])
            self._count(tally)

    async def check_silence(self, watched_since_us: Mapping[int, int], silent_after_s: float | None) -> None:
        """Raise alerts for streams from which nothing has come for a while, and forget those silent for long.

        Streams that fall silent together do so over some seconds. They are looked for every 10 s (or more often, where
        silence is reported soon), and where they are very many reported by one alert.

        Args:
            watched_since_us: By partition: since when (wall clock) no frame has waited unread.
            silent_after_s: The shortest silence that any route calls a fault; None if none does.
        """
        now_us = self._now_us()
        await self._forget(watched_since_us, now_us)
        if silent_after_s is None or now_us - self._looked_at_us < min(_LOOK_EVERY_S, silent_after_s / 10) * 1e6:
            return
        self._looked_at_us = now_us
        overdue = await self._silent.overdue(watched_since_us, round(silent_after_s * 1e6), now_us)
        overdue = [stream for stream in overdue if not self.is_queued(*stream)]
        if self._silent.needs_summary(len(overdue), now_us):
            await self._alert_summary(overdue, watched_since_us, now_us)
        elif overdue:
            self._silent.note_alerts(len(overdue), now_us)
            await self._alert_each(overdue, watched_since_us, now_us)
        for incident_id, streams in self._silent.leftovers(now_us).items():
            await self._alert_each(streams, watched_since_us, now_us, was_in=incident_id)

    async def _alert_each(
        self, streams: Sequence[StreamKey], watched_since_us: Mapping[int, int], now_us: int, was_in: str = ""
    ) -> None:
        """Report silent streams one by one, some at a time; ``was_in``: the incident that they are part of so far."""
        for some in _parts(streams, _ALERTS_AT_ONCE):
            async with self._busy:
                generation = self._lease.generation
                messages: list[Message] = []
                moved: _Moved = {}
                for stream in some:
                    state = self._states.get(*stream)
                    if state is None or not self._lease.admits(generation, stream.partition):
                        continue
                    if state.silent.incident_id != was_in:
                        continue  # heard, or reported, meanwhile
                    since_us = 0 if was_in else watched_since_us.get(stream.partition, now_us)
                    outcome = self._engine.silence(*stream_of(stream.key), state, since_us, now_us)
                    if outcome is not None and outcome.state is not None:
                        self._collect(outcome, messages)
                        moved[stream] = outcome.state.to_bytes()
                if messages:
                    await self._store(messages, moved, generation)

    async def _alert_summary(
        self, streams: Sequence[StreamKey], watched_since_us: Mapping[int, int], now_us: int
    ) -> None:
        """Report the silence of many streams by one alert, and note it in each stream's state, some at a time."""
        incident_id = self._silent.open_summary(now_us)
        transition: AlertState = "opened" if incident_id is None else "updated"
        before = 0 if incident_id is None else len(self._silent.streams_of(incident_id))
        machines = [stream_of(stream.key)[0] for stream in streams[:_ALERTS_AT_ONCE]]
        for some in _parts(streams, _JOINED_AT_ONCE):
            async with self._busy:
                generation = self._lease.generation
                messages: list[Message] = []
                moved: _Moved = {}
                newest_us = 0
                for stream in some:
                    state = self._states.peek(*stream)
                    if state is None or not self._lease.admits(generation, stream.partition):
                        continue
                    if not self._silent.is_still_overdue(stream, watched_since_us[stream.partition], now_us):
                        continue
                    if incident_id is None:
                        whole = state if isinstance(state, StreamState) else StreamState.from_bytes(state)
                        incident_id = silence_summary_id(whole.frame_id)
                    newest_us = max(newest_us, state_header(state).newest_us)
                    moved[stream] = silent_in_summary(state, incident_id)
                if incident_id is None or not moved:
                    continue
                if machines:
                    messages += self._summary_alert(
                        machines,
                        incident_id=incident_id,
                        transition=transition,
                        streams=before + len(streams),
                        recorded_us=newest_us,
                        now_us=now_us,
                    )
                    machines = []  # reported once
                await self._store(messages, moved, generation)
                self._silent.joined(incident_id, now_us)

    def _summary_alert(self, machines: Sequence[str], **details: Any) -> list[Message]:
        alert = self._engine.silence_summary(machines, **details)
        if alert is None:
            return []
        self._metrics.alerts.labels(alert.kind, alert.state).inc()
        return [self._encoder.alert(alert)]

    async def _forget(self, watched_since_us: Mapping[int, int], now_us: int) -> None:
        """Look at some streams, and forget those from which nothing has come for long.

        What is open in one is closed by alerts first; then a tombstone goes to the changelog, and is acknowledged like
        any state.
        """
        full = len(self._states) >= self._limits.streams
        found = self._silent.to_forget(watched_since_us, full, now_us)
        for some in _parts(found, _ALERTS_AT_ONCE):
            async with self._busy:
                generation = self._lease.generation
                messages: list[Message] = []
                moved: _Moved = {}
                left: dict[str, set[StreamKey]] = {}
                for stream, reason in some:
                    state = self._states.get(*stream)
                    if state is None or not self._lease.admits(generation, stream.partition):
                        continue
                    if self._silent.why_forgotten(stream, full, now_us) is None:
                        continue  # heard meanwhile
                    self._collect(
                        Outcome(None, self._engine.forget(*stream_of(stream.key), state, now_us), None), messages
                    )
                    _note_left(stream, state, None, left)
                    moved[stream] = None
                    self._metrics.streams_forgotten.labels(reason).inc()
                if moved:
                    await self._store(messages + self._close_summaries(left, now_us), moved, generation)

    async def settle(self, timeout_s: float) -> bool:
        """Begin no other batch of this generation and wait for the one in flight; return whether it ended in time."""
        self._lease.close()
        try:
            async with asyncio.timeout(timeout_s), self._busy:
                return True
        except TimeoutError:
            return False

    def _apply(
        self, admitted: Sequence[tuple[FetchedFrame, Answer]], tally: Counter[str]
    ) -> tuple[list[Message], _Moved]:
        messages: list[Message] = []
        moved: dict[StreamKey, StreamState] = {}
        left: dict[str, set[StreamKey]] = {}
        now_us, new = self._now_us(), 0
        for taken, answer in admitted:
            if isinstance(answer, DeadLetter):
                messages.append(self._dead_letter(answer, tally))
                continue
            partition = taken.record.partition
            stream = StreamKey(partition, state_key(answer.frame.stream))
            self._placement.see(taken.record.key or b"", partition)
            state = moved.get(stream) or self._states.get(*stream)
            if state is None:
                refused = self._why_not_new(new, now_us)
                if refused is not None:
                    letter = DeadLetter(code="too_many_streams", detail=refused, record=taken.record)
                    messages.append(self._dead_letter(letter, tally))
                    continue
                new += 1
            outcome = self._engine.advance(answer, state, now_us)
            self._collect(outcome, messages)
            if outcome.state is not None:
                _note_left(stream, state, outcome.state, left)
                moved[stream] = outcome.state
            if outcome.dead_letter is not None:
                messages.append(self._dead_letter(outcome.dead_letter, tally))
            if outcome.score is not None:
                tally[outcome.score.status] += 1
                if missing := outcome.score.missing_before:
                    self._metrics.count_gap(answer.frame.machine_id, answer.frame.source or "", missing)
        self._metrics.new_streams.inc(new)
        return messages + self._close_summaries(left, now_us), {**moved}

    def _why_not_new(self, new: int, now_us: int) -> str | None:
        """Return why one more stream is not taken now, or None; ``new``: those of this batch so far."""
        limits = self._limits
        if len(self._states) + new >= limits.streams:
            return f"the stream is new, and this worker has {limits.streams} already (max_streams)"
        # A bucket that fills up in a minute.
        passed_min = max(now_us - self._may_be_new_at_us, 0) / 60e6
        self._may_be_new = min(limits.new_per_min, self._may_be_new + passed_min * limits.new_per_min)
        self._may_be_new_at_us = now_us
        if self._may_be_new < 1:
            return f"the stream is new, and {limits.new_per_min} others were in a minute (max_new_streams_per_min)"
        self._may_be_new -= 1
        return None

    def _close_summaries(self, left: Mapping[str, set[StreamKey]], now_us: int) -> list[Message]:
        """Return the alerts that close incidents of many streams, now that all but a few are heard again."""
        messages: list[Message] = []
        for incident_id, still in self._silent.ended(left).items():
            machines = [stream_of(stream.key)[0] for stream in still]
            messages += self._summary_alert(
                machines,
                incident_id=incident_id,
                transition="closed",
                streams=len(still),
                recorded_us=now_us,
                now_us=now_us,
            )
            self._silent.close(incident_id)
        return messages

    def _dead_letter(self, letter: DeadLetter, tally: Counter[str]) -> Message:
        tally["dead_letter"] += 1
        self._metrics.dead_letters.labels(letter.code).inc()
        if letter.record.unreadable is not None:
            self._metrics.unreadable.inc(letter.record.offset - letter.record.unreadable.first_offset + 1)
        return self._encoder.dead_letter(letter)

    def _collect(self, outcome: Outcome, messages: list[Message]) -> None:
        score, shadow = outcome.score, outcome.shadow
        sent = (self._encoder.score(one) for one in (score, shadow) if one is not None)
        messages += [message for message in sent if message is not None]
        if shadow is not None:
            self._metrics.shadow_scores.inc()
        if score is not None and score.idle_reason == "maintenance" and score.score > score.threshold:
            self._metrics.suppressed_frames.inc()
        for alert in outcome.alerts:
            self._metrics.alerts.labels(alert.kind, alert.state).inc()
            messages.append(self._encoder.alert(alert))

    async def _store(self, messages: list[Message], moved: _Moved, generation: int) -> None:
        began = time.perf_counter()
        if messages:
            await self._send(messages)
        if moved and self._lease.holds(generation):
            await self._send([self._encoder.state(*stream, state) for stream, state in moved.items()])
            if self._lease.holds(generation):
                for stream, state in moved.items():
                    self._put_state(stream, state)
        self._metrics.streams.set(len(self._states))
        self._metrics.send_seconds.observe(time.perf_counter() - began)

    def _put_state(self, stream: StreamKey, state: StreamState | bytes | None) -> None:
        if state is None:
            self._states.forget(*stream)
        elif isinstance(state, bytes):
            self._states.put_silent(*stream, state)
        else:
            before = self._states.peek(*stream)
            if before is None or state_header(before).silent_id:
                self._silent.heard(stream)
            self._states.put(*stream, state)

    async def _send(self, messages: Sequence[Message]) -> None:
        """Send messages until the broker has them; one that is larger than its topic takes is reported."""
        refused = await self._sender.send(messages)
        if not refused:
            return
        self._metrics.dead_letters.labels("answer_too_large").inc(len(refused))
        answers = counted(len(refused), "answer is", "answers are")
        self._tell(f"{answers} larger than a topic takes, the first {refused[0].describe()}")
        for message in await self._sender.send([self._encoder.too_large(message) for message in refused]):
            self._tell(f"not even a dead letter without its value could be sent: {message.describe()}")

    def _acknowledge(self, batch: Sequence[FetchedFrame]) -> None:
        now_s = self._now_us() / 1e6
        observe = self._metrics.latency_seconds.observe
        held = [taken for taken in batch if self._lease.holds(taken.generation)]
        for partition, upto in self.offsets.answered(held).items():
            self.next_offset[partition] = max(upto, self.next_offset.get(partition, 0))
        for taken in held:
            observe(max(now_s - taken.record.timestamp_ms / 1e3, 0.0))

    def _count(self, tally: Counter[str]) -> None:
        for outcome, frames in tally.items():
            if frames:
                self._metrics.frames.labels(outcome).inc(frames)


def _note_left(
    stream: StreamKey, before: StreamState | None, after: StreamState | None, left: dict[str, set[StreamKey]]
) -> None:
    """Note a stream that leaves an incident of many streams' silence."""
    if before is None or not before.silent.alert.on:
        return
    if after is None or after.silent.incident_id != before.silent.incident_id:
        left.setdefault(before.silent.incident_id, set()).add(stream)


def _parts(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(whole), size):
        yield whole[start : start + size]
