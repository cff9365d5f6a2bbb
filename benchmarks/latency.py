"""From the append of a frame to the append of its alert, at a steady pace. ``WHIRR_BENCH_LATENCY_S``: for how long.

Where the broker stamps records as it appends them (Apache Kafka: LogAppendTime) its stamps count. The embedded broker
does not; there the time counts from before a frame is sent to when its alert is received, which is longer.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.default_model import train_default, unheard, with_threshold
from benchmarks.environment import DEADLINE_S, EMBEDDED, MACHINES, Bench, Worker, make_producer, send, settings_for
from schemas import parse_rfc3339
from stream_app.worker.topic_setup import ensure_topics

LATENCY_S = float(os.environ.get("WHIRR_BENCH_LATENCY_S", "30"))
STAMPED_BY_BROKER = 1
WARM_UP = 0.5  # of the frames: a Java machine takes its time to compile


def measure(bench: Bench, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the latency of alerts in mode ``every``.

    Args:
        bench: What it stands on.
        figures: ``frames_per_second_default`` and ``frames_per_second``, what the worker can do at most with the
            default detector and with ``conv_ae``.

    Returns:
        With the default detector at a quarter of that, ``latency_ms_p50`` and ``latency_ms_p99``; with ``conv_ae`` at
        a quarter, ``latency_conv_ae_ms_…``, and at half of it, ``latency_half_ms_…``.
    """
    alerting = with_threshold(train_default(bench.folder), bench.folder / "nervous-default.onnx", 1e-9)
    bench = bench._replace(values=unheard())
    default = _of_model(bench, alerting, "default", [figures["frames_per_second_default"] / 4])
    conv_ae = _of_model(
        bench, bench.nervous, "conv-ae", [figures["frames_per_second"] / 2, figures["frames_per_second"] / 4]
    )
    taken_ms = dict(zip(("latency", "latency_half", "latency_conv_ae"), (*default, *conv_ae), strict=True))
    return {f"{name}_ms_p{p}": float(np.percentile(ms, p)) for name, ms in taken_ms.items() for p in (50, 99)}


def _of_model(bench: Bench, model: Path, name: str, rates: Sequence[float]) -> list[list[float]]:
    """Return the milliseconds of each alert, for each rate in frames a second."""
    topic, alerts = f"bench-latency-{name}", f"bench-latency-{name}-anomalies"  # of their own: made with stamps
    bench = bench._replace(settings=bench.settings.model_copy(update={"alerts_topic": alerts}))
    asyncio.run(_create_topics(bench, topic))
    found, at = [], 0
    with Worker(bench, model, topic, topic, "every") as worker:
        worker.wait_until_ready()
        for rate in rates:
            count = int(rate * LATENCY_S)
            found.append(asyncio.run(_answer_times(bench, topic, range(at, at + count))))
            at += count
    return found


async def _create_topics(bench: Bench, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.settings.bootstrap)
    await admin.start()
    try:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        names, partitions = (topic, bench.settings.alerts_topic), bench.settings.topic_partitions
        topics = [NewTopic(name, partitions, 1, topic_configs=stamped) for name in names]
        await admin.create_topics(topics)
    finally:
        await admin.close()
    await ensure_topics(settings_for(bench, topic))


async def _answer_times(bench: Bench, topic: str, numbers: range) -> list[float]:
    """Send frames at a steady pace; return the milliseconds until each alert, without those of the first half."""
    sent_s: dict[int, float] = {}
    # Where the broker's stamps count, a reader that takes its time takes none from what is measured.
    wait: dict[str, int] = {"fetch_max_wait_ms": 10} if bench.broker == EMBEDDED else {"fetch_min_bytes": 1 << 20}
    consumer = AIOKafkaConsumer(
        bench.settings.alerts_topic,
        bootstrap_servers=bench.settings.bootstrap,
        auto_offset_reset="earliest",
        **wait,
    )
    async with consumer, make_producer(bench) as producer:
        receiving = asyncio.create_task(_receive(consumer, numbers, sent_s))
        began_s = time.perf_counter()
        for index, number in enumerate(numbers):
            await asyncio.sleep(max(began_s + index / len(numbers) * LATENCY_S - time.perf_counter(), 0))
            sent_s[number] = time.perf_counter()
            await send(bench, producer, topic, number, time.time_ns() // 1000)
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
