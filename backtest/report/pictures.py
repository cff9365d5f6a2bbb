"""Pictures of the page: the spectrogram of a moment with what drove the alert, and the ROC curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from backtest.evaluation.charts import ALERT, NORMAL, QUIET, STYLE, hz, image, svg
from backtest.report.moments import Moment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_BANDS = 3


def spectrogram(moment: Moment) -> str:
    """Return the moment's spectrogram; the alert's frame and the bands that drove it are marked."""
    figure = Figure(figsize=(6.2, 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        axes = figure.subplots()
        low, high = np.percentile(moment.log_mel, [2, 99.8])
        bands = len(moment.edges_hz)
        axes.imshow(
            moment.log_mel,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=low,
            vmax=max(high, low + 1e-6),
            extent=(0, moment.seconds, -0.5, bands - 0.5),
            interpolation="nearest",
        )
        centres_hz = moment.edges_hz.mean(axis=1)
        ticks = np.linspace(0, bands - 1, 6).round().astype(int)
        axes.set_yticks(ticks, [hz(centres_hz[index]) for index in ticks])
        axes.set(xlabel="seconds", ylabel="Hz", xlim=(0, moment.seconds), ylim=(-0.5, bands - 0.5))
        for edge_s in moment.at_s:
            axes.axvline(edge_s, color="white", lw=1.2, ls="--")
        _mark_bands(axes, moment)
        return image(figure, f"spectrogram of {moment.name} around the alert")


def _mark_bands(axes: Axes, moment: Moment) -> None:
    """Frame each driving band beside the alert's frame, its share at the right."""
    start_s, end_s = moment.at_s
    for band in moment.alert["bands"][:_SHOWN_BANDS]:
        inside = np.flatnonzero((moment.edges_hz[:, 1] > band["from_hz"]) & (moment.edges_hz[:, 0] < band["to_hz"]))
        if not len(inside):
            continue
        low, high = inside[0] - 0.5, inside[-1] + 0.5
        axes.fill_between([start_s, end_s], low, high, facecolor="none", edgecolor="#7ee787", lw=1.6)
        axes.axhspan(low, high, xmin=0.985, color="#2da44e")
        axes.annotate(
            f"{band['share']:.0%}", (1.0, (low + high) / 2), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip


def roc(ratio: NDArray[np.float64], anomalous: NDArray[np.bool_]) -> tuple[str, float]:
    """Return the ROC curve of frames with its operating point, the alert threshold, and the area under it.

    Args:
        ratio: Scores divided by their thresholds, float64 [frame].
        anomalous: Whether each frame is labelled as anomalous, bool [frame]; both kinds are there.
    """
    from sklearn.metrics import auc, roc_curve

    fpr, tpr, _ = roc_curve(anomalous, ratio)
    area = float(auc(fpr, tpr))
    at = float((ratio[~anomalous] > 1).mean()), float((ratio[anomalous] > 1).mean())

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
        axes.plot(fpr, tpr, color=NORMAL, lw=1.8)
        axes.plot(
            *at, "o", color=ALERT, ms=7, label=f"alert threshold: {at[1]:.0%} of anomalous, {at[0]:.2%} of normal"
        )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="share of normal frames above")
        axes.set(ylabel="share of anomalous frames above")
        axes.legend(loc="lower right", frameon=False)

    return svg((4.6, 3.6), f"ROC over frames: AUC {area:.3f}", draw), area
