"""Time-weighted spectra with a Gaussian mixture as a detector; both r and the components are chosen on normals."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.job import TrainConfig
from trainer.mixture import PooledMixture, enough_for
from trainer.spectrograms import Prepared
from trainer.twfr_gmm.torch_model import TimeWeighted
from trainer.windows import thinned, training_windows

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
        best: tuple[float, float, int, PooledMixture] | None = None
        for r in WEIGHTS:
            for components in COMPONENTS:
                if not enough_for(components, len(windows)):
                    continue
                module = PooledMixture(TimeWeighted(r, windows.shape[3]), windows, components, config.seed)
                distance = _mean_distance(module, held_out)
                if best is None or distance < (1 - NEEDED_GAIN) * best[0]:
                    best = distance, r, components, module
        assert best is not None
        _, r, components, module = best
        why = f"r {r:g}, {components} component{'s' * (components > 1)}: held-out normals fit it best"
        return Fitted(module.eval(), why, refit=partial(_refit, r, components, config.seed))


@torch.no_grad()
def _mean_distance(module: nn.Module, windows: NDArray[np.float32]) -> float:
    return float(module(torch.from_numpy(windows))[0].mean())


def _refit(r: float, components: int, seed: int, data: Prepared) -> PooledMixture:
    windows = training_windows(data.train)
    return PooledMixture(TimeWeighted(r, windows.shape[3]), windows, components, seed).eval()
