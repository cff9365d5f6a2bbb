"""Several detectors as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.auto.graphs import FusedDetectors, Member
from trainer.dataset import HeldOutFrame, HeldOutSet
from trainer.detector import Detector, Fitted, OnEpoch, find_detector
from trainer.fusion import Fusion, eighth_root
from trainer.graph import Float32, Graph, build
from trainer.normals import NormalSet, all_normals
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.windows import as_training_set

FAR: Final = 3.0  # standardised; of normally distributed scores one in 740 lies beyond


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One candidate, cross-fitted.

    Attributes:
        name: The detector's.
        why: What it chose.
        graph: Fitted on all normals.
        before: Fitted on all but the held-out ones.
        unseen: Scores of all normal windows, each by a graph that was not fitted on it, float32 ``[window]``.
        width: Columns of the windows that its graph takes; None: any number.
    """

    name: str
    why: str
    graph: Graph
    before: Graph
    unseen: Float32
    width: int | None


class AutoDetector(Detector):
    """Fits the candidates on all normals; the mean of their standardised scores counts.

    Normals are cut into five blocks of recordings in time order, the last of them the held-out ones. Each block is
    scored by candidates that were fitted on the others: that tells how surprising a score is for a candidate, and gives
    the held-out scores that thresholds are made from. So no normal is missing from what is fitted in the end.
    """

    name = "auto"
    sound_rate_hz = 48_000
    whole_frames = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Cross-fit each candidate, then fit it on all normals."""
        normals = all_normals(data.train, data.held_out)
        found = [_cross_fit(name, normals, data, config) for name in config.candidates]
        if len(found) == 1 and found[0].width is None:
            alone = found[0]
            why, runs = f"{alone.name}: {alone.why}", normals.runs(alone.unseen)
            return Fitted(
                alone.graph,
                why,
                judge=alone.before,
                unseen=alone.unseen,
                unseen_runs=runs,
                unseen_recordings=normals.recordings_of_runs(),
            )
        unseen = np.stack([one.unseen for one in found]).astype(np.float64)
        fusion = Fusion(unseen)

        def fused(graphs: Sequence[Graph]) -> Graph:
            widths = [one.width for one in found]
            members = [Member(graph, data.shape[:2], width) for graph, width in zip(graphs, widths, strict=True)]
            return build(FusedDetectors(members, fusion), data.shape, any_length=True)

        graph, judge = fused([one.graph for one in found]), fused([one.before for one in found])
        why = "; ".join(f"{one.name} ({one.why})" for one in found)
        runs = normals.runs(fusion.scores(unseen).astype(np.float32))
        return Fitted(
            graph,
            f"the mean of {why}",
            judge=judge,
            figures=_figures(found, fusion),
            unseen_runs=runs,
            unseen_recordings=normals.recordings_of_runs(),
        )


def _cross_fit(name: str, normals: NormalSet, data: Prepared, config: TrainConfig) -> _Candidate:
    """Return a candidate that has chosen its settings without the held-out normals, the last of the blocks."""
    detector = find_detector(name)
    if detector.whole_frames:
        whole = detector.fit(data, config, lambda _: None)
        assert whole.judge is not None
        assert whole.unseen is not None
        return _Candidate(name, whole.why, whole.graph, whole.judge, whole.unseen, None)

    *others, held_out = (np.isin(normals.owner, block) for block in normals.blocks)
    # A frame may hold several windows; a detector of windows is shown held-out ones of the length that it learns.
    frames = tuple(HeldOutFrame(None, "", index, 1, 1) for index in range(int(held_out.sum())))
    unseen_windows = HeldOutSet(normals.windows[held_out], frames)

    def without(left_out: NDArray[np.bool_]) -> Prepared:
        return replace(data, train=as_training_set(normals.windows[~left_out]), held_out=unseen_windows)

    def fit(left_out: NDArray[np.bool_]) -> Graph:
        if first.refit is not None:
            return first.refit(without(left_out))
        return detector.fit(without(left_out), config, lambda _: None).graph

    first = detector.fit(without(held_out), config, lambda _: None)
    unseen = np.empty(len(normals.windows), np.float32)
    unseen[held_out] = first.graph.score(normals.windows[held_out])[0]
    for block in others:
        unseen[block] = fit(block).score(normals.windows[block])[0]
    nothing = np.zeros(len(normals.windows), np.bool_)
    return _Candidate(name, first.why, fit(nothing), first.graph, unseen, normals.width)


def _figures(found: Sequence[_Candidate], fusion: Fusion) -> dict[str, float]:
    """Return what each candidate made of the normals that it had not seen; of scores' eighth roots."""
    figures: dict[str, float] = {}
    for one, median, deviation in zip(found, fusion.medians, fusion.deviations, strict=True):
        roots = eighth_root(one.unseen.astype(np.float64))
        figures[f"{one.name}.median"] = float(median)
        figures[f"{one.name}.deviation"] = float(deviation)
        figures[f"{one.name}.far"] = float(((roots - median) / deviation > FAR).mean())
    return figures
