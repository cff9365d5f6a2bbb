"""Fitting the detectors that are trained by gradient: one way for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.checkpoints import check_resumable, last_checkpoint, origin
from trainer.detector import Fitted, OnEpoch
from trainer.export import export
from trainer.fit import Fit, Schedule, fit
from trainer.loaders import HeldOutLoader, WindowLoader
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig, options_of, to_yaml

CHECKED_WINDOWS = 64


@dataclass(frozen=True, slots=True)
class Trained:
    """A Lightning module with the weights of its best epoch, and how it got them."""

    module: Any
    fit: Fit

    def fitted(self, module: nn.Module, data: Prepared, why: str = "") -> Fitted:
        """Return a module, made from the trained one, as what a detector gives.

        Raises:
            ModelError: Its graph doesn't give its scores.
        """
        windows = data.held_out.windows
        check = np.linspace(0, len(windows) - 1, min(len(windows), CHECKED_WINDOWS)).round().astype(np.int64)
        graph = export(module, data.shape, windows[check])
        return Fitted(graph, why, self.fit.history, self.fit.best, self._save, has_checkpoint=True)

    def _save(self, path: Path, decision_threshold: float) -> None:
        self.module.threshold.fill_(torch.tensor(decision_threshold))
        self.fit.trainer.save_checkpoint(path, weights_only=True)


def fit_by_gradient(module: Any, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
    """Train a Lightning module, and return its ``model`` as what a detector gives: see :func:`train_by_gradient`.

    Raises:
        ModelError: The graph doesn't give the trained module's scores.
    """
    trained = train_by_gradient(module, data, config, on_epoch)
    return trained.fitted(module.model, data)


def train_by_gradient(module: Any, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Trained:
    """Train a Lightning module on drawn windows, and leave it with the epoch that generalised best.

    Args:
        module: With ``model``, which takes normalisation and scores, and a buffer ``threshold``.
        data: Windows to train on, and held-out ones for the loss.
        config: Epochs, patience, batch, seed, accelerator, checkpoints.
        on_epoch: Called after each epoch.

    Raises:
        SettingsError: There is no checkpoint to resume from, or it is of another training.
    """
    module.model.set_normalisation(*data.train.moments())
    options = options_of(config)
    module.about = {"options": options, "origin": origin(options, data.data_hash, data.features)}
    resume = last_checkpoint(config)
    if resume is not None:
        check_resumable(resume, module.about["origin"], config.epochs)
    if config.checkpoints is not None:
        config.checkpoints.mkdir(parents=True, exist_ok=True)
        (config.checkpoints / "train.yaml").write_text(to_yaml(config), encoding="utf-8")
    schedule = Schedule(
        epochs=config.epochs,
        patience=config.patience,
        min_delta=config.min_delta,
        accelerator=config.accelerator,
        checkpoints=config.checkpoints,
        resume=resume,
    )
    loaders = WindowLoader(data.train, config.batch, config.seed), HeldOutLoader(data.held_out)
    return Trained(module, fit(module, *loaders, schedule, on_epoch))
