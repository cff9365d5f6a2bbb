"""Several detectors as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from trainer.auto.graphs import MostSurprised
from trainer.detector import Detector, Fitted, OnEpoch, find_detector
from trainer.graph import Float32, Graph, build
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.windows import FOLDS, MAX_WINDOWS, as_training_set, blocks, thinned

FAR: Final = 3.0  # standardised; of normally distributed scores one in 740 lies beyond


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One candidate, cross-fitted.

    Attributes:
        name: The detector's.
        why: What it chose.
        graph: Fitted on all normals.
        before: Fitted on all but the held-out ones.
        unseen: Scores of all normals, each by a graph that was not fitted on it, float32 ``[window]``.
    """

    name: str
    why: str
    graph: Graph
    before: Graph
    unseen: Float32


class AutoDetector(Detector):
    """Fits the candidates on all normals and lets the one speak that is most surprised.

    Normals are cut into five blocks in time order, the last of them the held-out ones. Each block is scored by
    candidates that were fitted on the others: that tells how surprising a score is for a candidate, and gives the
    held-out scores that thresholds are made from. So no normal is missing from what is fitted in the end.
    """

    name = "auto"
    sound_rate_hz = 48_000

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Cross-fit each candidate, then fit it on all normals."""
        parts = [*blocks(data.train, FOLDS - 1), thinned(data.held_out.windows, MAX_WINDOWS // FOLDS)]
        found = [_cross_fit(name, parts, data, config) for name in config.candidates]
        unseen = [one.unseen for one in found]
        scorer = MostSurprised([one.graph for one in found], unseen)
        judge = MostSurprised([one.before for one in found], unseen)
        figures = _figures(found, scorer)
        chosen = "; ".join(
            f"{one.name} ({one.why}; speaks on {figures[f'{one.name}.speaks']:.0%} of unseen normals)" for one in found
        )
        graph, unseeing = build(scorer, data.shape), build(judge, data.shape)
        return Fitted(graph, f"the most surprised of {chosen}", judge=unseeing, figures=figures)


def _cross_fit(name: str, parts: Sequence[Float32], data: Prepared, config: TrainConfig) -> _Candidate:
    """Return a candidate that has chosen its settings without the held-out normals, the last of the parts."""
    detector = find_detector(name)

    def without(left_out: int | None) -> Prepared:
        kept = [part for index, part in enumerate(parts) if index != left_out]
        return replace(data, train=as_training_set(np.concatenate(kept)))

    def fit(left_out: int | None) -> Graph:
        if first.refit is not None:
            return first.refit(without(left_out))
        return detector.fit(without(left_out), config, lambda _: None).graph

    last = len(parts) - 1
    first = detector.fit(without(last), config, lambda _: None)
    unseen = [fit(index).score(parts[index])[0] for index in range(last)]
    unseen.append(first.graph.score(parts[last])[0])
    return _Candidate(name, first.why, fit(None), first.graph, np.concatenate(unseen))


def _figures(found: Sequence[_Candidate], scorer: MostSurprised) -> dict[str, float]:
    """Return what each candidate made of the normals that it had not seen."""
    unseen = np.stack([one.unseen for one in found])
    standardised = (unseen - scorer.medians[:, None]) / scorer.deviations[:, None]
    speaks = standardised.argmax(axis=0)
    figures: dict[str, float] = {}
    for index, one in enumerate(found):
        figures[f"{one.name}.median"] = float(scorer.medians[index])
        figures[f"{one.name}.deviation"] = float(scorer.deviations[index])
        figures[f"{one.name}.far"] = float((standardised[index] > FAR).mean())
        figures[f"{one.name}.speaks"] = float((speaks == index).mean())
    return figures
