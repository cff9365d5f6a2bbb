"""Fitting a detector in epochs: loaders, checkpoints, the best epoch, and its graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainer.checkpoints import check_resumable, last_checkpoint, origin
from trainer.detector import Fitted, OnEpoch
from trainer.export import export
from trainer.fit import Schedule, fit
from trainer.loaders import HeldOutLoader, WindowLoader
from trainer.spectrograms import Prepared
from trainer.train_options import TrainConfig, options_of, to_yaml
from trainer.windows import thinned

CHECKED_WINDOWS = 64


def fit_by_gradient(module: Any, data: Prepared, config: TrainConfig, on_epoch: OnEpoch) -> Fitted:
    """Train a Lightning module on drawn windows, and return the epoch that generalised best.

    Args:
        module: With ``model``, which takes normalisation and scores, and a buffer ``threshold``.
        data: Windows to train on, and held-out ones for the loss.
        config: Epochs, patience, batch, seed, accelerator, checkpoints.
        on_epoch: Called after each epoch.

    Raises:
        SettingsError: There is no checkpoint to resume from, or it is of another training.
        ModelError: The graph doesn't give the trained module's scores.
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
    found = fit(module, *loaders, schedule, on_epoch)
    graph = export(module.model, data.shape, thinned(data.held_out.windows, CHECKED_WINDOWS))

    def save(path: Path, decision_threshold: float) -> None:
        module.threshold.fill_(torch.tensor(decision_threshold))
        found.trainer.save_checkpoint(path, weights_only=True)

    return Fitted(graph, "", found.history, found.best, save, has_checkpoint=True)
