"""Scoring: each machine's recordings as one stream, normals first, through the store of scores and the alert rule.

The frames, their scores and what the rule makes of them come as in a replay; recordings have no time of their own, so
they lie one after the other. A recording of which some frame can't be used is not used at all: a broken one must not
move the alert rule.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backtest.judging import judge
from backtest.recording_metrics import Sample
from backtest.replay.frame_records import kind_of
from backtest.replay.replay_options import START_US
from backtest.score_store import ScoreStore, opened
from backtest.scoring import ScoredBatch, frame_ranges, jobs_for, score_all, tasks
from backtest.tally import MachineTally, Tally
from recordings import recording_info
from recordings.cut import frame_count, offset_us
from recordings.find import Problem
from schemas.errors import RecordingError
from schemas.times import MICROSECONDS
from stream_app.worker.champions import Champions
from trainer.recording_set import OnError, Recording, RecordingSet


@dataclass(frozen=True, slots=True)
class Pace:
    """How recordings become a stream.

    Attributes:
        frame_s: Length of the frames that they are cut into, in seconds.
        every_s: Seconds from one recording's start to the next one's; None: back to back.
    """

    frame_s: float
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class ScoredRecording:
    """One recording with its score.

    Attributes:
        score: Mean over its frames.
        frames: How many.
        threshold: The decision threshold of its machine.
    """

    recording: Recording
    machine: str
    score: float
    frames: int
    threshold: float

    @property
    def flagged(self) -> bool:
        """Whether it counts as anomalous."""
        return self.score > self.threshold

    @property
    def ratio(self) -> float:
        """Score / decision threshold: comparable between machines."""
        return self.score / self.threshold


def sample_of(recordings: Sequence[ScoredRecording]) -> Sample:
    """Return what metrics are computed from; each machine is a stratum."""
    machines = sorted({one.machine for one in recordings})
    return Sample(
        np.array([one.recording.anomalous for one in recordings], dtype=bool),
        np.array([one.score for one in recordings], dtype=np.float64),
        np.array([one.flagged for one in recordings], dtype=bool),
        np.array([machines.index(one.machine) for one in recordings], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """What came of the recordings.

    Attributes:
        found: Those that could be used.
        machines: By machine what its frames and alerts amount to, with its one stream.
        recordings: By machine its recordings with their scores, in the order played.
    """

    found: RecordingSet
    machines: Mapping[str, MachineTally]
    recordings: Mapping[str, tuple[ScoredRecording, ...]]


def _nobody() -> None:
    """Hear nothing."""


def play(
    found: RecordingSet,
    champions: Champions,
    pace: Pace,
    on_error: OnError = "skip",
    on_scored: Callable[[], None] = _nobody,
) -> ScoredSet:
    """Score recordings and move the alert rule over them.

    Args:
        found: The recordings, each machine's in the order to play them.
        champions: Each machine's route, with the model.
        pace: How recordings become a stream.
        on_error: Whether recordings that can't be used are left out or raise.
        on_scored: Called after each recording has been scored.

    Raises:
        RecordingError: No recording is left, or some can't be used and ``on_error`` is ``fail``.
        WhirrError: A scoring process ended.
    """
    with tempfile.TemporaryDirectory(prefix="whirr-evaluate-") as folder, opened(Path(folder), {}) as store:
        while problems := _place(found, store, champions, pace) or _score(found, store, champions, on_scored):
            found, on_scored = found.without([one for own in problems.values() for one in own], on_error), _nobody
            _forget(store, problems)
        tally = Tally(pace.every_s or 0.0, keep=True)
        for judged in judge(store, champions.router):
            tally.add(judged)
        tally.end()
        recordings = _recordings(found, store, champions)
        return ScoredSet(found, {machine: tally.machines[machine] for machine in found.by_machine}, recordings)


Problems = Mapping[str, list[Problem]]


def _place(found: RecordingSet, store: ScoreStore, champions: Champions, pace: Pace) -> Problems:
    """Put the recordings of machines that the store lacks there; return those whose headers can't be read."""
    known = {machine for (machine,) in store.db.execute("SELECT machine FROM files JOIN streams s ON s.id = stream")}
    problems: dict[str, list[Problem]] = {}
    for machine, own in found.by_machine.items():
        if machine in known:
            continue
        window_s = champions.router.find(machine).model.metadata.features.window_s
        start_us = START_US
        fault = next((one for one in own if one.anomalous), None)  # the first of them begins the machine's one fault
        for place, one in enumerate(own):
            try:
                info = one.info or recording_info(one.path, one.columns)
                kind = kind_of(one.path, one.path.stat().st_size, info)
            except (RecordingError, OSError) as error:
                problems.setdefault(machine, []).append(Problem(one.name, str(error).removeprefix(f"{one.path}: ")))
                continue
            store.put_file(
                name=one.name,
                stream=store.stream_id(machine, ""),
                start_us=start_us,
                sort_key=f"{place:09}",
                label=one.label,
                onset_s=one.onset_s if one is fault else None,
                **one.condition._asdict(),
                subtype=kind,
                rate_hz=info.rate_hz,
                channels=info.channels,
                samples=info.samples,
                frame_s=pace.frame_s,
                window_s=window_s,
                frames=frame_count(info.samples, info.rate_hz, pace.frame_s, window_s),
            )
            start_us += max(offset_us(info.samples, info.rate_hz), round((pace.every_s or 0.0) * MICROSECONDS))
    return problems


def _score(found: RecordingSet, store: ScoreStore, champions: Champions, on_scored: Callable[[], None]) -> Problems:
    """Score what is left; return the recordings that turn out to be unusable, and why."""
    left = Counter(dict(store.db.execute("SELECT id, frames - done FROM files").fetchall()))

    def scored(answers: ScoredBatch) -> None:
        for file, frames in answers.by_file().items():
            left[file] -= frames
            if not left[file]:
                on_scored()

    columns = next((one.columns for one in found.recordings), ())
    batches = tasks(frame_ranges(store, str(found.folder), columns))
    score_all(batches, store, champions, jobs_for(left.total(), None), scored)
    problems: dict[str, list[Problem]] = {}
    query = (
        "SELECT s.machine, f.name, min(l.number), l.code, l.detail FROM letters l JOIN files f ON f.id = l.file "
        "JOIN streams s ON s.id = f.stream GROUP BY f.id ORDER BY f.stream, f.start_us"
    )
    for machine, name, number, code, detail in store.db.execute(query):
        reason = detail if code == "truncated" else f"frame {number + 1}: {detail} ({code})"
        problems.setdefault(machine, []).append(Problem(name, reason))
    return problems


def _forget(store: ScoreStore, machines: Iterable[str]) -> None:
    """Forget the recordings of machines: without a recording the others of its machine lie elsewhere in time."""
    for machine in machines:
        query = "SELECT f.id FROM files f JOIN streams s ON s.id = f.stream WHERE s.machine = ?"
        store.forget([row[0] for row in store.db.execute(query, (machine,)).fetchall()])
        store.db.execute("DELETE FROM files WHERE stream = (SELECT id FROM streams WHERE machine = ?)", (machine,))


def _recordings(found: RecordingSet, store: ScoreStore, champions: Champions) -> dict[str, tuple[ScoredRecording, ...]]:
    names = dict(store.db.execute("SELECT id, name FROM files").fetchall())
    scores = {names[one.file]: one for one in store.recording_scores()}
    recordings = {}
    for machine, own in found.by_machine.items():
        threshold = champions.router.find(machine).model.metadata.thresholds_for(machine).decision_threshold
        recordings[machine] = tuple(
            ScoredRecording(one, machine, scores[one.name].score, scores[one.name].frames, threshold) for one in own
        )
    return recordings
