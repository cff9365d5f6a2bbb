"""Charts for the report: drawn without a display, returned as pieces of HTML that fetch nothing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from backtest.evaluation.alerting import open_spans
from backtest.evaluation.details import Detail
from backtest.evaluation.metrics import MAX_FPR, Metrics, Sample
from backtest.evaluation.scoring import Course, ScoredRecording
from whirr.html import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

INK, QUIET, NORMAL, ANOMALY, ALERT = "#1f2328", "#6e7781", "#2563a8", "#b3261e", "#e07b00"
STYLE: Final = {
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: smaller, and a reader can search it
    "svg.hashsalt": "whirr",  # the same figures give the same file
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}
_BINS: Final = 24
_MAX_TICKS: Final = 7
_LOWEST: Final = 1e-3  # ratios below are drawn there: the axis is logarithmic
_MAX_COLUMNS: Final = 1200  # of a spectrogram; more than its picture is wide


def roc(sample: Sample, metrics: Metrics) -> str:
    """Return the ROC curve with the part that pAUC looks at, and where the decision threshold lies on it."""

    def draw(axes: Axes) -> None:
        fpr, tpr, _ = roc_curve(sample.anomalous, sample.scores, drop_intermediate=False)
        axes.axvspan(0, MAX_FPR, color="#eef2f7", lw=0)
        axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
        axes.plot(fpr, tpr, color=NORMAL, lw=1.8)
        found = metrics.confusion
        at = found.false_positives / metrics.normals, found.true_positives / metrics.anomalies
        axes.plot(*at, "o", color=ALERT, ms=6, label="at the decision threshold")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right", frameon=False)

    title = f"ROC: AUC {metrics.values['auc']:.3f}, pAUC {metrics.values['pauc']:.3f}"
    return svg((4.2, 3.4), title, draw)


def histogram(recordings: Sequence[ScoredRecording]) -> str:
    """Return the recordings' scores by label, as multiples of the decision threshold."""
    ratios = np.array([max(one.ratio, _LOWEST) for one in recordings])
    anomalous = np.array([one.labelled.anomalous for one in recordings])
    low, high = min(ratios.min(), 0.9), max(ratios.max(), 1.1)

    def draw(axes: Axes) -> None:
        bins = np.geomspace(low, high, _BINS + 1).tolist()
        for chosen, colour, kind in ((~anomalous, NORMAL, "normal"), (anomalous, ANOMALY, "anomalous")):
            if chosen.any():
                axes.hist(ratios[chosen], bins, color=colour, alpha=0.6, label=f"{chosen.sum()} {kind}")
        axes.axvline(1.0, color=INK, lw=1.2, ls="--", label="decision threshold")
        axes.set(xscale="log", xlabel="score / decision threshold", ylabel="recordings")
        _plain_ticks(axes.xaxis, low, high)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best", frameon=False)

    return svg((4.2, 3.4), "Scores of recordings", draw)


def course(played: Course) -> str:
    """Return the machine's stream: every frame's score over time, the onset, and when an incident was open."""
    ratios = np.maximum([frame.score / played.alert_threshold for frame in played.frames], _LOWEST)
    times_s = np.array([frame.at_s for frame in played.frames])
    anomalous = np.array([played.recordings[frame.recording].labelled.anomalous for frame in played.frames])
    low, high = min(float(ratios.min()), 0.5), max(float(ratios.max()), 1.5)

    def draw(axes: Axes) -> None:
        for since, until in open_spans(played.told):
            axes.axvspan(since, min(until, played.end_s), color="#fde8cf", lw=0)
            axes.axvline(since, color=ALERT, lw=1.2)
        axes.axhline(1.0, color=QUIET, lw=0.9, ls="--")
        axes.plot(times_s[~anomalous], ratios[~anomalous], ".", ms=2.5, color=NORMAL)
        axes.plot(times_s[anomalous], ratios[anomalous], ".", ms=2.5, color=ANOMALY)
        if played.onset_s is not None:
            axes.axvline(played.onset_s, color=ANOMALY, lw=1.0, ls=":")
        axes.set(yscale="log", ylim=(low * 0.8, high * 1.25), xlim=(0, played.end_s))
        axes.set(xlabel="seconds of the stream", ylabel="score / alert threshold")
        _plain_ticks(axes.yaxis, low * 0.8, high * 1.25)

    return _png((6.6, 2.5), "Frames: blue normal, red anomalous, orange while an incident is open", draw)


def spectrogram(detail: Detail) -> str:
    """Return a recording's log-mel spectrogram, with each band's contribution above the normal mean beside it."""
    step = -(-detail.log_mel.shape[1] // _MAX_COLUMNS)
    shown = detail.log_mel[:, ::step]
    figure = Figure(figsize=(5.6, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        left, right = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
        low, high = np.percentile(shown, [2, 99.8])
        bands = len(detail.excess)
        left.imshow(
            shown,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=low,
            vmax=max(high, low + 1e-6),
            extent=(0, detail.duration_s, -0.5, bands - 0.5),
            interpolation="nearest",
        )
        left.set(xlabel="seconds", ylabel="Hz")
        _frequency_ticks(left, detail)
        colours = np.where(detail.excess > 0, ANOMALY, NORMAL)
        right.barh(np.arange(bands), detail.excess, height=1.0, color=colours)
        right.axvline(0, color=QUIET, lw=0.8)
        right.set(xlabel="above normal")
        right.locator_params(axis="x", nbins=3)
        return image(figure, f"log-mel spectrogram of {detail.scored.labelled.name} and contribution of each band")


def _frequency_ticks(axes: Axes, detail: Detail) -> None:
    centres_hz = detail.edges_hz.mean(axis=1)
    chosen = np.linspace(0, len(centres_hz) - 1, 6).round().astype(int)
    axes.set_yticks(chosen, [hz(centres_hz[index]) for index in chosen])


def hz(value: float) -> str:
    """Return a frequency as an axis shows it."""
    return f"{value / 1000:.2g}k" if value >= 1000 else f"{value:.0f}"


def _plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis with plain numbers, even where it spans less than a decade."""
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        ticks = [factor * 10.0**power for power in range(-3, 7) for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= _MAX_TICKS:
            break
    axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def _drawn(size: tuple[float, float], title: str, draw: Callable[[Axes], None]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    return figure


def svg(size: tuple[float, float], title: str, draw: Callable[[Axes], None]) -> str:
    """Return a chart that ``draw`` draws, size in inches, as an element of the page."""
    with mpl.rc_context(STYLE):
        file = io.StringIO()
        nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        _drawn(size, title, draw).savefig(file, format="svg", metadata=nothing)
    return inline_svg(file.getvalue(), title)


def inline_svg(text: str, title: str) -> str:
    """Return an SVG file as an element of an HTML page: HTML needs none of its declarations, which name addresses."""
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element).replace("xlink:href", "href")
    element = re.sub(r'<g id="[a-z]+[0-9a-z]*_[\w.]*"', "<g", element)  # each chart has the same ones
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _png(size: tuple[float, float], title: str, draw: Callable[[Axes], None]) -> str:
    with mpl.rc_context(STYLE):
        return image(_drawn(size, title, draw), title)


def image(figure: Figure, alt: str) -> str:
    """Return a figure as a picture within the page."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
