"""``make bench-hostile``: what honest machines feel of a gateway that sends the costliest frames there are.

16 machines send a second of sound each second, on all partitions. After a while a hostile gateway sends the worst frame
(60 s of silence in four channels: 5 kB, and the most samples that a frame may have): once, to see what it takes, and
then five a second, each under another name, on one partition. Then it stops, and all that it sent is waited for.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
import soundfile
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.environment import RATE_HZ, Bench, Worker, prepared, settings_for
from stream_app.worker.topic_setup import ensure_topics

MACHINES = 16
HOSTILE_PARTITION = 0
TOPIC = "bench-hostile"
DRAIN_S = 180.0

Place = tuple[int, int]  # partition and offset


class Sent(NamedTuple):
    """Who sent a frame, and when: seconds since the epoch."""

    honest: bool
    at_s: float


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures."""
    asyncio.run(ensure_topics(settings_for(bench, TOPIC)))
    with Worker(bench, bench.calm, TOPIC, TOPIC) as worker:
        worker.wait_until_ready()
        return asyncio.run(_course(bench, options))


async def _course(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    sent: dict[Place, Sent] = {}
    answered_s: dict[Place, float] = {}
    letters: Counter[str] = Counter()
    settings, stop = bench.settings, asyncio.Event()
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, acks="all", max_request_size=4 << 20)
    reader = AIOKafkaConsumer(
        settings.scores_topic,
        settings.dead_letter_topic,
        bootstrap_servers=settings.bootstrap,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    async with producer, reader:
        hearing = asyncio.create_task(_hear(reader, settings.scores_topic, answered_s, letters))
        machines = [asyncio.create_task(_machine(bench, producer, number, sent, stop)) for number in range(MACHINES)]
        await asyncio.sleep(options.before)
        began_s = time.time()
        worst_ms = await _worst_ms(producer, options, sent, answered_s)
        attacked_s = time.time()
        await _hostile(producer, options, sent)
        ended_s = time.time()
        while sent.keys() - answered_s.keys() and time.time() < ended_s + DRAIN_S:
            await asyncio.sleep(0.2)
            if not any(not entry.honest for place, entry in sent.items() if place not in answered_s):
                stop.set()
        stop.set()
        await asyncio.gather(*machines)
        hearing.cancel()
    times = _Times(sent, answered_s)
    return {
        "others_p50_ms_before": times.ms(50, began_s - options.before / 2, began_s),
        "others_p99_ms_before": times.ms(99, began_s - options.before / 2, began_s),
        "worst_frame_ms": worst_ms,
        "others_p50_ms_during": times.ms(50, attacked_s, ended_s),
        "others_p99_ms_during": times.ms(99, attacked_s, ended_s),
        "same_partition_p50_ms_during": times.ms(50, attacked_s, ended_s, {HOSTILE_PARTITION}),
        "same_partition_p99_ms_during": times.ms(99, attacked_s, ended_s, {HOSTILE_PARTITION}),
        "hostile_frames": sum(not entry.honest for entry in sent.values()),
        "hostile_answered_after_s": round(max(answered_s.values(), default=ended_s) - ended_s, 1),
        "dead_letters": dict(letters),
        "unanswered": len(sent.keys() - answered_s.keys()),
    }


class _Times:
    """How long honest frames waited for their answers."""

    def __init__(self, sent: Mapping[Place, Sent], answered_s: Mapping[Place, float]) -> None:
        self._taken = [
            (place[0], entry.at_s, 1000 * (answered_s.get(place, float("inf")) - entry.at_s))
            for place, entry in sent.items()
            if entry.honest
        ]

    def ms(self, percentile: float, from_s: float, to_s: float, partitions: set[int] | None = None) -> float:
        """Return a percentile, in ms, of the frames sent between two times."""
        found = sorted(
            ms for p, at_s, ms in self._taken if from_s <= at_s < to_s and (partitions is None or p in partitions)
        )
        return round(found[min(int(len(found) * percentile / 100), len(found) - 1)], 1) if found else float("nan")


async def _machine(
    bench: Bench, producer: AIOKafkaProducer, number: int, sent: dict[Place, Sent], stop: asyncio.Event
) -> None:
    await asyncio.sleep(number / MACHINES)
    while not stop.is_set():
        at_s = time.time()
        value = bench.values[number % len(bench.values)]
        stored = await producer.send_and_wait(TOPIC, value, key=b"good-%d" % number)
        sent[stored.partition, stored.offset] = Sent(True, at_s)
        await asyncio.sleep(max(at_s + 1 - time.time(), 0))


async def _worst_ms(
    producer: AIOKafkaProducer, options: argparse.Namespace, sent: dict[Place, Sent], answered_s: dict[Place, float]
) -> float:
    """Return how long one hostile frame takes while nobody else is hostile."""
    at_s = time.time()
    stored = await producer.send_and_wait(TOPIC, _value(options), key=b"evil", partition=HOSTILE_PARTITION)
    place = stored.partition, stored.offset
    sent[place] = Sent(False, at_s)
    while place not in answered_s and time.time() < at_s + DRAIN_S:
        await asyncio.sleep(0.001)
    return round(1000 * (answered_s.get(place, float("inf")) - at_s), 1)


async def _hostile(producer: AIOKafkaProducer, options: argparse.Namespace, sent: dict[Place, Sent]) -> None:
    value = _value(options)
    partitions = len(await producer.partitions_for(TOPIC))
    began_s = time.time()
    for number in range(int(options.rate * options.seconds)):
        await asyncio.sleep(max(began_s + number / options.rate - time.time(), 0))
        partition = number % partitions if options.spread == "all" else HOSTILE_PARTITION
        key = b"evil" if options.names == "one" else b"evil-%d" % number
        stored = await producer.send_and_wait(TOPIC, value, key=key, partition=partition)
        sent[stored.partition, stored.offset] = Sent(False, time.time())


async def _hear(
    reader: AIOKafkaConsumer, scores_topic: str, answered_s: dict[Place, float], letters: Counter[str]
) -> None:
    async for record in reader:
        if record.topic == scores_topic:
            score = orjson.loads(record.value)
            place = score["partition"], score["offset"]
        else:
            headers = dict(record.headers)
            letters[headers["whirr_error"].decode()] += 1
            place = int(headers["whirr_partition"]), int(headers["whirr_offset"])
        answered_s.setdefault(place, time.time())


def _value(options: argparse.Namespace) -> bytes:
    channels, rate_hz = {"worst": (4, RATE_HZ), "grows": (8, 4_166)}[options.kind]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((60 * rate_hz, channels), np.int16), rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def main() -> None:
    """Print the figures, and once more as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--kind", choices=["worst", "grows"], default="worst", help="the frame: as large as is taken")
    parser.add_argument("--rate", type=float, default=5.0, help="hostile frames a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long")
    parser.add_argument("--before", type=float, default=15.0, help="seconds that honest machines are alone")
    parser.add_argument("--spread", choices=["one", "all"], default="one", help="partitions")
    parser.add_argument("--names", choices=["new", "one"], default="new", help="a new name for each frame, or one")
    options = parser.parse_args()
    with prepared() as bench:
        figures = measure(bench, options)
    for name, value in figures.items():
        print(f"{name:<30} {value}")
    print(orjson.dumps({"broker": bench.broker, **figures}).decode())


if __name__ == "__main__":
    main()
