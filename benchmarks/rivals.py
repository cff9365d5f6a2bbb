"""The worker's computation in other frameworks: ``python -m benchmarks.rivals NAME`` drains the frames topic.

Each scores every frame, keeps each stream's state and writes scores and states to Kafka, as the worker does, and
prints its rate between a tenth and nine tenths of the frames as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import orjson

from schemas.frame import FrameRecord
from stream_app.pipeline import Computed, Engine, Outcome, StreamState
from stream_app.worker.states import state_key

BATCH = 64


class Clock:
    """Takes the time between a tenth and nine tenths of the frames, and ends the program then."""

    def __init__(self, frames: int) -> None:
        self._from, self._to = frames // 10, frames * 9 // 10
        self._seen = 0
        self._began: tuple[float, int] | None = None

    def count(self, frames: int = 1) -> None:
        """Take note of frames that are done."""
        self._seen += frames
        now = time.perf_counter()
        if self._began is None and self._seen >= self._from:
            self._began = now, self._seen
        elif self._began is not None and self._seen >= self._to:
            rate = (self._seen - self._began[1]) / (now - self._began[0])
            print(json.dumps({"frames_per_second": rate}), flush=True)
            os._exit(0)


class Streams:
    """States in a dictionary."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._states: dict[bytes, StreamState] = {}

    def advance(self, computed: Computed) -> tuple[bytes, Outcome]:
        """Move a frame's stream; return the stream's key and what follows."""
        key = state_key(computed.frame.stream)
        outcome = self._engine.advance(computed, self._states.get(key), time.time_ns() // 1000)
        if outcome.state is not None:
            self._states[key] = outcome.state
        return key, outcome


def record_of(message: object) -> FrameRecord:
    m = message
    return FrameRecord(m.key, m.value, m.headers, m.timestamp, m.topic, m.partition, m.offset)  # type: ignore[attr-defined]


def in_process(engine: Engine, frames_topic: str, frames: int) -> None:
    """The computation alone: the frames are fetched before the clock starts."""
    records = asyncio.run(_fetch(frames_topic, frames))
    streams, clock = Streams(engine), Clock(frames)
    for begin in range(0, len(records), BATCH):
        batch = records[begin : begin + BATCH]
        for answer in engine.compute(batch):
            assert isinstance(answer, Computed)
            streams.advance(answer)
        clock.count(len(batch))


async def _fetch(frames_topic: str, frames: int) -> list[FrameRecord]:
    from aiokafka import AIOKafkaConsumer

    records: list[FrameRecord] = []
    bootstrap = sys.argv[3]
    async with AIOKafkaConsumer(
        frames_topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20
    ) as consumer:
        while len(records) < frames:
            records.append(record_of(await consumer.getone()))
    return records


async def bare_aiokafka(engine: Engine, bootstrap: str, frames_topic: str, frames: int) -> None:
    """A plain loop: fetch, compute, send and await, commit; nothing overlaps."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    streams, clock = Streams(engine), Clock(frames)
    consumer = AIOKafkaConsumer(
        frames_topic,
        bootstrap_servers=bootstrap,
        group_id=f"aiokafka-{time.time_ns()}",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        session_timeout_ms=6000,
        rebalance_timeout_ms=3000,
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await asyncio.gather(consumer.start(), producer.start())
    while True:
        fetched = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        messages = [message for partition in fetched.values() for message in partition]
        sent, moved = [], {}
        for message, answer in zip(messages, engine.compute([record_of(m) for m in messages]), strict=True):
            assert isinstance(answer, Computed)
            key, outcome = streams.advance(answer)
            sent.append(await producer.send("rival-scores", orjson.dumps(outcome.score), key=message.key))
            if outcome.state is not None:
                moved[key] = outcome.state
        for key, state in moved.items():
            sent.append(await producer.send("rival-states", state.to_bytes(), key=key))
        await asyncio.gather(*sent)
        if messages:
            await consumer.commit()
        clock.count(len(messages))


def quix(engine: Engine, bootstrap: str, frames_topic: str, frames: int) -> None:
    """Quixstreams: a message at a time. States go to a topic as from the others: not every broker suits its store."""
    from quixstreams import Application

    streams, clock = Streams(engine), Clock(frames)
    application = Application(
        bootstrap,
        consumer_group=f"quix-{time.time_ns()}",
        auto_offset_reset="earliest",
        loglevel="ERROR",
        consumer_extra_config={"session.timeout.ms": 6000},
    )
    source = application.topic(frames_topic, key_deserializer="bytes", value_deserializer="bytes")
    raw = {"key_serializer": "bytes", "value_serializer": "bytes"}
    scores, states = application.topic("rival-scores", **raw), application.topic("rival-states", **raw)

    def score(value: bytes, key: bytes, timestamp: int, headers: object) -> tuple[bytes, bytes | None]:
        (answer,) = engine.compute([FrameRecord(key, value, tuple(headers or ()), timestamp)])  # type: ignore[call-overload]
        assert isinstance(answer, Computed)
        _, outcome = streams.advance(answer)
        clock.count()
        return orjson.dumps(outcome.score), outcome.state.to_bytes() if outcome.state is not None else None

    scored = application.dataframe(source).apply(score, metadata=True)
    scored.apply(lambda row: row[0]).to_topic(scores)
    scored.filter(lambda row: row[1] is not None).apply(lambda row: row[1]).to_topic(states)
    application.run()


def main() -> None:
    name, model, bootstrap, frames_topic, frames = sys.argv[1:]
    from stream_app.worker.champions import load_champions
    from whirr.settings import Route

    engine = Engine(load_champions([Route(match="*", model=model)]).router)
    if name == "inprocess":
        in_process(engine, frames_topic, int(frames))
    elif name == "aiokafka":
        asyncio.run(bare_aiokafka(engine, bootstrap, frames_topic, int(frames)))
    else:
        quix(engine, bootstrap, frames_topic, int(frames))


if __name__ == "__main__":
    main()
