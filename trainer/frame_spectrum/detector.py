"""A whole frame's spectrum as a detector, with and without an autoencoder among what judges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.frame_spectrum.autoencoder import AutoencoderBackEnds
from trainer.frame_spectrum.graphs import BACK_ENDS, BackEnds, FusedSpectra, Judge
from trainer.fusion import Fusion
from trainer.graph import Float32, Float64, build, evaluated
from trainer.normals import NormalSet, all_normals
from trainer.pooled.graphs import FlutterPool, MaxPool, MeanPool, Pool, Pooling, ShapePool
from trainer.spectrograms import Prepared
from trainer.train_options import POOLINGS, TrainConfig

_BY_NAME: Final[dict[str, Pooling]] = dict(
    zip(POOLINGS, (Pool(), MeanPool(), MaxPool(), ShapePool(), FlutterPool()), strict=True)
)
# For an autoencoder: without each of the five blocks some fifty are left, and fewer are learnt by heart.
LEAST_VECTORS: Final = 50


class View(NamedTuple):
    """A pooling, and what makes a judge of normal vectors that were pooled so, float32 ``[vector, entry]``."""

    pool: Pooling
    judge: Callable[[Float32], Judge]


class FrameSpectrumDetector(Detector):
    """A whole frame's spectrum, pooled over time in five ways; three back ends judge each, and their mean counts."""

    name = "frame_spectrum"
    sound_rate_hz = 48_000
    whole_frames = True

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Cross-fit the back ends in blocks of recordings, the last of them the held-out ones; then fit all normals."""
        normals = all_normals(data.train, data.held_out)
        owners = [normals.owner, *([normals.whole] if normals.several else [])]
        views = [self.views(config, len(owner)) for owner in owners]
        vectors = [_vectors(normals, of, whole) for of, whole in zip(views, (False, True), strict=False)]
        fitted = list(zip(views, vectors, owners, strict=True))
        unseen = [_unseen(of, one, owner, normals.blocks) for of, one, owner in fitted]
        fusions = [Fusion(distances) for distances in unseen]
        from_columns = round(np.sqrt(normals.width * normals.mean_columns))

        def scorer(left_out: NDArray[np.int64]) -> FusedSpectra:
            judges = []
            for of, one, owner in fitted:
                kept = ~np.isin(owner, left_out)
                judges.append([(pool, judge(vector[kept])) for (pool, judge), vector in zip(of, one, strict=True)])
            return FusedSpectra(judges, fusions, from_columns, data.shape[:2])

        nothing = np.array([], np.int64)
        graph, judge = (build(scorer(out), data.shape, any_length=True) for out in (nothing, normals.blocks[-1]))
        scores = fusions[0].scores(unseen[0]).astype(np.float32)
        why, runs = self._why(normals, from_columns), normals.runs(scores)
        recordings = normals.recordings_of_runs()
        return Fitted(graph, why, judge=judge, unseen=scores, unseen_runs=runs, unseen_recordings=recordings)

    def views(self, config: TrainConfig, count: int) -> list[View]:  # noqa: ARG002
        """Return what judges where there are ``count`` normal vectors."""
        return [View(_BY_NAME[name], BackEnds) for name in config.poolings]

    def _why(self, normals: NormalSet, from_columns: int) -> str:
        why = f"{' and '.join(BACK_ENDS)} on {len(normals.windows)} windows"
        if normals.several:
            what = "pieces of recordings" if normals.pieces else "whole recordings"
            why += f"; frames of {from_columns} columns or more on {len(normals.whole)} {what}"
        return why


class FrameSpectrumAutoencoderDetector(FrameSpectrumDetector):
    """The same, with a small autoencoder's residual and code as a sixth vector for the back ends to judge."""

    name = "frame_spectrum_ae"

    def views(self, config: TrainConfig, count: int) -> list[View]:
        """Return what judges where there are ``count`` normal vectors: few train no autoencoder."""
        views = super().views(config, count)
        if count < LEAST_VECTORS:
            return views
        from trainer.frame_spectrum.network import trained_layers

        train = partial(trained_layers, seed=config.seed)
        return [*views, View(_BY_NAME["mean_std"], partial(AutoencoderBackEnds, train=train))]

    def _why(self, normals: NormalSet, from_columns: int) -> str:
        wholes = {"pieces" if normals.pieces else "recordings": len(normals.whole)} if normals.several else {}
        lengths = {"windows": len(normals.windows), **wholes}
        with_one = [f"{count} {name}" for name, count in lengths.items() if count >= LEAST_VECTORS]
        trained = f"an autoencoder on {' and '.join(with_one)}" if with_one else "too few for an autoencoder"
        return f"{super()._why(normals, from_columns)}; {trained}"


def _vectors(normals: NormalSet, views: Sequence[View], whole: bool) -> list[Float32]:
    """Return the vectors of each view: of windows, or of whole recordings."""
    pools = {id(one.pool): one.pool for one in views}
    made = {key: normals.pooled(pool) if whole else evaluated(pool, normals.windows) for key, pool in pools.items()}
    return [made[id(one.pool)] for one in views]


def _unseen(
    views: Sequence[View],
    vectors: Sequence[Float32],
    owner: NDArray[np.int64],
    blocks: Sequence[NDArray[np.int64]],
) -> Float64:
    """Return distances, float64 ``[view * back end, vector]``, each by back ends that have not seen the vector."""
    found = np.empty((len(vectors), len(BACK_ENDS), len(owner)))
    for block in blocks:
        ours = np.isin(owner, block)
        if ours.any():
            for at, (view, one) in enumerate(zip(views, vectors, strict=True)):
                found[at][:, ours] = view.judge(one[~ours]).distances(one[ours])
    return found.reshape(-1, len(owner))
