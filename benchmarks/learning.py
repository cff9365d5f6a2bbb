"""What learning on the job costs: a worker that hears verdicts and maintenance windows, and the service that hears it.

The worker's arm follows the registry, a thousand verdicts and a hundred recurring maintenance windows; the shadow model
is an arm of its own (:mod:`benchmarks.throughput`). The service's figure is how many scores a second it reads and folds
into what each machine's learning needs, from the bytes on the topic.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import orjson
from aiokafka import AIOKafkaProducer
from pydantic import TypeAdapter

from benchmarks.environment import MACHINES, NOW_US, Bench
from schemas import Score
from schemas.score import ModelRef
from schemas.times import format_rfc3339
from schemas.verdict import Verdict, VerdictWord, verdict_id
from tests.models import tiny_metadata
from trainer.learning.learner import Learner, LearntVersion, MachineModels
from trainer.learning.spans import Span
from whirr.topics import admin_client, create_topics, verdict_topic_specs

VERDICTS: Final = 1000
WINDOWS: Final = 100
SCORES: Final = 20_000
DAY_US: Final = 86_400_000_000
TOPIC: Final = "bench-verdicts"
_WORDS: Final[tuple[VerdictWord, ...]] = ("false_alarm", "confirmed", "seen", "new_normal")


async def settings_of_a_learning_worker(bench: Bench) -> dict[str, str]:
    """Say the verdicts, and return the settings of a worker that hears them and knows the maintenance windows."""
    settings = bench.settings.model_copy(update={"verdicts_topic": TOPIC})
    async with admin_client(settings) as admin:
        await create_topics(admin, settings, verdict_topic_specs(settings))
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap, acks="all") as producer:
        for number in range(VERDICTS):
            said = _verdict(number)
            await producer.send(TOPIC, orjson.dumps(said), key=said.incident_id.encode())
        await producer.flush()
    file = bench.folder / "learning.toml"
    file.write_text(
        "\n".join(
            f'[[maintenance]]\nmatch = "pump-{number % MACHINES}"\nstart = 2026-01-03T0{number % 10}:00:00Z\n'
            'duration = "5m"\nrule = "FREQ=MONTHLY;BYDAY=1SA"'
            for number in range(WINDOWS)
        )
    )
    return {"VERDICTS_TOPIC": TOPIC, "SETTINGS_FILE": str(file)}


def _verdict(number: int) -> Verdict:
    incident, word = f"{number:032x}", _WORDS[number % len(_WORDS)]
    began = format_rfc3339(NOW_US - 60 * DAY_US)
    given = format_rfc3339(NOW_US - 50 * DAY_US)
    return Verdict(
        verdict_id=verdict_id(incident, word, "bench", given),
        incident_id=incident,
        machine_id=f"pump-{number % MACHINES}",
        source=None,
        kind="machine",
        verdict=word,
        by="bench",
        time=given,
        began_at=began,
        since=given if word == "new_normal" else None,
    )


def scores_per_second() -> float:
    """Return how many scores the service hears in a second, on one core."""
    metadata = tiny_metadata(version="1")
    start_us = NOW_US // DAY_US * DAY_US - 10 * DAY_US
    learnt = LearntVersion(number=1, metadata=metadata, from_us=start_us, baseline=Span(start_us - DAY_US, start_us))
    learners = {f"pump-{number}": Learner(f"pump-{number}") for number in range(MACHINES)}
    for one in learners.values():
        one.registry = MachineModels(champion=learnt, challenger=replace(learnt, number=2))
    values = [orjson.dumps(_score(number, start_us)) for number in range(SCORES)]
    adapter = TypeAdapter(Score)
    began = time.perf_counter()
    for value in values:
        score = adapter.validate_json(value)
        learners[score.machine_id].hear(score)
    return SCORES / (time.perf_counter() - began)


def _score(number: int, start_us: int) -> Score:
    at = format_rfc3339(start_us + number * 1_000_000)
    return Score(
        frame_id=f"{number:032x}",
        machine_id=f"pump-{number % MACHINES}",
        source=None,
        recorded_at=at,
        scored_at=at,
        score=0.5 + 0.1 * (number % 7),
        threshold=1.0,
        status="scored",
        idle_reason=None,
        sensor_fault=None,
        level_dbfs=-20.0,
        missing_before=0,
        model=ModelRef(name="m", version="1"),
        topic="vibration-frames",
        partition=0,
        offset=number,
    )
