"""Stand-ins for what a batch meets on its way: an engine without models, a sender without Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from schemas import (
    Alert,
    AlertModel,
    DeadLetter,
    Frame,
    FrameRecord,
    ModelRef,
    Score,
    alert_id,
    format_rfc3339,
    frame_headers,
    parse_frame,
)
from stream_app.pipeline import Outcome, StreamState
from stream_app.pipeline.rule import Incident
from stream_app.worker.backpressure import size_of
from stream_app.worker.lease import Lease
from stream_app.worker.messages import Encoder, Message
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.offset_tracker import FetchedFrame
from stream_app.worker.placement import Placement
from stream_app.worker.processor import BatchProcessor, StreamLimits
from stream_app.worker.states import StreamStates

NOW_US = 1_767_225_600_000_000
FORGET_US = 100 * 86_400_000_000
ENCODER = Encoder(alerts="alerts", scores="scores", dead_letters="dlq", changelog="changelog", name="worker")


def frame_record(machine_id: str = "pump-1", second: int = 0, offset: int = 0, partition: int = 0) -> FrameRecord:
    """A record whose envelope is good and whose audio nobody looks at."""
    recorded_us = NOW_US + second * 1_000_000
    value = f"{machine_id} {second}".encode()
    headers = frame_headers(machine_id, None, recorded_us, value)
    return FrameRecord(machine_id.encode(), value, headers, recorded_us // 1000, partition=partition, offset=offset)


def score_of(frame: Frame, status: Any = "scored") -> Score:
    """A score of a frame."""
    return Score(
        frame_id=frame.frame_id,
        machine_id=frame.machine_id,
        source=frame.source,
        recorded_at=format_rfc3339(frame.recorded_us),
        scored_at=format_rfc3339(NOW_US),
        score=0.5,
        threshold=1.0,
        status=status,
        idle_reason=None,
        sensor_fault=None,
        level_dbfs=-20.0,
        missing_before=0,
        model=ModelRef(name="fake", version="1"),
        topic=frame.record.topic,
        partition=frame.record.partition,
        offset=frame.record.offset,
    )


def alert_of(machine_id: str, source: str | None, frame_id: str, what: str, recorded_us: int = NOW_US) -> Alert:
    """An alert about a stream."""
    identity = alert_id(frame_id, what)
    return Alert(
        alert_id=identity,
        incident_id=identity,
        kind="sensor" if "silent" in what else "machine",
        sensor_fault="silent" if "silent" in what else None,
        machine_id=machine_id,
        source=source,
        state="opened",
        severity="warning",
        score=None,
        threshold=None,
        ratio=None,
        recorded_at=format_rfc3339(recorded_us),
        scored_at=format_rfc3339(NOW_US),
        frame=None,
        model=AlertModel(name="fake", version="1", run_id=None),
        bands=(),
        statistics={},
    )


class FakeEngine:
    """Alerts on every frame that is newer than its stream's newest; answers with what it is given to compute."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, StreamState | None]] = []

    def compute(self, records: Sequence[FrameRecord]) -> list[Any]:
        return [answer_to(record) for record in records]

    def advance(self, computed: Any, state: StreamState | None, now_us: int) -> Outcome:
        frame = computed.frame
        self.seen.append((frame.frame_id, state))
        before = state or StreamState()
        if frame.recorded_us <= before.newest_us:
            return Outcome(score_of(frame, "late"), (), None)
        after = replace(
            before,
            newest_us=frame.recorded_us,
            seen_us=now_us,
            frames=before.frames + 1,
            frame_id=frame.frame_id,
            silent=Incident(),
        )
        return Outcome(
            score_of(frame), (alert_of(frame.machine_id, frame.source, frame.frame_id, "machine::opened"),), after
        )

    def silence(
        self, machine_id: str, source: str, state: StreamState, watched_since_us: int, now_us: int
    ) -> Outcome | None:
        if now_us < self.silence_due_us(machine_id, state.seen_us, watched_since_us):
            return None
        alert = alert_of(machine_id, source or None, state.frame_id, "sensor:silent:opened", state.newest_us)
        return Outcome(None, (alert,), replace(state, silent=replace(state.silent, incident_id=alert.alert_id)))

    def silence_due_us(self, machine_id: str, seen_us: int, watched_since_us: int) -> int:
        return max(seen_us + 10_000_000, watched_since_us + 6_000_000)

    def forget_due_us(self, machine_id: str, seen_us: int) -> int:
        return seen_us + FORGET_US

    def forget(self, machine_id: str, source: str, state: StreamState, now_us: int) -> tuple[Alert, ...]:
        return (alert_of(machine_id, source or None, state.frame_id, "machine::closed", state.newest_us),)

    def silence_summary(self, machines: Sequence[str], **details: Any) -> Alert:
        transition, recorded_us = details.pop("transition"), details.pop("recorded_us")
        del details["now_us"]
        alert = alert_of("(many)", None, details["incident_id"], f"sensor:silent:{transition}", recorded_us)
        identity = details["incident_id"] if transition == "opened" else alert.alert_id
        return replace(alert, **details, alert_id=identity, state=transition, machines=tuple(machines[:20]))


def answer_to(record: FrameRecord) -> Any:
    """What the fake engine computes: a dead letter for the value ``bad``."""
    if record.value == b"bad":
        return DeadLetter(code="not_audio", detail="bad", record=record)
    return SimpleNamespace(frame=parse_frame(record))


class FakeSender:
    """Keeps what it is sent; fails on the messages to ``failing``, if any."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.sent: list[list[Message]] = []
        self.failing: str | None = None
        self.before: Any = None
        self.most_bytes = 2_000_000
        self._log = log if log is not None else []

    async def send(self, messages: Sequence[Message]) -> list[Message]:
        if self.before is not None:
            self.before(messages)
        if any(message.topic == self.failing for message in messages):
            raise ConnectionError(f"{self.failing} can't be reached")
        self.sent.append(list(messages))
        self._log.append("send " + ",".join(sorted({message.topic for message in messages})))
        return [message for message in messages if message.size > self.most_bytes]

    def to(self, topic: str) -> list[Message]:
        return [message for messages in self.sent for message in messages if message.topic == topic]


class Bench:
    """A batch processor with fakes around it.

    Attributes:
        log: What happened, in order: ``send <topics>`` and ``ack <offset>``.
        generation: The group's current generation.
    """

    def __init__(self, limits: StreamLimits | None = None, engine: Any = None) -> None:
        self.log: list[str] = []
        self.generation = 1
        self.now_us = NOW_US
        self.engine = engine or FakeEngine()
        self.sender = FakeSender(self.log)
        self.states = StreamStates()
        self.lease = Lease(lambda: self.generation)
        self.lease.open(1, range(4))
        self.metrics = WorkerMetrics()
        self.processor = BatchProcessor(
            engine=self.engine,
            states=self.states,
            sender=self.sender,
            lease=self.lease,
            encoder=ENCODER,
            metrics=self.metrics,
            placement=Placement(1, self.metrics),
            limits=limits,
            now_us=lambda: self.now_us,
        )

        self._unacked: dict[int, dict[int, int]] = {}
        self.processor.offsets.acknowledge = self._acknowledge

    def taken(self, record: FrameRecord, generation: int = 1) -> FetchedFrame:
        self._unacked.setdefault(record.partition, {})[record.offset] = generation
        return FetchedFrame(record, generation, size_of(record))

    def _acknowledge(self, partition: int, upto: int, frames: int) -> None:
        """Note each frame that is acknowledged, in the order of the offsets."""
        own = self._unacked[partition]
        acked = sorted(offset for offset, taken_in in own.items() if offset < upto and taken_in == self.generation)
        assert frames == len(acked)
        for offset in acked:
            del own[offset]
        self.log += [f"ack {offset}" for offset in acked]

    async def finish(self, records: Sequence[FrameRecord], generation: int = 1) -> None:
        batch = [self.taken(record, generation) for record in records]
        self.processor.offsets.take(batch)
        await self.processor.finish(batch, self.engine.compute(records))

    @property
    def acked(self) -> list[int]:
        return [int(entry.split()[1]) for entry in self.log if entry.startswith("ack")]
