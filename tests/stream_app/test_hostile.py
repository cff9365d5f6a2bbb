"""One hostile gateway: its frames cost bounded work, and those of others are scored beside it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from schemas import FrameRecord
from schemas.frame import MAX_HEADERS, MAX_SAMPLES, parse_frame
from stream_app.compute import _envelope
from stream_app.flow import BATCH_SAMPLES, Flow
from stream_app.metrics import Metrics
from stream_app.processor import Answer, Taken
from stream_app.sender import partition_of
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import encoded, noise, tiny_model
from tests.stream_app.worker_process import WorkerProcess
from whirr.errors import FrameRejected
from whirr.recordings import decode, decode_cost
from whirr.settings import Route

GOOD = encoded(noise())
# A few kB that decode to as many samples as a frame may have, and 1 MB of 192 kHz in 8 channels.
BOMB = encoded(np.zeros((2, MAX_SAMPLES // 2), np.int16), 48_000, "FLAC")
LOUD = encoded(np.zeros((8, 60_000), np.int16), 192_000)
FLOOD, BOMBS, LOUDS = 600, 4, 3


def test_a_small_file_of_many_samples_is_known_before_it_is_decoded() -> None:
    assert len(BOMB) < 100_000
    assert decode_cost(BOMB) >= decode(encoded(np.zeros((2, 24_000), np.int16), 48_000, "FLAC")).samples.size
    assert decode_cost(BOMB) == (MAX_SAMPLES // 2) * 2
    assert decode_cost(GOOD) == 16_000
    assert decode_cost(b"no audio") == 0
    assert decode_cost(LOUD) == 480_000
    slow = encoded(np.zeros((8, 6_000), np.int16), 100)
    assert decode_cost(slow) > 100 * 8 * 6_000, "it grows when it is resampled"
    assert decode_cost(_with_length(BOMB, 0)) == MAX_SAMPLES, "a length that is not told counts as the longest"


def _with_length(flac: bytes, frames: int) -> bytes:
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | frames
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


async def test_no_batch_costs_more_than_a_few_of_the_largest_frames() -> None:
    batches: list[list[bytes]] = []

    async def compute(records: list[FrameRecord]) -> list[Answer]:
        batches.append([record.value or b"" for record in records])
        await asyncio.sleep(0)
        return []

    class Sink:
        async def finish(self, batch: list[Taken], answers: list[Answer]) -> None:
            pass

    flow = Flow(compute, Sink(), Metrics())  # type: ignore[arg-type]
    running = asyncio.create_task(flow.run())
    values = [BOMB] * 40 + [GOOD] * 100
    for value in values:
        await flow.put([Taken(FrameRecord(b"pump-1", value), 1, lambda: None)])
    await eventually_async(lambda: sum(map(len, batches)) == len(values))
    running.cancel()
    costs = [sum(map(decode_cost, batch)) for batch in batches]
    assert max(costs) <= BATCH_SAMPLES
    assert max(map(len, batches)) > 2, "good frames still go together"


def test_a_storm_of_headers_is_refused_and_does_not_cross() -> None:
    storm = FrameRecord(b"pump-1", GOOD, [("ce_source", b"x")] * 50_000, 1_000)
    with pytest.raises(FrameRejected, match="50000 headers; at most 128"):
        parse_frame(storm)
    *_, headers, _time, _topic, _partition, _offset = _envelope(storm, None)
    assert len(headers) == MAX_HEADERS + 1


async def test_the_frames_of_others_are_scored_beside_a_flood(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    settings = kafka.settings(route=(route,))
    await kafka.create_topics()
    hostile = partition_of(b"flood", settings.topic_partitions)
    others = [name for i in range(20) if partition_of(name := f"pump-{i}".encode(), 4) != hostile][:6]
    storm = [(f"x-{i}", b"y" * 10) for i in range(20_000)]
    await kafka.produce(settings.frames_topic, [FrameRecord(b"flood", GOOD)] * FLOOD)
    await kafka.produce(settings.frames_topic, [FrameRecord(b"flood", BOMB)] * BOMBS)
    await kafka.produce(settings.frames_topic, [FrameRecord(b"flood", LOUD)] * LOUDS)
    await kafka.produce(settings.frames_topic, [FrameRecord(b"flood", GOOD, storm)])
    await kafka.produce(settings.frames_topic, [FrameRecord(name, GOOD) for name in others for _ in range(5)])
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        total = FLOOD + BOMBS + LOUDS + 1 + len(others) * 5
        await eventually_async(lambda: _ended(worker) == total, 90)
        assert worker.stop() == 0, worker.log
    scores = [json.loads(record.value) for record in await kafka.drain(settings.scores_topic)]
    done_at = max(score["scored_at"] for score in scores if score["machine_id"] != "flood")
    before = Counter(score["machine_id"] for score in scores if score["scored_at"] <= done_at)
    assert before.total() - before["flood"] == len(others) * 5
    # It was there first, all of it; others wait for the share of a turn, not for its end.
    assert before["flood"] < 0.75 * FLOOD, before
    letters = await kafka.drain(settings.dead_letter_topic)
    # 1 MB of that is a third of a second, less than the model's window.
    reasons = Counter(dict(letter.headers)["whirr_error"] for letter in letters)
    assert reasons == {b"header_invalid": 1, b"too_short": LOUDS}


def _ended(worker: WorkerProcess) -> float:
    return sum(worker.metric("whirr_frames_total", outcome=o) for o in ("scored", "late", "idle", "dead_letter"))
