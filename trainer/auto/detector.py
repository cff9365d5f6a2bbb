"""Several detectors as one."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.auto.torch_model import MostSurprised
from trainer.detector import Detector, Fitted, OnEpoch, find_detector
from trainer.job import TrainConfig
from trainer.spectrograms import Prepared

MEMBERS: Final = ("pooled", "pooled_nn", "twfr_gmm")


class AutoDetector(Detector):
    """Trains the candidates and lets the one speak that is most surprised, compared on held-out normals alone."""

    name = "auto"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Fit every member, and standardise its scores on the held-out normals."""
        fitted = {name: find_detector(name).fit(data, config, on_epoch) for name in MEMBERS}
        scores = [_scores(one.module, data.held_out.windows) for one in fitted.values()]
        module = MostSurprised([one.module for one in fitted.values()], scores).eval()
        chosen = "; ".join(f"{name} ({one.why})" for name, one in fitted.items())
        return Fitted(module, f"the most surprised of {chosen}, each standardised on held-out normals")


@torch.no_grad()
def _scores(module: nn.Module, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = [module(torch.from_numpy(np.array(windows[at : at + 256])))[0] for at in range(0, len(windows), 256)]
    return torch.cat(parts).numpy()
