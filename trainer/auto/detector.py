"""Several detectors as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.auto.torch_model import MostSurprised
from trainer.detector import Detector, Fitted, OnEpoch, find_detector
from trainer.job import TrainConfig
from trainer.spectrograms import Prepared
from trainer.windows import folds

MEMBERS: Final = ("pooled", "pooled_nn", "twfr_gmm")


class AutoDetector(Detector):
    """Trains the candidates and lets the one speak that is most surprised.

    How surprising a score is for a member is told by cross-fitting: windows of each fifth of the training recordings,
    scored by a member fitted on the others. Scores of windows that a member was fitted on would be too low, the more so
    the better it learns by heart; and the held-out normals stay unseen until thresholds are made from them.
    """

    name = "auto"

    def fit(self, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
        """Fit every member on all training windows, and standardise its scores by cross-fitting."""
        fitted = {name: find_detector(name).fit(data, config, on_epoch) for name in MEMBERS}
        scores = [_unseen(find_detector(name), data, config) for name in MEMBERS]
        module = MostSurprised([one.module for one in fitted.values()], scores).eval()
        chosen = "; ".join(f"{name} ({one.why})" for name, one in fitted.items())
        return Fitted(module, f"the most surprised of {chosen}")


def _unseen(detector: Detector, data: Prepared, config: TrainConfig) -> NDArray[np.float32]:
    """Return a score of every training window by a member that was not fitted on it, float32 ``[window]``."""
    parts = []
    for others, windows in folds(data.train):
        member = detector.fit(replace(data, train=others), config, lambda _: None)
        parts.append(_scores(member.module, windows))
    if not parts:  # a single window
        parts.append(_scores(detector.fit(data, config, lambda _: None).module, data.held_out.windows))
    return np.concatenate(parts)


@torch.no_grad()
def _scores(module: nn.Module, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = [module(torch.from_numpy(np.array(windows[at : at + 256])))[0] for at in range(0, len(windows), 256)]
    return torch.cat(parts).numpy()
