"""Fitting: a Lightning module, its loaders, and the epoch that generalised best."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
from torch import Tensor

from trainer.checkpoints import BEST, LAST
from trainer.detector import EpochLoss

if TYPE_CHECKING:
    from trainer.loaders import HeldOutLoader, WindowLoader


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long to fit, where, and what to keep meanwhile.

    Attributes:
        epochs: At most.
        patience: Epochs without a better held-out loss after which to stop; 0: never.
        min_delta: How much lower a held-out loss has to be to count as better for ``patience``.
        accelerator: As Lightning names them.
        checkpoints: Folder for a checkpoint of the last epoch and one of the best, written after each epoch.
        resume: The checkpoint to go on from.
    """

    epochs: int
    patience: int = 0
    min_delta: float = 0.0
    accelerator: str = "auto"
    checkpoints: Path | None = None
    resume: Path | None = None


def fit(
    module: lightning.LightningModule,
    train: WindowLoader,
    held_out: HeldOutLoader,
    schedule: Schedule,
    on_epoch: Callable[[EpochLoss], None] = lambda _: None,
) -> Fit:
    """Train a module that logs ``train_loss`` and ``held_out_loss``, and leave it with its best epoch's weights."""
    watch = _Watch(schedule, train, on_epoch)
    with _quiet(), _interruptible():
        trainer = lightning.Trainer(
            max_epochs=schedule.epochs,
            accelerator=schedule.accelerator,
            devices=1,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, train, held_out, ckpt_path=schedule.resume, weights_only=True)
    module.load_state_dict(watch.weights)
    module.cpu().eval()
    return Fit(tuple(watch.history), best_of(watch.history), trainer)


def best_of(history: Sequence[EpochLoss]) -> EpochLoss:
    """Return the epoch of the least held-out loss, the first of several."""
    return min(history, key=lambda loss: loss.held_out_loss)


def stalled(history: Sequence[EpochLoss], patience: int, min_delta: float) -> bool:
    """Return whether the last ``patience`` epochs were not better by ``min_delta`` than what was before them.

    A function of the losses alone, so a training that goes on from a checkpoint stops where it would have stopped.
    """
    if patience == 0:
        return False
    best, since = float("inf"), 0
    for loss in history:
        better = loss.held_out_loss < best - min_delta
        best, since = (loss.held_out_loss, 0) if better else (best, since + 1)
    return since >= patience


class _Watch(lightning.Callback):  # type: ignore[misc]
    """Keeps losses and the best epoch's weights, writes checkpoints, and stops a training that has stalled.

    A small set is soon learnt by heart, so what counts is the held-out loss.
    """

    def __init__(self, schedule: Schedule, train: WindowLoader, on_epoch: Callable[[EpochLoss], None]) -> None:
        self._schedule = schedule
        self._train = train
        self._on_epoch = on_epoch
        self.history: list[EpochLoss] = []
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Stop at once if there is nothing to go on with."""
        trainer.should_stop = self._stalled()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take note of the epoch's losses."""
        metrics = trainer.callback_metrics
        loss = EpochLoss(len(self.history) + 1, float(metrics["train_loss"]), float(metrics["held_out_loss"]))
        self.history.append(loss)
        better = best_of(self.history) is loss
        if better:
            self.weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
        if self._schedule.checkpoints is not None:
            if better:
                trainer.save_checkpoint(self._schedule.checkpoints / BEST, weights_only=True)
            trainer.save_checkpoint(self._schedule.checkpoints / LAST)
        trainer.should_stop = self._stalled()
        self._on_epoch(loss)

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into a checkpoint."""
        return {"history": [list(astuple(loss)) for loss in self.history], "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.history = [EpochLoss(*loss) for loss in state_dict["history"]]
        self.weights = state_dict["weights"]
        self._train.epoch = len(self.history)

    def _stalled(self) -> bool:
        return stalled(self.history, self._schedule.patience, self._schedule.min_delta)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning makes it an exit, and further ones ineffective."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


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
