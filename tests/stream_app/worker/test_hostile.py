"""One hostile gateway: its frames cost bounded work, and those of others are scored beside it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recordings import FRAME_COST, decode, decode_cost
from schemas import DeadLetter, FrameRecord
from schemas.errors import FrameRejected
from schemas.frame import MAX_SAMPLES, MAX_VALUE_BYTES, parse_frame
from stream_app.pipeline import Engine, Router
from stream_app.worker.champions import load_model
from stream_app.worker.compute import _envelope, _refused
from stream_app.worker.flow import BATCH_COST, Flow
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.offset_tracker import FetchedFrame
from stream_app.worker.processor import Answer
from stream_app.worker.sender import partition_of
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import encoded, noise, tiny_model
from tests.stream_app.worker.worker_process import WorkerProcess
from whirr.settings import Route

GOOD = encoded(noise())
# A few kB that decode to as many samples as a frame may have, and 1 MB of 192 kHz in 8 channels.
BOMB = encoded(np.zeros((2, MAX_SAMPLES // 2), np.int16), 48_000, "FLAC")
# 2,195 bytes that would be 16 million samples at a model's 16 kHz.
GROWING = encoded(np.zeros((8, 60 * 4_166), np.int16), 4_166, "FLAC")
LOUD = encoded(np.zeros((8, 60_000), np.int16), 192_000)
FLOOD, BOMBS, LOUDS = 600, 4, 3


def test_a_small_file_of_many_samples_is_known_before_it_is_decoded() -> None:
    assert len(BOMB) < 100_000
    assert MAX_SAMPLES // 4 <= decode_cost(BOMB) <= MAX_SAMPLES, "most of it is resampled away"
    assert decode_cost(BOMB, 48_000) == MAX_SAMPLES + FRAME_COST
    assert decode_cost(GOOD) == 16_000 + FRAME_COST
    assert decode_cost(b"no audio") == FRAME_COST
    assert decode_cost(LOUD) == 40_000 + 120_000 + FRAME_COST
    slow = encoded(np.zeros((2, 6_000), np.int16), 100)
    assert decode_cost(slow) > 100 * 2 * 6_000, "it grows when it is resampled"
    assert decode_cost(_with_length(GROWING, 0)) >= MAX_SAMPLES, "a length that is not told counts as the longest"


def test_a_frame_that_would_grow_beyond_the_limit_at_the_model_s_rate_is_refused_before_it_is_decoded(
    tmp_path: Path,
) -> None:
    assert decode_cost(GROWING) == FRAME_COST
    for value in (GROWING, _with_length(GROWING, 0), encoded(np.zeros((64, 6_000), np.int16), 100)):
        with pytest.raises(FrameRejected, match="samples at the model's 16000 Hz; at most 4000000") as caught:
            decode(value, 16_000)
        assert caught.value.code == "too_many_samples"
    assert decode(GROWING).samples.shape == (8, 60 * 4_166)
    assert decode(GROWING, 4_166).samples.shape == (8, 60 * 4_166), "as large as a frame may be, at the model's rate"
    path = str(tiny_model(tmp_path / "tiny.onnx"))
    engine = Engine(Router.from_routes([Route(model=path)], {path: load_model(path)[0]}))
    (letter,) = engine.compute([FrameRecord(b"pump-1", GROWING)])
    assert isinstance(letter, DeadLetter)
    assert letter.code == "too_many_samples"


def _with_length(flac: bytes, frames: int) -> bytes:
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | frames
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


async def test_no_batch_costs_more_than_one_of_the_largest_frames() -> None:
    batches: list[list[bytes]] = []

    async def compute(records: list[FrameRecord]) -> list[Answer]:
        batches.append([record.value or b"" for record in records])
        await asyncio.sleep(0)
        return [DeadLetter(code="not_audio", detail="", record=record) for record in records]

    class Sink:
        async def finish(self, batch: list[FetchedFrame], answers: list[Answer]) -> None:
            pass

    flow = Flow(compute, Sink(), WorkerMetrics())  # type: ignore[arg-type]
    running = asyncio.create_task(flow.run())
    values = [BOMB] * 40 + [GOOD] * 100
    for value in values:
        await flow.put([FetchedFrame(FrameRecord(b"pump-1", value), 1, 0)])
    await eventually_async(lambda: sum(map(len, batches)) == len(values))
    running.cancel()
    costs = [sum(map(decode_cost, batch)) for batch in batches]
    assert max(costs) <= max(BATCH_COST, decode_cost(BOMB))
    assert max(map(len, batches)) > 32, "good frames still go together"
    assert {len(batch) for batch in batches if BOMB in batch} == {1}, "nobody waits for a bomb in its batch"


def test_a_storm_of_headers_is_refused_and_does_not_cross() -> None:
    storm = FrameRecord(b"pump-1", GOOD, [("ce_source", b"x")] * 50_000, 1_000)
    with pytest.raises(FrameRejected, match="50000 headers; at most 128"):
        parse_frame(storm)
    refused = _refused(storm)
    assert refused is not None, "nor is it handed to the computing process"
    assert refused.code == "header_invalid"
    few = FrameRecord(b"pump-1", GOOD, [("site", bytes(1_000_000)), ("ce_source", b"x")], 1_000)
    assert _refused(few) is None
    assert (("ce_source", b"x"),) in _envelope(few, None), "what means nothing there does not cross"
    large = _refused(FrameRecord(b"pump-1", bytes(MAX_VALUE_BYTES + 1), (), 1_000))
    assert large is not None
    assert large.code == "value_too_large"


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
