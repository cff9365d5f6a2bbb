"""Time-weighted spectra with a Gaussian mixture as a detector; both r and the components are chosen on normals."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from trainer.detector import Detector, Fitted, OnEpoch
from trainer.gaussian import Standardise
from trainer.job import TrainConfig
from trainer.spectrograms import Prepared
from trainer.twfr_gmm.torch_model import TiedMixture, TimeWeighted, TimeWeightedMixture
from trainer.windows import training_windows

Float64 = NDArray[np.float64]

WEIGHTS: Final = (0.9, 0.99, 1.0)
COMPONENTS: Final = (1, 2, 4)
LEAST_PER_COMPONENT: Final = 50  # windows; a component of fewer has learnt a recording by heart
NEEDED_GAIN: Final = 0.05  # of the held-out distance: more components must be worth it


class TimeWeightedDetector(Detector):
    """Sort each band over time, average with weights r^i, fit a mixture."""

    name = "twfr_gmm"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:  # noqa: ARG002
        """Fit a mixture for each r and number of components, and keep what fits the held-out normals best."""
        windows = training_windows(data.train)
        held_out = torch.from_numpy(np.asarray(_thinned(data.held_out.windows)))
        best: tuple[float, str, TimeWeightedMixture] | None = None
        for r in WEIGHTS:
            for components in COMPONENTS:
                if components > 1 and len(windows) < components * LEAST_PER_COMPONENT:
                    continue
                module = _mixture(windows, r, components, config.seed)
                distance = float(module(held_out)[0].mean())
                if best is None or distance < (1 - NEEDED_GAIN) * best[0]:
                    best = distance, f"r {r:g}, {components} component{'s' * (components > 1)}", module
        assert best is not None
        return Fitted(best[2].eval(), f"{best[1]}: held-out normals fit it best")


def _mixture(windows: NDArray[np.float32], r: float, components: int, seed: int) -> TimeWeightedMixture:
    pool = TimeWeighted(r, windows.shape[3])
    with torch.no_grad():
        vectors = pool(torch.from_numpy(windows)).numpy().astype(np.float64)
        standardise = Standardise(vectors)
        standardised = standardise(torch.from_numpy(vectors.astype(np.float32))).numpy().astype(np.float64)
    return TimeWeightedMixture(pool, standardise, _tied(standardised, components, seed), windows.shape[1:3])


def _tied(vectors: Float64, components: int, seed: int) -> TiedMixture:
    """Return a mixture with one covariance for all; where each component lies is found with diagonal ones."""
    if components == 1:
        return TiedMixture(np.zeros((1, vectors.shape[1])), np.ones(1), vectors)
    found = GaussianMixture(components, covariance_type="diag", reg_covar=1e-2, random_state=seed).fit(vectors)
    member = found.predict(vectors)
    centres = np.stack([vectors[member == k].mean(axis=0) for k in np.unique(member)])
    _, member, counts = np.unique(member, return_inverse=True, return_counts=True)
    return TiedMixture(centres, counts / counts.sum(), vectors - centres[member])


def _thinned(windows: NDArray[np.float32], most: int = 2_000) -> NDArray[np.float32]:
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), most)).round().astype(np.int64)
    return windows[chosen]
