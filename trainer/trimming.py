"""Trimming: recordings that are unlike those before and after them are not learnt from.

Among normal recordings there may be some of a fault, of another machine, or of work beside the machine. One that was
learnt excuses what is like it ever after, so a twentieth of such recordings can cost a detector most of its worth. What
tells them from a healthy machine's rare states is time: a machine drifts, warms up, and stays in a state for a while,
so a recording of it is like some of its neighbours; a stray one isn't.

Each machine is judged by itself. A recording is pooled over time in several ways, and what counts of each vector is its
*step*: how it differs from the median of the two recordings before it and the two after it. How surprising a step is
say the back ends of ``frame_spectrum``, cross-fitted in five blocks on the least surprising 70 % of the steps, which
are found by three rounds from the steps' lengths on (the concentration steps of the minimum covariance determinant:
so many strays can't vouch for each other). Surprises are standardised by their median and median absolute deviation.

- A recording whose surprise exceeds :data:`STRAY` is not learnt, the most surprising first, up to a share that the
  user states. It costs little to lose some healthy ones: their neighbours stay.
- Of the held-out normals, that thresholds are made from, only those beyond :data:`CLEAR` are left out: to leave out
  more would cut off the tail that false alarms come from.
- A machine's first and last recording are kept: whether they stray, or begin a drift, can't be told. So is a stretch
  of successive recordings that are alike: that is a state, or a fault that only a person can tell from one.

Sources: F. R. Hampel, "The influence curve and its role in robust estimation" (1974), for a series judged by its
neighbours' median; P. J. Rousseeuw and K. Van Driessen, "A fast algorithm for the minimum covariance determinant
estimator" (1999); B. Iglewicz and D. C. Hoaglin, "How to detect and handle outliers" (1993), for 3.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas import Condition, FeatureConfig
from trainer.dataset import HeldOutFrame, HeldOutSet, Place, TrainingSet
from trainer.frame_spectrum.graphs import BackEnds
from trainer.fusion import NORMAL_MAD, eighth_root, standards
from trainer.gaussian import MIN_STD
from trainer.graph import Float32, Float64
from trainer.normals import LONGEST, NormalRecording, pooled
from trainer.pooled.graphs import FlutterPool, MaxPool, MeanPool, Pool, Pooling, ShapePool
from trainer.spectrograms import Prepared
from trainer.windows import thinned

STRAY: Final = 1.75  # standard deviations; chosen on half A of the rows of ``make quality``
CLEAR: Final = 3.5
LEAST: Final = 20  # recordings of a machine; fewer are judged in pieces
LEAST_PIECES: Final = 40  # fewer are not judged at all
NEIGHBOURS: Final = 2  # before, and after
CORE: Final = 0.7  # of the steps
ROUNDS: Final = 3
FOLDS: Final = 5
MAX_REFERENCES: Final = 2_000
POOLINGS: Final[tuple[Pooling, ...]] = (Pool(), MeanPool(), MaxPool(), ShapePool(), FlutterPool())


@dataclass(frozen=True, slots=True)
class Stray:
    """A recording, or a part of one, that is not learnt.

    Attributes:
        name: The recording's.
        start_s, stop_s: Which part of it.
        surprise: How unlike its neighbours it is, in standard deviations of what is usual between neighbours.
        for_thresholds: Whether thresholds are made from it nevertheless.
    """

    name: str
    start_s: float
    stop_s: float
    surprise: float
    for_thresholds: bool


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Normals without strays.

    Attributes:
        prepared: What is left.
        strays: The most surprising first.
        judged: How many recordings, or parts, were looked at.
        learnt: How many of those are as unlike their neighbours, and learnt since no more may be left out.
    """

    prepared: Prepared
    strays: tuple[Stray, ...]
    judged: int
    learnt: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """A recording or a part of one, in the training set or held out.

    Attributes:
        machine, name, start_s, stop_s: Whose and which it is.
        pieces: What it consists of, to be pooled; of several signals, each signal's.
        columns: First column and number of columns of those, of the training set.
        frames: Numbers of the held-out frames.
    """

    machine: str | None
    name: str
    start_s: float
    stop_s: float
    pieces: tuple[NormalRecording, ...]
    columns: tuple[tuple[int, int], ...] = ()
    frames: tuple[int, ...] = ()


def trim(prepared: Prepared, share: float, folder: Path, heard: Prepared | None = None) -> Trimmed:
    """Return normals without recordings that are unlike those before and after them.

    Args:
        prepared: Normals of which it is known where they are from, each machine's in time order.
        share: Of each machine's recordings, that may be left out; 0: none.
        folder: For files of what is left.
        heard: The same normals without what is known to move them, to be judged in place of ``prepared``.
    """
    if not share:
        return Trimmed(prepared, (), 0)
    parts: dict[str | None, list[_Part]] = {}
    train, held_out, features = (heard or prepared).train, (heard or prepared).held_out, prepared.features
    for part in (*_trained(train, features), *_held_out(held_out, train.width, features)):
        parts.setdefault(part.machine, []).append(part)
    strays: list[tuple[_Part, float]] = []
    judged = learnt = 0
    for pieces in parts.values():
        own = _whole(pieces)
        if len(own) < LEAST:
            if len(pieces) < LEAST_PIECES:
                continue
            own = pieces
        most = int(share * len(own))
        judged += len(own)
        found = surprises(own_vectors(own))
        found[[0, -1]] = 0.0
        worst = np.argsort(-found, kind="stable")[:most]
        strays += [(own[index], float(found[index])) for index in worst if found[index] > STRAY]
        learnt += max(0, int((found > STRAY).sum()) - most)
    strays.sort(key=lambda stray: -stray[1])
    told = tuple(
        Stray(part.name, part.start_s, part.stop_s, surprise, bool(part.frames) and surprise <= CLEAR)
        for part, surprise in strays
    )
    return Trimmed(_without(prepared, strays, folder), told, judged, learnt)


def surprises(vectors: Sequence[Float32]) -> Float64:
    """Return how surprising each recording is between those before and those after it, float64 ``[recording]``.

    Args:
        vectors: Of each pooling, float32 ``[recording, entry]``, in time order; at least ten recordings.
    """
    steps = [_steps(of_pool) for of_pool in vectors]
    found = np.mean([_standard(eighth_root(_lengths(of_pool))) for of_pool in steps], axis=0)
    blocks = np.array_split(np.arange(len(found)), FOLDS)
    for _ in range(ROUNDS):
        core = np.zeros(len(found), np.bool_)
        core[np.argsort(found, kind="stable")[: int(np.ceil(CORE * len(found)))]] = True
        roots = eighth_root(_unseen(steps, core, blocks))
        middle, spread = standards(roots[:, core])
        found = ((roots - middle[:, np.newaxis]) / spread[:, np.newaxis]).mean(axis=0)
    return _standard(found)


def own_vectors(parts: Sequence[_Part]) -> list[Float32]:
    """Return the vectors of parts, float32 ``[part, entry]`` for each pooling: the mean over what each consists of."""
    pieces = [piece for part in parts for piece in part.pieces]
    firsts = np.cumsum([0, *(len(part.pieces) for part in parts[:-1])])
    counts = np.array([len(part.pieces) for part in parts])[:, np.newaxis]
    return [(np.add.reduceat(pooled(pieces, pool), firsts) / counts).astype(np.float32) for pool in POOLINGS]


def _steps(vectors: Float32) -> Float32:
    """Return each vector's difference from the median of its neighbours; of the outermost ones, all are on one side."""
    count, width = len(vectors), 2 * NEIGHBOURS + 1
    first = np.clip(np.arange(count) - NEIGHBOURS, 0, count - width)
    around = first[:, np.newaxis] + np.arange(width)
    others = around[around != np.arange(count)[:, np.newaxis]].reshape(count, width - 1)
    return np.asarray(vectors - np.median(vectors[others], axis=1), np.float32)


def _lengths(steps: Float32) -> Float64:
    """Return the mean square of each step's entries, each in units of its own spread."""
    exact = steps.astype(np.float64)
    middle = np.median(exact, axis=0)
    spread = NORMAL_MAD * np.median(np.abs(exact - middle), axis=0)
    return np.asarray(np.square((exact - middle) / np.maximum(spread, MIN_STD)).mean(axis=1))


def _unseen(steps: Sequence[Float32], core: NDArray[np.bool_], blocks: Sequence[NDArray[np.int64]]) -> Float64:
    """Return distances, float64 ``[pooling * back end, recording]``, by back ends of the core of the other blocks."""
    found: list[Float64] = []
    for of_pool in steps:
        own: list[Float64] = []
        for block in blocks:
            learnt = core.copy()
            learnt[block] = False
            own.append(BackEnds(thinned(of_pool[learnt], MAX_REFERENCES)).distances(of_pool[block]))
        found.append(np.concatenate(own, axis=1))
    return np.concatenate(found)


def _standard(values: Float64) -> Float64:
    middle, spread = standards(values)
    return np.asarray((values - middle) / spread)


def _lengths_s(features: FeatureConfig) -> tuple[float, float]:
    """Return what each column adds to a signal's length, and what the last one adds besides."""
    return features.hop / features.sample_rate_hz, (features.n_fft - features.hop) / features.sample_rate_hz


def _trained(train: TrainingSet, features: FeatureConfig) -> Iterator[_Part]:
    """Yield pieces of the training set, of at most ten windows; those of several signals together."""
    column_s, rest_s = _lengths_s(features)
    machines = train.machines or (None,) * len(train.places)
    segments = zip(train.segments, train.places, machines, strict=True)
    for (place, machine), group in groupby(
        sorted(segments, key=lambda one: one[0][0]), key=lambda one: (one[1].recording, one[2])
    ):
        by_start: dict[float, list[tuple[int, int]]] = {}
        for (first, columns), own, _ in group:
            count = -(-columns // (LONGEST * train.width))
            bounds = [columns * number // count for number in range(count + 1)]
            for start, stop in pairwise(bounds):
                by_start.setdefault(own.start_s + start * column_s, []).append((first + start, stop - start))
        for start_s, columns_of in by_start.items():
            pieces = tuple(
                NormalRecording((train.columns[first : first + count].transpose(1, 2, 0),))
                for first, count in columns_of
            )
            stop_s = start_s + columns_of[0][1] * column_s + rest_s
            yield _Part(machine, place, start_s, stop_s, pieces, columns=tuple(columns_of))


def _held_out(held_out: HeldOutSet, width: int, features: FeatureConfig) -> Iterator[_Part]:
    """Yield what held-out frames make up, about ten windows together; several signals together."""
    column_s, rest_s = _lengths_s(features)
    columns = held_out.windows.shape[-1]
    numbered = enumerate(held_out.frames)
    for (machine, name), group in groupby(numbered, key=lambda one: (one[1].machine, one[1].recording)):
        frames = list(group)
        each = max(1, LONGEST * width // (frames[0][1].windows * columns))
        for at in range(0, len(frames), each):
            some = frames[at : at + each]
            last = some[-1][1]
            pieces = tuple(
                NormalRecording(tuple(held_out.windows[frame.first + index] for index in own))
                for _, frame in some
                for own in np.split(np.arange(frame.signals * frame.windows), frame.signals)
            )
            stop_s = last.start_s + last.windows * columns * column_s + rest_s
            yield _Part(machine, name, some[0][1].start_s, stop_s, pieces, frames=tuple(number for number, _ in some))


def _whole(parts: Sequence[_Part]) -> list[_Part]:
    """Return parts as whole recordings, of one cut in two what trains and what is held out."""
    found = []
    for (name, _), group in groupby(parts, key=lambda part: (part.name, not part.frames)):
        own = list(group)
        found.append(
            _Part(
                own[0].machine,
                name,
                own[0].start_s,
                own[-1].stop_s,
                tuple(piece for part in own for piece in part.pieces),
                tuple(one for part in own for one in part.columns),
                tuple(one for part in own for one in part.frames),
            )
        )
    return found


def _without(prepared: Prepared, strays: Sequence[tuple[_Part, float]], folder: Path) -> Prepared:
    """Return what is left: something of what is held out always is, since a machine's last recording is no stray."""
    doubtful = {number for part, _ in strays for number in part.frames}
    clear = {number for part, surprise in strays if surprise > CLEAR for number in part.frames}
    held_out = prepared.held_out
    kept = [replace(frame, learnt=number not in doubtful) for number, frame in enumerate(held_out.frames)]
    held_out = replace(held_out, frames=tuple(kept))
    if clear:
        held_out = _copied(held_out, clear, folder / "trimmed.f32")
    gone = [columns for part, _ in strays for columns in part.columns]
    train = _cut(prepared, gone, folder / "trimmed_train.f32") if gone else prepared.train
    return replace(prepared, train=train, held_out=held_out)


def _copied(held_out: HeldOutSet, left_out: Set[int], path: Path) -> HeldOutSet:
    """Return a set without some of its frames, in a file of its own: it may be larger than the memory."""
    frames: list[HeldOutFrame] = []
    count = 0
    with path.open("wb") as file:
        for number, frame in enumerate(held_out.frames):
            if number in left_out:
                continue
            windows = frame.signals * frame.windows
            file.write(held_out.windows[frame.first : frame.first + windows].tobytes())
            frames.append(replace(frame, first=count))
            count += windows
    shape = (count, *held_out.windows.shape[1:])
    return HeldOutSet(np.memmap(path, np.float32, mode="r", shape=shape), tuple(frames))


def _cut(prepared: Prepared, gone: Sequence[tuple[int, int]], path: Path) -> TrainingSet:
    """Return the training set without some of its columns, in a file of its own."""
    train = prepared.train
    column_s, _ = _lengths_s(prepared.features)
    out = np.zeros(len(train.columns), np.bool_)
    for first, count in gone:
        out[first : first + count] = True
    segments: list[tuple[int, int]] = []
    machines: list[str | None] = []
    conditions: list[Condition] = []
    places: list[Place] = []
    written = 0
    with path.open("wb") as file:
        for index, (first, count) in enumerate(train.segments):
            changes = np.diff(np.concatenate([[True], out[first : first + count], [True]]).astype(np.int8))
            for start, stop in np.flatnonzero(changes).reshape(-1, 2).tolist():
                if stop - start < train.width:
                    continue
                file.write(train.columns[first + start : first + stop].tobytes())
                segments.append((written, stop - start))
                written += stop - start
                machines += train.machines[index : index + 1]
                conditions += train.conditions[index : index + 1]
                places.append(replace(train.places[index], start_s=train.places[index].start_s + start * column_s))
    columns = np.memmap(path, np.float32, mode="r", shape=(written, *train.columns.shape[1:]))
    return TrainingSet(columns, tuple(segments), train.width, tuple(machines), tuple(conditions), tuple(places))
