"""Known conditions: what speed and load do to a machine's spectrum, learnt from its normals and taken off.

Where the recordings say how the machine ran, a regression of each band's mean level on speed and load tells what these
do to a healthy machine; a detector then learns from, and judges, what they leave (covariate adjustment). A straight
line for each band is all: with the 60 recordings of a simulated machine, curves and kernels explain more of the
normals and judge worse at speeds that were not trained (docs/training.md has the figures).

What a detector learns from is adjusted by a regression that has not seen it (cross-fitting), so that it is as
scattered as what will be scored. Only how far a machine is off its own mean of conditions is cross-fitted: what that
mean itself adds is one offset a machine, which the served graph takes off by its one slope, and so does the training.
A frame whose condition isn't known is judged by a second graph that was fitted without conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas import Condition
from schemas.condition import CONDITIONS, ConditionName
from stream_app.pipeline.model import as_array
from trainer.dataset import TrainingSet
from trainer.detector import Detector, Fitted, OnEpoch
from trainer.graph import Float32, Float64, Graph, Tensor, build_conditioned
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig

FOLDS: Final = 5
FAR: Final = 5.0  # times the others' range: so far off lies no recording of the same machine
NARROW: Final = 0.1  # of what they state in the middle: a narrower range counts as this
RIDGE: Final = 1e-3  # of the conditions' variance within machines
EXPLAINED: Final = 0.1  # of the normals' variance: less is not worth a second graph
BEYOND: Final = 0.1  # of the range learnt, at either end: so far a straight line is followed
SERVED: Final = 95.0  # percentile of held-out normals at which both graphs' scores are made the same
LEAST: Final = 1e-6
_AT_ONCE: Final = 4096

Ranges = dict[ConditionName, tuple[float, float]]
ByRecording = Mapping[str, tuple[str, Condition]]  # whose a recording is ('' where nothing says), and how that ran


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What the conditions add to each band's mean log energy.

    Attributes:
        ranges: By condition, where it holds: what was learnt from, and a tenth of it more at either end.
        centres: float32 ``[condition]``, in the order of :data:`CONDITIONS`; of one that isn't used, 0.
        slopes: float32 ``[condition, channel, band]``, nat a unit; of one that isn't used, 0.
    """

    ranges: Ranges
    centres: Float32
    slopes: Float32

    def of(self, conditions: Float32) -> Float32:
        """Return what conditions, float32 ``[one, condition]``, add to the bands, float32 ``[one, channel, band]``."""
        moved = np.stack([self._moved(conditions[:, at], at) for at in range(len(CONDITIONS))], axis=1)
        return _times(moved, self.slopes)

    def _moved(self, stated: Float32, at: int) -> Float32:
        if CONDITIONS[at] not in self.ranges:
            return np.zeros_like(stated)
        moved: Float32 = np.clip(stated, *self.ranges[CONDITIONS[at]]) - self.centres[at]
        return moved

    def __call__(self, log_mel: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames without what their conditions add, and whether all that is needed is known, ``[window]``.

        Args:
            log_mel: float32 ``[window, channel, band, time]``.
            condition: float32 ``[window, condition]``; NaN for what isn't known.
        """
        known: Tensor | None = None
        for at, name in enumerate(CONDITIONS):
            if name not in self.ranges:
                continue
            stated = condition.between(at, at + 1, 1).squeeze(1)
            missing = stated.is_nan()
            known = missing.negated() if known is None else known.also(missing.negated())
            filled = stated.where(missing.negated(), self.centres[at])
            moved = filled.clipped(*self.ranges[name]) - self.centres[at]
            log_mel = log_mel - moved.unsqueeze(1, 2, 3) * self.slopes[at][np.newaxis, :, :, np.newaxis]
        assert known is not None
        return log_mel, known


@dataclass(frozen=True, slots=True)
class Learnt:
    """An adjustment, or why there is none.

    Attributes:
        adjustment: From the training set.
        unseen: What the conditions add to each of its segments, float32 ``[segment, channel, band]``: at their
            machine's mean by the adjustment, and from there on by a regression that has not seen the segment.
        why: A line on what the conditions explain, and on those that are not used; '' where no recording states any.
    """

    adjustment: Adjustment | None = None
    unseen: Float32 | None = None
    why: str = ""


def fit_conditioned(
    detector: Detector, data: Prepared, config: TrainConfig, folder: Path, on_epoch: OnEpoch
) -> tuple[Fitted, Ranges]:
    """Fit a detector; where conditions are known and tell something, on what they leave, and once more without them.

    Args:
        detector: What learns.
        data: The normals.
        config: Its options.
        folder: For the adjusted spectrograms.
        on_epoch: Hears of epochs.

    Returns:
        What was fitted, and by condition the range in which the graph takes it; empty where it takes none.
    """
    plain = detector.fit(data, config, on_epoch)
    learnt = learn(data)
    if detector.by_gradient:
        unused = "" if learnt.adjustment is None else f"speed and load are not used: {detector.name} learns in epochs"
        learnt = replace(learnt, adjustment=None, why=unused)  # a checkpoint is of one training
    if learnt.adjustment is None or learnt.unseen is None:
        return replace(plain, why="; ".join(filter(None, (plain.why, learnt.why)))), {}
    adjusted_data = _adjusted(data, learnt.adjustment, learnt.unseen, folder)
    adjusted = detector.fit(adjusted_data, config, on_epoch)
    held_out = adjusted_data.held_out.windows
    levels = [
        float(np.percentile(_judge(fitted).score(windows)[0], SERVED))
        for fitted, windows in ((adjusted, held_out), (plain, data.held_out.windows))
    ]
    factor = max(levels[0], LEAST) / max(levels[1], LEAST)

    def both(one: Graph, other: Graph) -> Graph:
        scorer = _Conditioned(learnt.adjustment, one, other, factor)
        return build_conditioned(scorer, data.shape, any_length=detector.whole_frames)

    graph = both(adjusted.graph, plain.graph)
    judge = graph if adjusted.judge is None else both(_judge(adjusted), _judge(plain))
    figures = {**plain.figures, **{f"{name} adjusted": value for name, value in adjusted.figures.items()}}
    fitted = replace(
        adjusted, graph=graph, why=f"{learnt.why}; {adjusted.why}", judge=judge, figures=figures, refit=None
    )
    return fitted, learnt.adjustment.ranges


def _judge(fitted: Fitted) -> Graph:
    return fitted.judge or fitted.graph


class _Conditioned:
    """Scores what the conditions leave where they are known, else the frame as it is.

    Args:
        adjustment: What conditions add.
        adjusted: Scores what they leave.
        plain: Scores frames as they are.
        factor: That makes the plain one's scores comparable with the same threshold.
    """

    def __init__(self, adjustment: Adjustment | None, adjusted: Graph, plain: Graph, factor: float) -> None:
        assert adjustment is not None
        self._adjustment, self._adjusted, self._plain, self._factor = adjustment, adjusted, plain, factor

    def __call__(self, log_mel: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return score and band_error: see :mod:`trainer.detector`."""
        left, known = self._adjustment(log_mel, condition)
        nothing = log_mel.between(0, 1, 3).mean(3) * 0.0

        def none() -> tuple[Tensor, Tensor]:
            return nothing.mean(2).mean(1), nothing * 1.0

        # What no frame of a batch needs isn't computed.
        score, bands = known.any().choose(lambda: self._adjusted.within(left), none)
        plain = known.negated().any().choose(lambda: self._plain.within(log_mel), none)
        plain_score, plain_bands = (one * self._factor for one in plain)
        return score.where(known, plain_score), bands.where(known.unsqueeze(1, 2), plain_bands)


def learn(data: Prepared) -> Learnt:
    """Learn what the conditions of the training set's recordings do, if all state them and they explain something."""
    train = data.train
    if not train.conditions:
        return Learnt()
    stated = as_array(train.conditions)
    trained = _by_recording(train)
    every = trained | {one.recording: (one.machine or "", one.condition) for one in data.held_out.frames}
    unused = {name: _unused(name, trained, every) for name in CONDITIONS}
    used = [at for at, name in enumerate(CONDITIONS) if unused[name] is None]
    off = [_far_off(CONDITIONS[at], every) for at in used]

    def why(of_used: str) -> str:
        return "; ".join(filter(None, (of_used, *unused.values(), *off)))

    if not used:
        return Learnt(why=why(""))
    runs = _runs(train)
    named = " and ".join(CONDITIONS[at] for at in used)
    explain, are, change = ("explain", "are", "change") if len(used) > 1 else ("explains", "is", "changes")
    if runs[-1] + 1 < FOLDS:
        return Learnt(why=why(f"{named} {change} too seldom to learn from"))
    regression = _Regression(train, stated[:, used].astype(np.float64))
    folds = runs % FOLDS
    unseen = np.zeros((len(stated), *data.shape[:2]), np.float32)
    for fold in range(FOLDS):
        unseen[folds == fold] = regression.leaving_out(folds == fold)
    left = regression.share_left(unseen)
    if left > 1 - EXPLAINED:
        share = f"{max(0, 1 - left):.0%} of the normals' spectra"
        return Learnt(why=why(f"{named} {explain} {share} and {are} not used"))
    slopes = np.zeros((len(CONDITIONS), *data.shape[:2]), np.float32)
    centres = np.zeros(len(CONDITIONS), np.float32)
    slopes[used], centres[used] = regression.slopes(), regression.centres
    ranges = {CONDITIONS[at]: _range(stated[:, at]) for at in used}
    taken = f"{named} {explain} {1 - left:.0%} of the normals' spectra and {are} taken off"
    return Learnt(Adjustment(ranges, centres, slopes), unseen, why(taken))


class _Regression:
    """Ridge regression of the bands' mean levels on conditions, machine by machine with slopes in common.

    Args:
        train: The training set.
        stated: float64 ``[segment, condition]``.
    """

    def __init__(self, train: TrainingSet, stated: Float64) -> None:
        self._means = np.stack([_mean(train, *segment) for segment in train.segments])
        machines = train.machines or (None,) * len(stated)
        self._owner = np.unique([machine or "" for machine in machines], return_inverse=True)[1]
        self.centres = stated.mean(axis=0)
        self._moved = self._within(stated, self._owner)
        self._scales = self._moved.std(axis=0)
        self._at_mean = _times(stated - self._moved - self.centres, self.slopes())

    def slopes(self, left_out: NDArray[np.bool_] | None = None) -> Float64:
        """Return slopes, float64 ``[condition, channel, band]``, nat a unit, of all segments but some."""
        kept = np.ones(len(self._owner), np.bool_) if left_out is None else ~left_out
        values = self._moved / self._scales, self._means
        of, levels = (self._within(one[kept], self._owner[kept]) for one in values)
        flat = levels.reshape(len(levels), -1)
        gram = of.T @ of + RIDGE * len(of) * np.eye(of.shape[1])
        solved = np.linalg.solve(gram, of.T @ flat).reshape(-1, *levels.shape[1:])
        return np.asarray(solved / self._scales[:, np.newaxis, np.newaxis])

    def leaving_out(self, left_out: NDArray[np.bool_]) -> Float32:
        """Return what their conditions add to segments that are left out, float32 ``[segment, channel, band]``.

        The slope that has not seen them counts from their machine's own mean on: far from the centre of all machines,
        the slopes' differences would be offsets that differ by fold, which no served frame has.
        """
        return self._at_mean[left_out] + _times(self._moved[left_out], self.slopes(left_out))

    def share_left(self, explained: Float32) -> float:
        """Return the share of the normals' variance, within machines, that an explanation leaves."""
        before, after = (
            np.square(self._within(one, self._owner)).sum() for one in (self._means, self._means - explained)
        )
        return float(after / max(before, LEAST))

    @staticmethod
    def _within(values: Float64, owner: NDArray[np.int64]) -> Float64:
        """Return values without the mean of their machine's."""
        found = values.copy()
        for machine in np.unique(owner):
            found[owner == machine] -= found[owner == machine].mean(axis=0)
        return found


def without_conditions(data: Prepared, folder: Path) -> Prepared:
    """Return normals without what their conditions add, in files in ``folder``; where that isn't known, as they are."""
    learnt = learn(data)
    if learnt.adjustment is None or learnt.unseen is None:
        return data
    return _adjusted(data, learnt.adjustment, learnt.unseen, folder)


def _adjusted(data: Prepared, adjustment: Adjustment, unseen: Float32, folder: Path) -> Prepared:
    """Return data without what conditions add, in files like those that it came in."""
    train, held_out = data.train, data.held_out
    with (folder / "train_adjusted.f32").open("w+b") as file:
        for (first, count), added in zip(train.segments, unseen, strict=True):
            file.write((train.columns[first : first + count] - added).tobytes())
        file.flush()
        columns = np.memmap(file, np.float32, mode="r", shape=train.columns.shape)
    of_windows = adjustment.of(held_out.conditions)
    with (folder / "held_out_adjusted.f32").open("w+b") as file:
        for at in range(0, len(of_windows), _AT_ONCE):
            here = slice(at, at + _AT_ONCE)
            file.write((held_out.windows[here] - of_windows[here, :, :, np.newaxis]).tobytes())
        file.flush()
        windows = np.memmap(file, np.float32, mode="r", shape=held_out.windows.shape)
    return replace(data, train=replace(train, columns=columns), held_out=replace(held_out, windows=windows))


def _times(moved: NDArray[Any], slopes: NDArray[Any]) -> Float32:
    return np.asarray(np.einsum("nc,chb->nhb", moved, slopes), np.float32)


def _runs(train: TrainingSet) -> NDArray[np.int64]:
    """Return the number of each segment's run: successive segments of one machine under the same condition."""
    machines = train.machines or (None,) * len(train.segments)
    keys: Iterator[tuple[str | None, Condition]] = zip(machines, train.conditions, strict=True)
    lengths = [len(list(group)) for _, group in groupby(keys)]
    return np.repeat(np.arange(len(lengths)), lengths)


def _mean(train: TrainingSet, first: int, count: int) -> Float64:
    mean: Float64 = train.columns[first : first + count].mean(axis=0, dtype=np.float64)
    return mean


def _range(stated: Float32) -> tuple[float, float]:
    low, high = float(stated.min()), float(stated.max())
    more = BEYOND * (high - low)
    return low - more, high + more


def _by_recording(train: TrainingSet) -> dict[str, tuple[str, Condition]]:
    machines = train.machines or (None,) * len(train.segments)
    found = zip(train.places, machines, train.conditions, strict=True)
    return {place.recording: (machine or "", condition) for place, machine, condition in found}


def _unused(name: ConditionName, trained: ByRecording, every: ByRecording) -> str | None:
    """Return why a condition can't be used, '' where no recording states it; None where it can."""
    without = [recording for recording, (_, one) in every.items() if getattr(one, name) is None]
    if len(without) == len(every):
        return ""
    if without:
        lack = f"{len(without)} of {len(every)} recordings that are learnt"
        return f"{name} is not used: {lack} {'does' if len(without) == 1 else 'do'} not state it, first {without[0]!r}"
    values = {getattr(one, name) for _, one in trained.values()}
    if len(values) == 1:
        return f"{name} is not used: it does not vary, it is {next(iter(values)):g} in all that trains"
    by_machine = {(machine, getattr(one, name)) for machine, one in trained.values()}
    if len(by_machine) == len({machine for machine, _ in trained.values()}):
        return f"{name} is not used: it varies between machines, and within none"
    return None


def _far_off(name: ConditionName, every: ByRecording) -> str:
    """Return a word on the recording that states something far from what all others do; '' where none does."""
    values = {recording: float(getattr(one, name)) for recording, (_, one) in every.items()}
    middle = median(values.values())
    farthest = max(values, key=lambda recording: abs(values[recording] - middle))
    others = [value for recording, value in values.items() if recording != farthest]
    low, high = min(others), max(others)
    if max(low - values[farthest], values[farthest] - high) <= FAR * max(high - low, NARROW * abs(middle)):
        return ""
    return f"{name} is {values[farthest]:g} in {farthest!r}, far off the others' {low:g} to {high:g}: is that right?"
