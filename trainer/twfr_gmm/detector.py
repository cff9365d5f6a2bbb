"""Time-weighted spectra with a Gaussian mixture as a detector; both r and the components are chosen on normals."""

from __future__ import annotations

from functools import partial
from typing import Final

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.graph import Graph, build
from trainer.mixture import PooledMixture, enough_for
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig
from trainer.twfr_gmm.graphs import TimeWeighted
from trainer.windows import thinned, training_windows
from whirr.counts import counted

WEIGHTS: Final = (0.9, 0.99, 1.0)
COMPONENTS: Final = (2, 1, 4)
MAX_HELD_OUT: Final = 2_000  # windows
NEEDED_GAIN: Final = 0.05  # of the held-out distance, for what comes later in both to be taken


class TimeWeightedDetector(Detector):
    """Sort each band over time, average with weights r^i, fit a mixture."""

    name = "twfr_gmm"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Fit a mixture for each r and number of components, and keep what fits the held-out normals best."""
        windows = training_windows(data.train)
        held_out = thinned(data.held_out.windows, MAX_HELD_OUT)
        best: tuple[float, float, int, Graph] | None = None
        for r in WEIGHTS:
            for components in COMPONENTS:
                if not enough_for(components, len(windows)):
                    continue
                graph = _fitted(r, components, config.seed, data)
                distance = float(graph.score(held_out)[0].mean())
                if best is None or distance < (1 - NEEDED_GAIN) * best[0]:
                    best = distance, r, components, graph
        assert best is not None
        _, r, components, graph = best
        why = f"r {r:g}, {counted(components, 'component')}: held-out normals fit it best"
        return Fitted(graph, why, refit=partial(_fitted, r, components, config.seed))


def _fitted(r: float, components: int, seed: int, data: Prepared) -> Graph:
    windows = training_windows(data.train)
    return build(PooledMixture(TimeWeighted(r, windows.shape[3]), windows, components, seed), data.shape)
