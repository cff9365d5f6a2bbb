"""A whole frame's spectrum as a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.frame_spectrum.graphs import BACK_ENDS, BackEnds, FusedSpectra
from trainer.frame_spectrum.vectors import Lengths, folds, lengths
from trainer.graph import Float32, Float64, Graph, build, evaluated
from trainer.pooled.graphs import FlutterOnlyPool, MaxPool, MeanPool, Pool, Pooling, ShapePool
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig

POOLINGS: Final[tuple[Pooling, ...]] = (Pool(), MeanPool(), MaxPool(), ShapePool(), FlutterOnlyPool())


class FrameSpectrumDetector(Detector):
    """A whole frame's spectrum, pooled over time in five ways; three back ends judge each, and their mean counts."""

    name = "frame_spectrum"
    sound_rate_hz = 48_000
    whole_frames = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Cross-fit the back ends in blocks of recordings, the last of them the held-out ones; then fit all normals."""
        known, all_normals = lengths(data.train), lengths(data.train, data.held_out)
        blocks = folds(len(known.recordings), len(all_normals.recordings))
        vectors = _vectors(all_normals)
        owners = [all_normals.owner, np.arange(len(all_normals.recordings))][: len(vectors)]
        raw = [_unseen(of_level, owner, blocks) for of_level, owner in zip(vectors, owners, strict=True)]
        from_columns = round(np.sqrt(all_normals.width * all_normals.mean_columns))

        def scorer(left_out: Sequence[int]) -> FusedSpectra:
            kept = [~np.isin(owner, left_out) for owner in owners]
            judges = [[BackEnds(one[keep]) for one in of] for of, keep in zip(vectors, kept, strict=True)]
            return FusedSpectra(POOLINGS, judges, raw, from_columns, data.shape[:2])

        everything = scorer(())
        graph, judge = _graph(everything, data), _graph(scorer(blocks[-1]), data)
        unseen = everything.scores(0, raw[0]).astype(np.float32)
        why = f"{' and '.join(BACK_ENDS)} on {len(all_normals.windows)} windows" + (
            f"; frames of {from_columns} columns or more on {len(all_normals.recordings)} whole recordings"
            if len(vectors) > 1
            else ""
        )
        return Fitted(graph, why, judge=judge, unseen=unseen)


def _graph(scorer: FusedSpectra, data: Prepared) -> Graph:
    return build(scorer, data.shape, any_length=True)


def _vectors(normals: Lengths) -> list[list[Float32]]:
    """Return each pooling's vectors, of windows and, where that makes sense, of recordings."""
    found = [[evaluated(pool, normals.windows) for pool in POOLINGS]]
    if normals.several:
        found.append([normals.of_recordings(pool) for pool in POOLINGS])
    return found


def _unseen(vectors: Sequence[Float32], owner: np.ndarray, blocks: Sequence[Sequence[int]]) -> Float64:
    """Return distances, float64 ``[pooling, back end, vector]``, each by back ends that have not seen the vector."""
    found = np.full((len(vectors), len(BACK_ENDS), len(owner)), np.nan)
    for block in blocks:
        ours = np.isin(owner, block)
        if not ours.any():
            continue
        for at, one in enumerate(vectors):
            found[at][:, ours] = BackEnds(one[~ours]).distances(one[ours])
    return found
