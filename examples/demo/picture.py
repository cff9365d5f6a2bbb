"""The demo's picture: every machine's score over time, with threshold, fault onset and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from examples.demo.machines import DemoMachine
from examples.demo.observer import Received
from schemas import parse_rfc3339

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Healthy machines lie where they lie; what lies far beyond (a machine at rest, say) is drawn at the edge.
LOWEST, HIGHEST = 0.001, 20.0
INK, QUIET, SCORE, FAULT, ALERT, EARLY = "#222222", "#8a8f98", "#2563a8", "#b3261e", "#e07b00", "#0a7d8c"


class _Mark(NamedTuple):
    """How a state of alerts is drawn; ``above`` (points) keeps apart marks that come within a few frames."""

    label: str
    marker: str
    colour: str
    above: float


# In the order in which they are drawn: what opened an incident lies on top.
MARKS = {
    "updated": _Mark("severity changed", "D", ALERT, 0),
    "closed": _Mark("alert closed", "^", "white", 0),
    "changed": _Mark("changed (early)", "o", EARLY, 0),
    "opened": _Mark("alert opened", "v", ALERT, 11),
}


def draw(machines: Sequence[DemoMachine], received: Received, start_us: int, path: Path) -> None:
    """Draw one row a machine into the PNG file ``path``; ``start_us`` is the recording time at which playing began."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.edgecolor": QUIET, "text.color": INK, "axes.labelcolor": INK})
    figure, rows = plt.subplots(
        len(machines), 1, figsize=(10, 1.25 * len(machines) + 1.1), sharex=True, sharey=True, squeeze=False
    )
    lowest = _lowest(received)
    for axes, machine in zip(rows[:, 0], machines, strict=True):
        _draw_machine(axes, machine, received, start_us, lowest)
    rows[-1, 0].set_xlabel("seconds of recording")
    figure.supylabel("score / alert threshold", fontsize=9)
    figure.tight_layout(rect=(0.005, 0, 1, 1 - 0.35 / figure.get_figheight()))
    _legend(figure)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_machine(axes: Axes, machine: DemoMachine, received: Received, start_us: int, lowest: float) -> None:
    scores = [score for score in received.scores.values() if score["machine_id"] == machine.machine_id]
    scores.sort(key=lambda score: score["recorded_at"])
    times_s = np.array([(parse_rfc3339(score["recorded_at"]) - start_us) / 1e6 for score in scores])
    ratios = np.array([_shown(score["score"] / score["threshold"], lowest) for score in scores])
    idle = np.array([score["status"] == "idle" for score in scores], dtype=bool)
    for from_s, to_s in machine.off:
        axes.axvspan(from_s, to_s, color="#e6e8eb", lw=0)
        axes.annotate(
            "switched off", ((from_s + to_s) / 2, 0.04), xycoords=axes.get_xaxis_transform(), ha="center", color=QUIET
        )
    axes.axhline(1.0, color=QUIET, lw=0.8, ls="--")
    axes.plot(times_s[~idle], ratios[~idle], ".", ms=3, color=SCORE)
    axes.plot(times_s[idle], ratios[idle], ".", ms=3, color="#b9bec6")
    if machine.onset_s is not None:
        axes.axvline(machine.onset_s, color=FAULT, lw=1.2)
        axes.annotate(
            f"{machine.fault} begins",
            (machine.onset_s, 0.97),
            xytext=(4, 0),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            va="top",
            color=FAULT,
        )
    _draw_alerts(axes, machine, received, start_us, lowest)
    axes.set_yscale("log")
    axes.set_ylim(lowest * 0.7, HIGHEST * 1.4)
    axes.set_yticks([tick for tick in (0.001, 0.01, 0.1, 1, 10) if tick >= lowest * 0.7])
    axes.set_title(machine.machine_id, loc="left", fontsize=9, pad=2, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")


def _lowest(received: Received) -> float:
    """Return the lowest ratio of a frame that isn't idle, which the axis still shows."""
    ratios = [score["score"] / score["threshold"] for score in received.scores.values() if score["status"] != "idle"]
    return min(1.0, max(LOWEST, min(ratios, default=1.0)))


def _shown(ratio: float, lowest: float) -> float:
    """Return a ratio within what is drawn."""
    return min(max(ratio, lowest), HIGHEST)


def _draw_alerts(axes: Axes, machine: DemoMachine, received: Received, start_us: int, lowest: float) -> None:
    from matplotlib.transforms import ScaledTranslation

    own = [alert for alert in received.alerts.values() if alert["machine_id"] == machine.machine_id]
    for order, (state, mark) in enumerate(MARKS.items()):
        for alert in own:
            if alert["state"] == state:
                at_s = (parse_rfc3339(alert["recorded_at"]) - start_us) / 1e6
                axes.plot(
                    [at_s],
                    [_shown(alert["ratio"] or 1.0, lowest)],
                    mark.marker,
                    ms=8,
                    color=mark.colour,
                    markeredgecolor=INK,
                    markeredgewidth=0.7,
                    zorder=5 + order,
                    clip_on=False,
                    transform=axes.transData + ScaledTranslation(0, mark.above / 72, axes.figure.dpi_scale_trans),
                )


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=SCORE, marker=".", ls="", label="frame"),
        Line2D([], [], color="#b9bec6", marker=".", ls="", label="idle frame"),
        Line2D([], [], color=QUIET, ls="--", lw=0.8, label="threshold"),
        Line2D([], [], color=FAULT, lw=1.2, label="fault begins"),
        *(
            Line2D([], [], color=mark.colour, marker=mark.marker, ls="", markeredgecolor=INK, label=mark.label)
            for mark in (MARKS[state] for state in ("changed", "opened", "updated", "closed"))
        ),
    ]
    figure.legend(handles=entries, loc="upper center", ncols=8, frameon=False, fontsize=8)
