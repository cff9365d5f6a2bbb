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

from benchmarks.environment import DEADLINE_S, EMBEDDED, MACHINES, Bench, Worker, make_producer, send, settings_for
from schemas import parse_rfc3339
from stream_app.worker.topic_setup import ensure_topics

LATENCY_S = float(os.environ.get("WHIRR_BENCH_LATENCY_S", "30"))
TOPIC = "bench-latency"
ALERTS = "bench-latency-anomalies"  # one of its own: it must be made with stamps
STAMPED_BY_BROKER = 1
WARM_UP = 0.5  # of the frames: a Java machine takes its time to compile


def measure(bench: Bench, frames_per_second: float) -> dict[str, float]:
    """Return the latency of alerts in mode ``every``.

    Args:
        bench: What it stands on.
        frames_per_second: What the worker can do at most.

    Returns:
        ``latency_ms_p50`` and ``latency_ms_p99`` at half of that; ``latency_quarter_ms_…`` at a quarter.
    """
    bench = bench._replace(settings=bench.settings.model_copy(update={"alerts_topic": ALERTS}))
    asyncio.run(_create_topics(bench))
    with Worker(bench, bench.nervous, TOPIC, TOPIC, "every") as worker:
        worker.wait_until_ready()
        half = int(frames_per_second / 2 * LATENCY_S)
        half_ms = asyncio.run(_answer_times(bench, range(half)))
        quarter_ms = asyncio.run(_answer_times(bench, range(half, half + half // 2)))
    figures = {}
    for name, taken_ms in (("latency", half_ms), ("latency_quarter", quarter_ms)):
        figures[f"{name}_ms_p50"], figures[f"{name}_ms_p99"] = map(float, np.percentile(taken_ms, [50, 99]))
    return figures


async def _create_topics(bench: Bench) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.settings.bootstrap)
    await admin.start()
    try:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        topics = [NewTopic(name, bench.settings.topic_partitions, 1, topic_configs=stamped) for name in (TOPIC, ALERTS)]
        await admin.create_topics(topics)
    finally:
        await admin.close()
    await ensure_topics(settings_for(bench, TOPIC))


async def _answer_times(bench: Bench, numbers: range) -> list[float]:
    """Send frames at a steady pace; return the milliseconds until each alert, without those of the first half."""
    sent_s: dict[int, float] = {}
    # Where the broker's stamps count, a reader that takes its time takes none from what is measured.
    wait: dict[str, int] = {"fetch_max_wait_ms": 10} if bench.broker == EMBEDDED else {"fetch_min_bytes": 1 << 20}
    consumer = AIOKafkaConsumer(
        ALERTS, bootstrap_servers=bench.settings.bootstrap, auto_offset_reset="earliest", **wait
    )
    async with consumer, make_producer(bench) as producer:
        receiving = asyncio.create_task(_receive(consumer, numbers, sent_s))
        began_s = time.perf_counter()
        for index, number in enumerate(numbers):
            await asyncio.sleep(max(began_s + index / len(numbers) * LATENCY_S - time.perf_counter(), 0))
            sent_s[number] = time.perf_counter()
            await send(bench, producer, TOPIC, number, time.time_ns() // 1000)
        return await asyncio.wait_for(receiving, DEADLINE_S)


async def _receive(consumer: AIOKafkaConsumer, numbers: range, sent_s: Mapping[int, float]) -> list[float]:
    taken_ms: dict[int, float] = {}
    async for record in consumer:
        now_s = time.perf_counter()
        alert = orjson.loads(record.value)
        number = alert["frame"]["sequence"] * MACHINES + int(alert["machine_id"].removeprefix("pump-"))
        if number not in sent_s:
            continue  # of the measurement before
        stamped_ms = _between_appends_ms(record, alert)
        taken_ms[number] = 1000 * (now_s - sent_s[number]) if stamped_ms is None else stamped_ms
        if len(taken_ms) == len(numbers):
            break
    counted = numbers[int(WARM_UP * len(numbers)) :]
    return [taken_ms[number] for number in counted]


def _between_appends_ms(record: ConsumerRecord, alert: Mapping[str, Any]) -> float | None:
    """Return the milliseconds between the broker's two stamps, or None where it does not stamp."""
    if record.timestamp_type != STAMPED_BY_BROKER:
        return None
    return float(record.timestamp - parse_rfc3339(alert["frame"]["published_at"]) / 1000)
