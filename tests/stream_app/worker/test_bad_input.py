"""Whatever comes on the frames topic ends as a score or as a dead letter with a reason, and the worker lives."""

from __future__ import annotations

import json
import struct
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aiokafka import ConsumerRecord

from schemas import ERROR_CODES, FrameRecord, format_rfc3339
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import SECOND_US, encoded, noise, record, tiny_model
from tests.stream_app.worker.worker_process import WorkerProcess
from whirr.settings import Route

GOOD = encoded(noise())
NOW_US = time.time_ns() // 1000


class Case(NamedTuple):
    """One record and what may become of it: a status of a score, or a code of a dead letter."""

    record: FrameRecord
    ends: set[str]


def wav(data_bytes: int, samples: bytes, fmt: int = 1, bits: int = 16, rate_hz: int = 16_000) -> bytes:
    """A WAV file whose header says what it is told to."""
    size = bits // 8
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + data_bytes & 0xFFFFFFFF, b"WAVE", b"fmt ", 16, fmt, 1, rate_hz,
                       rate_hz * size, size, bits)  # fmt: skip
    return head + struct.pack("<4sI", b"data", data_bytes) + samples


def bare(name: str, value: bytes | None) -> FrameRecord:
    """A record as kcat sends it: key and value, no header."""
    return FrameRecord(name.encode(), value)


def floats(first: float) -> bytes:
    samples = noise()[0].copy()
    samples[100] = first
    raw = samples.astype("<f4").tobytes()
    return wav(len(raw), raw, fmt=3, bits=32)


def with_headers(name: str, *headers: tuple[str, bytes]) -> FrameRecord:
    return replace(bare(name, GOOD), headers=list(headers))


def as_scored(name: str, value: bytes) -> Case:
    return Case(bare(name, value), {"scored"})


def padded(size: int) -> bytes:
    """A frame of exactly ``size`` bytes: what follows the samples is another chunk."""
    chunk = size - len(GOOD) - 8
    return GOOD + struct.pack("<4sI", b"junk", chunk) + bytes(chunk)


def cases() -> dict[str, Case]:
    """Every kind of input that gateways have been seen, or can be expected, to send."""
    raw = noise()[0].astype("<f4").tobytes()
    long_flac = encoded(np.zeros((8, 192_000 * 60), np.float32), 192_000, "FLAC")
    assert len(long_flac) < 1_000_000
    found = {
        "bare-wav": as_scored("bare-wav", GOOD),
        "bare-flac": as_scored("bare-flac", encoded(noise(), kind="FLAC")),
        "float": as_scored("float", wav(len(raw), raw, fmt=3, bits=32)),
        "no-value": Case(bare("no-value", None), {"empty_value"}),
        "empty-value": Case(bare("empty-value", b""), {"empty_value"}),
        "noise-bytes": Case(bare("noise-bytes", np.random.default_rng(0).bytes(32_000)), {"not_audio"}),
        "100-bytes": Case(bare("100-bytes", GOOD[:100]), {"truncated", "too_short", "not_audio"}),
        "999999-bytes": as_scored("999999-bytes", padded(999_999)),
        "1000001-bytes": Case(bare("1000001-bytes", padded(1_000_001)), {"value_too_large"}),
        "truncated": Case(bare("truncated", GOOD[: len(GOOD) // 2]), {"truncated"}),
        "lies": Case(bare("lies", wav(1_000_000, GOOD[44:])), {"truncated"}),
        "claims-3-gb": Case(bare("claims-3-gb", wav(0xB0000000, GOOD[44:])), {"truncated", "too_long"}),
        # What a recorder that writes to a pipe claims: the file's end is the data's.
        "written-to-a-pipe": as_scored("written-to-a-pipe", wav(0xFFFFFFF0, GOOD[44:])),
        "zero-samples": Case(bare("zero-samples", wav(0, b"")), {"too_short"}),
        "nan": Case(bare("nan", floats(float("nan"))), {"not_finite"}),
        "infinite": Case(bare("infinite", floats(float("inf"))), {"not_finite"}),
        "all-zero": as_scored("all-zero", encoded(np.zeros((1, 16_000), np.float32))),
        "clipped": as_scored("clipped", encoded(np.sign(noise()))),
        "60-s-192-khz-8-channels": Case(bare("60-s", long_flac), {"too_many_samples"}),
        "no-key": Case(replace(bare("x", GOOD), key=None), {"key_missing"}),
        "key-not-utf-8": Case(replace(bare("x", GOOD), key=b"\xff\xfe"), {"key_invalid"}),
        "key-too-long": Case(replace(bare("x", GOOD), key=b"x" * 129), {"key_invalid"}),
        "future": Case(
            replace(record(GOOD, "future", recorded_us=NOW_US + 3600 * SECOND_US), timestamp_ms=0), {"time_in_future"}
        ),
        "time-malformed": Case(with_headers("time-malformed", ("ce_time", b"yesterday")), {"header_invalid"}),
        "foreign-type": Case(with_headers("foreign-type", ("ce_type", b"other")), {"header_invalid"}),
        "header-not-utf-8": Case(with_headers("header-not-utf-8", ("ce_source", b"\xff")), {"header_invalid"}),
        "100-headers": Case(with_headers("100-headers", *((f"x-{i}", b"y") for i in range(100))), {"scored"}),
        "repeated-header": Case(with_headers("repeated", *[("ce_source", b"mic")] * 2), {"scored"}),
    }
    for rate_hz in (200, 8_000, 44_100, 192_000):
        found[f"{rate_hz}-hz"] = as_scored(f"{rate_hz}-hz", encoded(noise(2.0, rate_hz=rate_hz), rate_hz))
    for channels in (2, 8):
        found[f"{channels}-channels"] = as_scored(f"{channels}-channels", encoded(noise(channels=channels)))
    return found


def _named(found: list[ConsumerRecord], what: str) -> dict[bytes, set[str]]:
    ends: dict[bytes, set[str]] = {}
    for answer in found:
        text = dict(answer.headers)["whirr_error"].decode() if what == "code" else json.loads(answer.value)["status"]
        ends.setdefault(answer.key or b"", set()).add(text)
    return ends


async def test_everything_ends_as_a_score_or_a_dead_letter(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    settings = kafka.settings(route=(Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx"))),))
    wanted = cases()
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, [case.record for case in wanted.values()])

        def answered() -> bool:
            scored = sum(worker.metric("whirr_frames_total", outcome=outcome) for outcome in ("scored", "late", "idle"))
            return scored + worker.metric("whirr_frames_total", outcome="dead_letter") == len(wanted)

        await eventually_async(answered, 60)
        scores = await kafka.drain(settings.scores_topic)
        letters = await kafka.drain(settings.dead_letter_topic)
        ends = {**_named(scores, "status"), **_named(letters, "code")}
        for name, case in wanted.items():
            assert ends[case.record.key or b""] & case.ends, f"{name}: {ends[case.record.key or b'']}"
        _look_at_dead_letters(letters, wanted, worker)
        assert {json.loads(s.value)["sensor_fault"] for s in scores if s.key in (b"all-zero", b"clipped")} == {
            "flat",
            "clipped",
        }
        await _look_at_late_and_missing_frames(kafka, worker, len(scores))
        assert worker.stop() == 0, worker.log
    assert len(scores) + len(letters) == len(wanted)
    assert "Traceback" not in worker.log


def _look_at_dead_letters(letters: list[ConsumerRecord], wanted: dict[str, Case], worker: WorkerProcess) -> None:
    values = Counter(case.record.value or None for case in wanted.values())
    codes = Counter(dict(letter.headers)["whirr_error"].decode() for letter in letters)
    assert set(codes) <= set(ERROR_CODES)
    for letter in letters:
        assert values[letter.value or None], "the value travels as it came"
    for code, count in codes.items():
        assert worker.metric("whirr_dead_letters_total", code=code) == count


async def _look_at_late_and_missing_frames(kafka: KafkaUnderTest, worker: WorkerProcess, before: int) -> None:
    settings = kafka.settings()
    start_us = NOW_US - 60 * SECOND_US
    order = [0, 1, 1, 5, 2, 6]  # 1 comes twice, 2 to 4 are missing until 2 comes late
    frames = [record(GOOD, "disorder", recorded_us=start_us + i * SECOND_US, source="mic", sequence=i) for i in order]
    await kafka.produce(settings.frames_topic, frames)
    answers = await kafka.consume(settings.scores_topic, before + len(frames))
    found = [json.loads(answer.value) for answer in answers if answer.key == b"disorder"]
    assert [score["status"] for score in found] == ["scored", "scored", "late", "scored", "late", "scored"]
    assert [score["missing_before"] for score in found] == [0, 0, 0, 3, 0, 0]
    assert found[0]["recorded_at"] == format_rfc3339(start_us)
    await eventually_async(lambda: worker.metric("whirr_sequence_gaps_total", machine="disorder", source="mic") == 3)
