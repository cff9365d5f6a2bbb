"""A whole frame's spectrum as a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.frame_spectrum.graphs import BACK_ENDS, BackEnds, FusedSpectra
from trainer.fusion import Fusion
from trainer.graph import Float32, Float64, build, evaluated
from trainer.normals import NormalSet, all_normals
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
        normals = all_normals(data.train, data.held_out)
        vectors = _vectors(normals)
        owners = [normals.owner, normals.whole][: len(vectors)]
        unseen = [_unseen(of, owner, normals.blocks) for of, owner in zip(vectors, owners, strict=True)]
        fusions = [Fusion(distances) for distances in unseen]
        from_columns = round(np.sqrt(normals.width * normals.mean_columns))

        def scorer(left_out: NDArray[np.int64]) -> FusedSpectra:
            kept = [~np.isin(owner, left_out) for owner in owners]
            judges = [[BackEnds(one[keep]) for one in of] for of, keep in zip(vectors, kept, strict=True)]
            return FusedSpectra(POOLINGS, judges, fusions, from_columns, data.shape[:2])

        nothing = np.array([], np.int64)
        graph, judge = (build(scorer(out), data.shape, any_length=True) for out in (nothing, normals.blocks[-1]))
        why = f"{' and '.join(BACK_ENDS)} on {len(normals.windows)} windows"
        if len(vectors) > 1:
            why += f"; frames of {from_columns} columns or more on {len(normals.whole)} whole recordings"
        return Fitted(graph, why, judge=judge, unseen=fusions[0].scores(unseen[0]).astype(np.float32))


def _vectors(normals: NormalSet) -> list[list[Float32]]:
    """Return each pooling's vectors, of windows and, where that makes sense, of recordings."""
    found = [[evaluated(pool, normals.windows) for pool in POOLINGS]]
    if normals.several:
        found.append([normals.pooled(pool) for pool in POOLINGS])
    return found


def _unseen(vectors: Sequence[Float32], owner: NDArray[np.int64], blocks: Sequence[NDArray[np.int64]]) -> Float64:
    """Return distances, float64 ``[pooling * back end, vector]``, each by back ends that have not seen the vector."""
    found = np.empty((len(vectors), len(BACK_ENDS), len(owner)))
    for block in blocks:
        ours = np.isin(owner, block)
        for at, one in enumerate(vectors):
            if ours.any():
                found[at][:, ours] = BackEnds(one[~ours]).distances(one[ours])
    return found.reshape(-1, len(owner))
