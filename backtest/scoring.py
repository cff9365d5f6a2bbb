"""Scoring: ranges of frames in, stored answers out, in as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from backtest.replay.frame_records import FrameRange, records
from backtest.score_store import ScoreStore, StoredFrame, StoredLetter
from schemas.condition import Condition
from schemas.dead_letter import DeadLetter
from schemas.errors import WhirrError
from schemas.frame import FrameRecord
from stream_app.pipeline import Computed, Engine, Router
from stream_app.worker.champions import Champions, load_model
from stream_app.worker.lineups import ALONE, Beside
from whirr.settings import Route

BATCH_FRAMES = 64  # as the worker's; it changes the speed, never an answer
_BATCH_SAMPLES = 4_000_000
_FRAMES_A_JOB = 2048  # a process takes a second or more to start
_AHEAD = 3  # batches that wait for each process


class ScoredBatch(NamedTuple):
    """What scoring a batch gave, and how many seconds of signal it held."""

    frames: list[StoredFrame]
    letters: list[StoredLetter]
    audio_s: float

    def by_file(self) -> Counter[int]:
        """Return how many frames of each recording these are."""
        return Counter(row.file for row in self.frames) + Counter(row.file for row in self.letters)


class ScorerConfig(NamedTuple):
    """What a process needs to become a scorer.

    Attributes:
        routes: The routing table.
        files: Path and SHA-256 of each champion's file by ``route.model``.
        beside: The champions before them.
    """

    routes: tuple[Route, ...]
    files: dict[str, tuple[str, str]]
    beside: Beside = ALONE

    @classmethod
    def of(cls, champions: Champions) -> ScorerConfig:
        """Return the configuration of models that are loaded here."""
        routes = tuple(routed.route for routed in champions.router.routed)
        return cls(routes, {key: (file.path, file.digest) for key, file in champions.files.items()}, champions.beside)

    def engine(self) -> Engine:
        """Load the models.

        Raises:
            ModelError: A file is not what it was.
        """
        models, others = (
            {key: load_model(path, digest)[0] for key, (path, digest) in files.items()}
            for files in (self.files, self.beside.files)
        )
        return Engine(Router.from_routes(self.routes, self.beside.lineups(models, others)))


Task = Sequence[FrameRange]


_PIECES = (
    "SELECT f.id, f.name, f.subtype, f.stream, s.machine, s.source, f.start_us, f.rate_hz, f.channels, f.samples, "
    "f.frame_s, f.rpm, f.load, f.frames, f.done FROM files f JOIN streams s ON s.id = f.stream WHERE f.problem IS NULL "
)


def frame_ranges(store: ScoreStore, folder: str, columns: tuple[str, ...] = ()) -> Iterator[FrameRange]:
    """Yield what is left to score, in order of streams and time, no part larger than a batch."""
    # Read ahead of what is being written: the answers change these rows.
    store.db.execute("DROP TABLE IF EXISTS temp.left_over")
    left_over = "CREATE TEMP TABLE left_over AS " + _PIECES + "AND f.done < f.frames"
    store.db.execute(left_over + " ORDER BY f.stream, f.start_us, f.sort_key, f.name")
    for page in store.pages("SELECT * FROM temp.left_over ORDER BY rowid"):
        for *row, rpm, load, frames, done in page:
            which = frames, done, frames - done
            whole = FrameRange._make((row[0], folder, *row[1:], *which, columns, Condition(rpm, load)))
            yield from [whole] if whole.kind in ("serial", "table") else _parts(whole)


def all_frame_ranges(store: ScoreStore, folder: str, columns: tuple[str, ...] = ()) -> Iterator[FrameRange]:
    """Yield each recording as one part, in order of time."""
    for page in store.pages(_PIECES + "ORDER BY f.start_us, f.sort_key, f.name"):
        for *row, rpm, load, frames, _done in page:
            which = frames, 0, frames
            yield FrameRange._make((row[0], folder, *row[1:], *which, columns, Condition(rpm, load)))


def _parts(part: FrameRange) -> Iterator[FrameRange]:
    most = max(1, min(BATCH_FRAMES, _BATCH_SAMPLES // (part.length * part.channels)))
    end = part.first + part.many
    for first in range(part.first, end, most):
        yield part._replace(first=first, many=min(most, end - first))


def tasks(found: Iterable[FrameRange]) -> Iterator[list[FrameRange]]:
    """Yield ranges of frames put together to batches."""
    batch: list[FrameRange] = []
    frames = samples = 0
    for part in found:
        own = part.many * min(part.length, part.samples) * part.channels
        if batch and (frames + part.many > BATCH_FRAMES or samples + own > _BATCH_SAMPLES):
            yield batch
            batch, frames, samples = [], 0, 0
        batch.append(part)
        frames += part.many
        samples += own
    if batch:
        yield batch


def score(engine: Engine, task: Task) -> ScoredBatch:
    """Return the answers to all frames of some ranges; each frame has one."""
    answers = ScoredBatch([], [], 0.0)
    audio_s = 0.0
    waiting: list[tuple[FrameRange, int, FrameRecord]] = []
    for part in task:
        for number, recorded_us, record, problem in records(part):
            audio_s += part.duration_s(number)
            if record is None:
                told = (part.file, number, part.machine, part.source or None, recorded_us)
                answers.letters.append(StoredLetter(*told, "truncated", problem or ""))
                continue
            waiting.append((part, number, record))
            if len(waiting) == BATCH_FRAMES:
                _compute(engine, waiting, answers)
                waiting = []
    _compute(engine, waiting, answers)
    return answers._replace(audio_s=audio_s)


def _compute(engine: Engine, waiting: Sequence[tuple[FrameRange, int, FrameRecord]], answers: ScoredBatch) -> None:
    computed = engine.compute([record for _, _, record in waiting])
    for (part, number, _), answer in zip(waiting, computed, strict=True):
        if isinstance(answer, DeadLetter):
            told = (part.file, number, part.machine, part.source or None, part.recorded_us(number))
            answers.letters.append(StoredLetter(*told, answer.code, answer.detail))
        else:
            answers.frames.append(frame_row(answer, part.file, number, part.stream, answer.frame.recorded_us))


Answer = tuple[str, str | None, StoredFrame] | StoredLetter


def score_records(engine: Engine, found: Sequence[FrameRecord]) -> list[Answer]:
    """Return the answer to each record of a topic: machine, source and row, or a dead letter.

    Of what :class:`StoredFrame` holds, the ids of partition and stream and the position are left to the caller.
    """
    answers: list[Answer] = []
    for record, answer in zip(found, engine.compute(found), strict=True):
        if isinstance(answer, DeadLetter):
            key = None if record.key is None else record.key.decode(errors="replace")
            answers.append(StoredLetter(0, record.offset, key, None, None, answer.code, answer.detail))
        else:
            row = frame_row(answer, 0, record.offset, 0, 0)
            answers.append((answer.frame.machine_id, answer.frame.source, row))
    return answers


def frame_row(computed: Computed, file: int, number: int, stream: int, position: int) -> StoredFrame:
    """Return a scored frame as it is stored."""
    frame = computed.frame
    return StoredFrame(
        file,
        number,
        stream,
        position,
        frame.frame_id,
        frame.recorded_us,
        frame.record.timestamp_ms,
        frame.sequence,
        frame.foreign_id,
        computed.score,
        computed.level_dbfs,
        computed.sensor_fault,
        computed.duration_s,
        computed.band_error.tobytes(),
        computed.statistics.tobytes(),
        ",".join(computed.unfamiliar),
    )


def score_all(
    found: Iterable[Task],
    store: ScoreStore,
    champions: Champions,
    jobs: int,
    scored: Callable[[ScoredBatch], None] = lambda _answers: None,
) -> None:
    """Score tasks into the store.

    Args:
        found: What to score.
        store: Where answers go, in the order of the tasks.
        champions: The models.
        jobs: Processes; with 1 everything happens in this one.
        scored: Called after each task has been stored.

    Raises:
        WhirrError: A process ended.
    """
    answers = _here(found, champions.router) if jobs == 1 else _in_processes(found, ScorerConfig.of(champions), jobs)
    try:
        for answer in answers:
            store.add(answer.frames, answer.letters)
            scored(answer)
    finally:
        store.commit()


def jobs_for(frames: int, jobs: int | None) -> int:
    """Return how many processes are worth starting for so many frames, at most ``jobs`` or one for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(jobs or cores, frames // _FRAMES_A_JOB))


def _here(found: Iterable[Task], router: Router) -> Iterator[ScoredBatch]:
    engine = Engine(router)
    for task in found:
        yield score(engine, task)


def _in_processes(found: Iterable[Task], config: ScorerConfig, jobs: int) -> Iterator[ScoredBatch]:
    waiting: deque[Future[ScoredBatch]] = deque()
    pool = scorer_pool(config, jobs)
    try:
        for task in found:
            waiting.append(pool.submit(_score_there, task))
            if len(waiting) >= _AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WhirrError(
            "a scoring process ended before its time (was it short of memory?); "
            "the same command goes on where it stopped"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def scorer_pool(config: ScorerConfig, jobs: int) -> ProcessPoolExecutor:
    """Return so many processes that have the models loaded."""
    # A forked child would inherit onnxruntime's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, initializer=_become_scorer, initargs=(config,))


_engine: Engine | None = None


def _become_scorer(config: ScorerConfig) -> None:
    global _engine  # noqa: PLW0603 - what a pool's process keeps between two tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _engine = config.engine()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score_there(task: Task) -> ScoredBatch:
    assert _engine is not None
    return score(_engine, task)


def score_records_there(found: Sequence[FrameRecord]) -> list[Answer]:
    """Do :func:`score_records` in a process of :func:`scorer_pool`."""
    assert _engine is not None
    return score_records(_engine, found)
