"""Fitting: a Lightning module, its loaders, and the epoch that generalised best."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import lightning
from torch import Tensor


@dataclass(frozen=True, slots=True)
class EpochLoss:
    """Mean squared errors after one epoch, in units of the training windows' variance; epochs count from 1."""

    epoch: int
    train_loss: float
    held_out_loss: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What a fit gave.

    Attributes:
        history: One entry an epoch.
        best: The epoch whose weights the module has now: that of the least held-out loss.
        trainer: Lightning's, to save a checkpoint with.
    """

    history: tuple[EpochLoss, ...]
    best: EpochLoss
    trainer: lightning.Trainer


def fit(
    module: lightning.LightningModule,
    train: Iterable[Tensor],
    held_out: Iterable[Tensor],
    epochs: int,
    accelerator: str = "auto",
    on_epoch: Callable[[EpochLoss], None] = lambda _: None,
) -> Fit:
    """Train a module that logs ``train_loss`` and ``held_out_loss``, and leave it with its best epoch's weights."""
    watch = _KeepBest(on_epoch)
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator=accelerator,
            devices=1,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, train, held_out)
    assert watch.best is not None
    module.load_state_dict(watch.weights)
    module.cpu().eval()
    return Fit(tuple(watch.history), watch.best, trainer)


class _KeepBest(lightning.Callback):  # type: ignore[misc]
    """Keeps the weights of the epoch with the least held-out loss: a small set is soon learnt by heart."""

    def __init__(self, on_epoch: Callable[[EpochLoss], None]) -> None:
        self._on_epoch = on_epoch
        self.history: list[EpochLoss] = []
        self.best: EpochLoss | None = None
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take note of the epoch's losses."""
        metrics = trainer.callback_metrics
        loss = EpochLoss(len(self.history) + 1, float(metrics["train_loss"]), float(metrics["held_out_loss"]))
        self.history.append(loss)
        if self.best is None or loss.held_out_loss < self.best.held_out_loss:
            self.best = loss
            self.weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
        self._on_epoch(loss)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and its advice on loaders off the terminal."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
