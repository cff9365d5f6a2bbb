"""Fitting the detectors that are trained by gradient: one way for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainer.dataset import HeldOutLoader, WindowLoader
from trainer.detector import Fitted, OnEpoch
from trainer.fit import fit
from trainer.job import TrainConfig
from trainer.spectrograms import Prepared


def fit_by_gradient(module: Any, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
    """Train a Lightning module on drawn windows, and leave it with the epoch that generalised best.

    Args:
        module: With ``model``, which takes normalisation and scores, and a buffer ``threshold``.
        data: Windows to train on, and held-out ones for the loss.
        config: Epochs, batch, seed, accelerator.
        on_epoch: Called after each epoch.
    """
    module.model.set_normalisation(*data.train.moments())
    loaders = WindowLoader(data.train, config.batch, config.seed), HeldOutLoader(data.held_out)
    fitted = fit(module, *loaders, config.epochs, config.accelerator, on_epoch)

    def save(path: Path, decision_threshold: float) -> None:
        module.threshold.fill_(torch.tensor(decision_threshold))
        fitted.trainer.save_checkpoint(path, weights_only=True)

    return Fitted(module.model, "", fitted.history, fitted.best, save, has_checkpoint=True)
