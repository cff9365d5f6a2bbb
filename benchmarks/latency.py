"""From the append of a frame to the append of its alert, at a steady pace. ``WHIRR_BENCH_LATENCY_S``: for how long.

Where the broker stamps records as it appends them (Apache Kafka: LogAppendTime) its stamps count. The embedded broker
does not; there the time counts from before a frame is sent to when its alert is received, which is longer.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.ground import DEADLINE_S, MACHINES, Bench, Worker, make_producer, send, settings_for
from schemas import parse_rfc3339
from stream_app.topics import ensure_topics

LATENCY_S = float(os.environ.get("WHIRR_BENCH_LATENCY_S", "20"))
TOPIC = "bench-latency"
STAMPED_BY_BROKER = 1
WARM_UP = 0.2  # of the frames


def measure(bench: Bench, frames_per_second: float) -> dict[str, float]:
    """Return ``latency_ms_p50`` and ``latency_ms_p99`` of alerts in mode ``every``."""
    asyncio.run(_create_topics(bench))
    with Worker(bench, bench.nervous, TOPIC, TOPIC, "every") as worker:
        worker.wait_until_ready()
        taken_ms = asyncio.run(_answer_times(bench, frames_per_second))
    p50, p99 = np.percentile(taken_ms, [50, 99])
    return {"latency_ms_p50": float(p50), "latency_ms_p99": float(p99)}


async def _create_topics(bench: Bench) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.settings.bootstrap)
    await admin.start()
    try:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        topics = [
            NewTopic(name, bench.settings.topic_partitions, 1, topic_configs=stamped)
            for name in (TOPIC, _alerts(bench))
        ]
        await admin.create_topics(topics)
    finally:
        await admin.close()
    await ensure_topics(settings_for(bench, TOPIC))


def _alerts(bench: Bench) -> str:
    return bench.settings.alerts_topic


async def _answer_times(bench: Bench, frames_per_second: float) -> list[float]:
    """Send at a steady pace; return the milliseconds until each alert, without those of the first fifth."""
    frames = int(frames_per_second * LATENCY_S)
    sent_s: dict[int, float] = {}
    consumer = AIOKafkaConsumer(
        _alerts(bench), bootstrap_servers=bench.settings.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=10
    )
    async with consumer, make_producer(bench) as producer:
        receiving = asyncio.create_task(_receive(consumer, frames, sent_s))
        began_s = time.perf_counter()
        for number in range(frames):
            await asyncio.sleep(max(began_s + number / frames_per_second - time.perf_counter(), 0))
            sent_s[number] = time.perf_counter()
            await send(bench, producer, TOPIC, number, time.time_ns() // 1000)
        return await asyncio.wait_for(receiving, DEADLINE_S)


async def _receive(consumer: AIOKafkaConsumer, frames: int, sent_s: Mapping[int, float]) -> list[float]:
    taken_ms: dict[int, float] = {}
    async for record in consumer:
        now_s = time.perf_counter()
        alert = orjson.loads(record.value)
        number = alert["frame"]["sequence"] * MACHINES + int(alert["machine_id"].removeprefix("pump-"))
        taken_ms[number] = _between_appends_ms(record, alert) or 1000 * (now_s - sent_s[number])
        if len(taken_ms) == frames:
            break
    return [taken for number, taken in taken_ms.items() if number >= WARM_UP * frames]


def _between_appends_ms(record: ConsumerRecord, alert: Mapping[str, Any]) -> float | None:
    """Return the milliseconds between the broker's two stamps, or None where it does not stamp."""
    if record.timestamp_type != STAMPED_BY_BROKER:
        return None
    return float(record.timestamp - parse_rfc3339(alert["frame"]["published_at"]) / 1000)
