"""Checkpoints of a training that goes on: where they are, and whether a training may go on from one."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from schemas import FeatureConfig
    from trainer.train_options import TrainConfig

KEY: Final = "whirr"  # of what Whirr adds to Lightning's checkpoint
LAST, BEST = "last.ckpt", "best.ckpt"
# What may change when a training goes on: it moves no weight.
_FREE: Final = frozenset(
    {
        *("normal", "out", "name", "on_error", "epochs", "checkpoints", "mlflow", "register"),
        *("k", "n", "percentile", "false_alerts", "false_alarms_per_day"),
        *("threshold_method", "threshold_level", "alert_percentile"),
    }
)


def last_checkpoint(config: TrainConfig) -> Path | None:
    """Return the checkpoint that a training goes on from; None where it begins.

    Raises:
        SettingsError: There is none to go on from, or a beginning would overwrite one.
    """
    if config.checkpoints is None:
        return None
    last = config.checkpoints / LAST
    if config.resume and not last.is_file():
        raise SettingsError(f"there is no {LAST} in {str(config.checkpoints)!r} to resume from; begin without resume")
    if last.is_file() and not config.resume:
        raise SettingsError(
            f"{str(config.checkpoints)!r} holds checkpoints of a training: resume it, or name another folder"
        )
    return last if config.resume else None


def origin(options: Mapping[str, Any], data_hash: str, features: FeatureConfig) -> dict[str, Any]:
    """Return what weights depend on, by name: a training may go on where all of it is the same."""
    chosen = {f"features.{name}": value for name, value in asdict(features).items()}
    fixed = {name: value for name, value in options.items() if name not in _FREE}
    return {"data_hash": data_hash, **fixed, **chosen}


def check_resumable(path: Path, wanted: Mapping[str, Any], epochs: int) -> None:
    """Refuse to go on from a checkpoint of another training.

    Args:
        path: The checkpoint.
        wanted: The :func:`origin` of the training that is to go on.
        epochs: That it is to have in all.

    Raises:
        ModelError: The file is no checkpoint of a training.
        SettingsError: Data or options differ; the message names each.
    """
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        had, done = checkpoint[KEY]["origin"], int(checkpoint["epoch"]) + 1
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise ModelError(f"{str(path)!r} is no checkpoint that a training can resume from ({error!r})") from None
    names = [name for name in {**had, **wanted} if had.get(name) != wanted.get(name)]
    if names:
        different = "; ".join(f"{name} was {had.get(name)!r} and is {wanted.get(name)!r}" for name in names)
        raise SettingsError(f"{str(path)!r} is of another training: {different}")
    if epochs < done:
        raise SettingsError(f"{str(path)!r} is of epoch {done} and epochs is {epochs}; expected at least {done}")
