"""Charts for reports: drawn without a display, returned as pieces of HTML that fetch nothing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from backtest.evaluation.details import Detail
from backtest.evaluation.scored_set import ScoredRecording
from backtest.report.moments import Moment
from backtest.streams import ANOMALY as ANOMALOUS
from backtest.streams import NORMAL as HEALTHY
from backtest.streams import IncidentSpan, ScoredStream
from whirr.terminal import printable

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
_SHOWN_BANDS: Final = 3
_LABELS: Final = 18  # so many lines of text are as high as a spectrogram
_SQUARE: Final = (4.2, 3.6)  # inches
_MICROSECONDS: Final = 1e6


def roc(
    anomalous: NDArray[np.bool_],
    scores: NDArray[np.float64],
    at: tuple[float, float],
    told: str,
    title: str,
    *,
    shares: tuple[str, str] = ("false positive rate", "true positive rate"),
    shaded: float = 0.0,
) -> Markup:
    """Return an ROC curve with its operating point.

    Args:
        anomalous: The labels, bool [n]; both are there.
        scores: float64 [n].
        at: The shares of normals and of anomalies that are above the threshold.
        told: What to say of that point.
        title: Of the chart.
        shares: What the axes are.
        shaded: Up to which false positive rate the chart is shaded.
    """
    from sklearn.metrics import roc_curve

    def draw(axes: Axes) -> None:
        fpr, tpr, _ = roc_curve(anomalous, scores, drop_intermediate=False)
        axes.axvspan(0, shaded, color="#eef2f7", lw=0)
        axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
        axes.plot(fpr, tpr, color=NORMAL, lw=1.8)
        axes.plot(*at, "o", color=ALERT, ms=6, label=told)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=shares[0], ylabel=shares[1])

    return svg(_SQUARE, title, draw)


def histogram(recordings: Sequence[ScoredRecording]) -> Markup:
    """Return how scores of normal and anomalous recordings are distributed around the decision threshold."""
    ratios = np.maximum([one.ratio for one in recordings], _LOWEST)
    anomalous = np.array([one.recording.anomalous for one in recordings])
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

    return svg(_SQUARE, "Scores of recordings", draw)


def course(stream: ScoredStream, spans: Sequence[IncidentSpan]) -> Markup:
    """Return a machine's stream: every frame's score over time, the onset, and when an incident was open."""
    ratios = np.maximum(stream.ratio, _LOWEST)
    times_s = (stream.recorded_us - stream.recorded_us[0]) / _MICROSECONDS
    ends_s = (stream.end_us - stream.recorded_us[0]) / _MICROSECONDS
    low, high = min(float(ratios.min()), 0.5), max(float(ratios.max()), 1.5)

    def draw(axes: Axes) -> None:
        for opened, until in spans:
            axes.axvspan(ends_s[opened], ends_s[min(until, len(stream) - 1)], color="#fde8cf", lw=0)
            axes.axvline(ends_s[opened], color=ALERT, lw=1.2)
        axes.axhline(1.0, color=QUIET, lw=0.9, ls="--")
        for label, colour in ((HEALTHY, NORMAL), (ANOMALOUS, ANOMALY)):
            chosen = stream.label == label
            axes.plot(times_s[chosen], ratios[chosen], ".", ms=2.5, color=colour)
        faulty = np.flatnonzero(stream.label == ANOMALOUS)
        if len(faulty):
            onset_s = (stream.onset_us[faulty[0]] - stream.recorded_us[0]) / _MICROSECONDS
            axes.axvline(onset_s, color=ANOMALY, lw=1.0, ls=":")
        axes.set(yscale="log", ylim=(low * 0.8, high * 1.25), xlim=(0, ends_s[-1]))
        axes.set(xlabel="seconds of the stream", ylabel="score / alert threshold")
        _plain_ticks(axes.yaxis, low * 0.8, high * 1.25)

    title = "Frames: blue normal, red anomalous, orange while an incident is open"
    with mpl.rc_context(STYLE):
        return image(_drawn((6.6, 2.5), title, draw), title)


def detail(shown: Detail) -> Markup:
    """Return a recording's log-mel spectrogram, with each band's contribution above the normal mean beside it."""
    with mpl.rc_context(STYLE):
        figure = _figure((5.6, 3.0))
        left, right = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
        _spectrogram(left, shown.log_mel, shown.duration_s, shown.edges_hz)
        bands = np.arange(len(shown.excess))
        right.barh(bands, shown.excess, height=1.0, color=np.where(shown.excess > 0, ANOMALY, NORMAL))
        right.axvline(0, color=QUIET, lw=0.8)
        right.set(xlabel="above normal")
        right.locator_params(axis="x", nbins=3)
        return image(figure, f"log-mel spectrogram of {shown.scored.recording.name} and contribution of each band")


def moment(shown: Moment) -> Markup:
    """Return the spectrogram around an alert; the alert's frame and the bands that drove it are marked."""
    with mpl.rc_context(STYLE):
        figure = _figure((6.2, 3.1))
        axes = figure.subplots()
        _spectrogram(axes, shown.log_mel, shown.seconds, shown.edges_hz)
        for edge_s in shown.at_s:
            axes.axvline(edge_s, color="white", lw=1.2, ls="--")
        _mark_bands(axes, shown)
        return image(figure, f"spectrogram of {shown.name} around the alert")


def _spectrogram(axes: Axes, log_mel: NDArray[np.float32], seconds: float, edges_hz: NDArray[np.float64]) -> None:
    """Draw a spectrogram, [band, column]; ``edges_hz`` is [band, 2]."""
    bands, drawn = len(edges_hz), log_mel[:, :: -(-log_mel.shape[1] // _MAX_COLUMNS)]
    low, high = np.percentile(drawn, [2, 99.8])
    axes.imshow(
        drawn,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=low,
        vmax=max(high, low + 1e-6),
        extent=(0, seconds, -0.5, bands - 0.5),
        interpolation="nearest",
    )
    centres_hz = edges_hz.mean(axis=1)
    ticks = np.linspace(0, bands - 1, 6).round().astype(int)
    axes.set_yticks(ticks, [_hz(centres_hz[index]) for index in ticks])
    axes.set(xlabel="seconds", ylabel="Hz", xlim=(0, seconds), ylim=(-0.5, bands - 0.5))


def _mark_bands(axes: Axes, shown: Moment) -> None:
    """Frame each driving band beside the alert's frame, its share at the right."""
    start_s, end_s = shown.at_s
    labels: list[tuple[float, str]] = []
    for band in shown.alert["bands"][:_SHOWN_BANDS]:
        inside = np.flatnonzero((shown.edges_hz[:, 1] > band["from_hz"]) & (shown.edges_hz[:, 0] < band["to_hz"]))
        if not len(inside):
            continue
        low, high = inside[0] - 0.5, inside[-1] + 0.5
        axes.fill_between([start_s, end_s], low, high, facecolor="none", edgecolor="#7ee787", lw=1.6)
        axes.axhspan(low, high, xmin=0.985, color="#2da44e")
        labels.append(((low + high) / 2, f"{band['share']:.0%}"))
    labels.sort()
    for at, (_, text) in zip(apart([at for at, _ in labels], len(shown.edges_hz) / _LABELS), labels, strict=True):
        axes.annotate(
            text, (1.0, at), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip


def apart(places: Sequence[float], least: float) -> list[float]:
    """Return places, which are sorted, moved up so far that each is ``least`` above the one below it."""
    found: list[float] = []
    for place in places:
        found.append(place if not found else max(place, found[-1] + least))
    return found


def _hz(value: float) -> str:
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


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _drawn(size: tuple[float, float], title: str, draw: Callable[[Axes], None]) -> Figure:
    figure = _figure(size)
    axes = figure.subplots()
    draw(axes)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    if axes.get_legend_handles_labels()[0]:  # below the chart: within it, it would lie on what is drawn
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def svg(size: tuple[float, float], title: str, draw: Callable[[Axes], None]) -> Markup:
    """Return a chart that ``draw`` draws, size in inches, as an element of the page."""
    with mpl.rc_context(STYLE):
        file = io.StringIO()
        nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        _drawn(size, title, draw).savefig(file, format="svg", metadata=nothing)
    return inline_svg(file.getvalue(), title)


def inline_svg(text: str, title: str) -> Markup:
    """Return an SVG file as an element of an HTML page: HTML needs none of its declarations, which name addresses."""
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element).replace("xlink:href", "href")
    element = re.sub(r'<g id="[a-z]+[0-9a-z]*_[\w.]*"', "<g", element)  # each chart has the same ones
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1))  # noqa: S704 - matplotlib's


def image(figure: Figure, alt: str) -> Markup:
    """Return a figure as a picture within the page."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    data = base64.b64encode(file.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(printable(alt), data)
