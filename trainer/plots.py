"""Pictures of a training: the losses by epoch, and what held-out normals score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.detector import EpochLoss

if TYPE_CHECKING:
    from schemas import Thresholds

_SIZE_IN = (7.0, 4.0)


def loss_curve(history: Sequence[EpochLoss], best: EpochLoss) -> Any:
    """Return a figure of both losses by epoch, with the epoch that was kept."""
    figure, axes = _axes("epoch", "mean squared error")
    epochs = [loss.epoch for loss in history]
    marker = "." if len(epochs) < 50 else None
    axes.plot(epochs, [loss.train_loss for loss in history], label="training", marker=marker)
    axes.plot(epochs, [loss.held_out_loss for loss in history], label="held out", marker=marker)
    axes.axvline(best.epoch, color="0.6", linestyle=":", label=f"kept, epoch {best.epoch}")
    axes.legend()
    return figure


def score_histogram(scores: NDArray[np.float64], thresholds: Thresholds) -> Any:
    """Return a figure of held-out normal frames' scores, float64 [frame], with the pooled thresholds."""
    figure, axes = _axes("score of a held-out normal frame", "frames")
    axes.hist(scores, bins=min(60, max(10, len(scores) // 5)), color="0.7")
    axes.axvline(thresholds.decision_threshold, color="tab:orange", label="decision threshold")
    axes.axvline(thresholds.alert_threshold, color="tab:red", label="alert threshold")
    axes.legend()
    return figure


def _axes(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
