"""Re-scoring what a frames topic retains, with another model or rule: nothing is committed, nothing is sent."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from backtest.judging import NOTHING, Heeded
from backtest.replay.run import ReplayObserver, conclude
from backtest.score_store import ScoreStore, StoredLetter, opened
from backtest.scoring import (
    BATCH_FRAMES,
    Answer,
    ScoredBatch,
    ScorerConfig,
    score_records,
    score_records_there,
    scorer_pool,
)
from schemas.errors import WhirrError
from schemas.frame import FrameRecord
from stream_app.pipeline import Engine
from stream_app.worker.champions import Champions
from whirr.fetching import unreadable_of
from whirr.settings import Settings
from whirr.topic_reader import read_topic

_AHEAD = 3


class Range(NamedTuple):
    """Which records of the frames topic: stored from ``since_us`` until before ``until_us``, of machines that match."""

    since_us: int | None
    until_us: int | None
    machine: str = "*"


async def records_of(settings: Settings, wanted: Range) -> AsyncIterator[FrameRecord]:
    """Yield the retained frames' records; of those that can't be read, what stands for them.

    Raises:
        SettingsError: There is no such topic.
        ServiceUnavailable: Kafka can't be reached.
    """
    found = read_topic(
        settings,
        settings.frames_topic,
        since_us=wanted.since_us,
        until_us=wanted.until_us,
        unreadable=wanted.machine == "*",
    )
    async for record in found:
        if wanted.machine == "*" or fnmatchcase((record.key or b"").decode(errors="replace"), wanted.machine):
            yield FrameRecord(
                record.key, record.value, tuple(record.headers), record.timestamp, record.topic, record.partition,
                record.offset, unreadable_of(record),
            )  # fmt: skip


async def rescore(
    out: Path,
    settings: Settings,
    wanted: Range,
    champions: Champions,
    jobs: int,
    observer: ReplayObserver,
    *,
    restart: bool = False,
    heeded: Heeded = NOTHING,
) -> dict[str, Any]:
    """Score retained frames in the order of their offsets, write the results, and return the summary.

    Args:
        out: Folder of the results; what came of a topic before is replaced.
        settings: Where Kafka and the topic are.
        wanted: Which frames.
        champions: Routes and models.
        jobs: Processes; with 1 everything happens in this one.
        observer: Is told how it goes on.
        restart: Replace what came of a folder too.
        heeded: Windows and verdicts.

    Raises:
        SettingsError: There is no such topic, or ``out`` holds what came of a folder.
        ServiceUnavailable: Kafka can't be reached.
    """
    with opened(out, {"frames of": "Kafka"}, restart=restart) as store:
        store.clear()  # what is retained changes by the minute: there is nothing to go on with
        began_s, writer = time.monotonic(), _AnswerWriter(store)
        async for batch, answers in _answers(_batches(records_of(settings, wanted)), champions, jobs):
            observer.on_scored(writer.add(batch, answers))
        store.commit()
        origin = {
            "topic": settings.frames_topic,
            "since_us": wanted.since_us,
            "until_us": wanted.until_us,
            "jobs": jobs,
        }
        return conclude(
            out,
            store,
            champions,
            observer,
            began_s=began_s,
            audio_s=writer.audio_s,
            origin=origin,
            heeded=heeded,
        )


async def _batches(records: AsyncIterator[FrameRecord]) -> AsyncIterator[list[FrameRecord]]:
    batch: list[FrameRecord] = []
    async for record in records:
        batch.append(record)
        if len(batch) == BATCH_FRAMES:
            yield batch
            batch = []
    if batch:
        yield batch


async def _answers(
    batches: AsyncIterator[list[FrameRecord]], champions: Champions, jobs: int
) -> AsyncIterator[tuple[list[FrameRecord], list[Answer]]]:
    """Yield each batch with its answers, in order; reading goes on while they are computed."""
    if jobs == 1:
        engine = Engine(champions.router)
        async for batch in batches:
            yield batch, await asyncio.to_thread(score_records, engine, batch)
        return
    loop = asyncio.get_running_loop()
    waiting: deque[tuple[list[FrameRecord], asyncio.Future[list[Answer]]]] = deque()
    pool = scorer_pool(ScorerConfig.of(champions), jobs)
    try:
        async for batch in batches:
            waiting.append((batch, loop.run_in_executor(pool, score_records_there, batch)))
            if len(waiting) >= _AHEAD * jobs:
                sent, answers = waiting.popleft()
                yield sent, await answers
        while waiting:
            sent, answers = waiting.popleft()
            yield sent, await answers
    except BrokenProcessPool:
        raise WhirrError("a scoring process ended before its time; was it short of memory?") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _AnswerWriter:
    """Puts answers into the store, in the order in which their frames were read."""

    def __init__(self, store: ScoreStore) -> None:
        self._store = store
        self._partitions: dict[tuple[str, int], int] = {}
        self._position = 0
        self.audio_s = 0.0

    def add(self, batch: Sequence[FrameRecord], answers: Sequence[Answer]) -> ScoredBatch:
        """Store a batch's answers and return them."""
        added = ScoredBatch([], [], 0.0)
        for record, answer in zip(batch, answers, strict=True):
            file = self._partition(record)
            if isinstance(answer, StoredLetter):
                added.letters.append(answer._replace(file=file))
                continue
            machine, source, row = answer
            self._position += 1
            stream = self._store.stream_id(machine, source or "")
            added.frames.append(row._replace(file=file, stream=stream, position=self._position))
        self._store.add(added.frames, added.letters)
        audio_s = sum(row.duration_s for row in added.frames)
        self.audio_s += audio_s
        return added._replace(audio_s=audio_s)

    def _partition(self, record: FrameRecord) -> int:
        place = record.topic, record.partition
        if place not in self._partitions:
            self._partitions[place] = self._store.partition(*place)
        return self._partitions[place]
