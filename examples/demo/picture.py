"""The demo's picture: every machine's score over time, with threshold, fault onset and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.demo.machines import DemoMachine
from examples.demo.observer import Received
from schemas import parse_rfc3339

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWEST, HIGHEST = 0.2, 20.0
INK, QUIET, SCORE, FAULT, ALERT = "#222222", "#8a8f98", "#2563a8", "#b3261e", "#e07b00"


def draw(machines: Sequence[DemoMachine], received: Received, start_us: int, path: Path) -> None:
    """Draw one row a machine into the PNG file ``path``; ``start_us`` is the recording time at which playing began."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.edgecolor": QUIET, "text.color": INK, "axes.labelcolor": INK})
    figure, rows = plt.subplots(
        len(machines), 1, figsize=(10, 1.25 * len(machines) + 1.1), sharex=True, sharey=True, squeeze=False
    )
    for axes, machine in zip(rows[:, 0], machines, strict=True):
        _draw_machine(axes, machine, received, start_us)
    rows[-1, 0].set_xlabel("seconds of recording")
    figure.supylabel("score / alert threshold", fontsize=9)
    figure.tight_layout(rect=(0.005, 0, 1, 1 - 0.35 / figure.get_figheight()))
    _legend(figure)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_machine(axes: Axes, machine: DemoMachine, received: Received, start_us: int) -> None:
    scores = [score for score in received.scores.values() if score["machine_id"] == machine.machine_id]
    scores.sort(key=lambda score: score["recorded_at"])
    times_s = np.array([(parse_rfc3339(score["recorded_at"]) - start_us) / 1e6 for score in scores])
    ratios = np.array([_shown(score["score"] / score["threshold"]) for score in scores])
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
    _draw_alerts(axes, machine, received, start_us)
    axes.set_yscale("log")
    axes.set_ylim(LOWEST * 0.8, HIGHEST * 1.4)
    axes.set_yticks([1, 10])
    axes.set_title(machine.machine_id, loc="left", fontsize=9, pad=2, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")


def _shown(ratio: float) -> float:
    """Return a ratio within what is drawn: what lies far beyond (a machine at rest, say) is drawn at the edge."""
    return min(max(ratio, LOWEST), HIGHEST)


def _draw_alerts(axes: Axes, machine: DemoMachine, received: Received, start_us: int) -> None:
    markers: dict[str, Any] = {"changed": "o", "opened": "v", "updated": "D", "closed": "^"}
    for alert in received.alerts.values():
        if alert["machine_id"] != machine.machine_id or alert["state"] not in markers:
            continue
        at_s = (parse_rfc3339(alert["recorded_at"]) - start_us) / 1e6
        axes.plot(
            [at_s],
            [_shown(alert["ratio"] or 1.0)],
            markers[alert["state"]],
            ms=8,
            color="white" if alert["state"] in {"closed", "changed"} else ALERT,
            markeredgecolor=INK,
            markeredgewidth=0.7,
            zorder=5,
            clip_on=False,
        )


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=SCORE, marker=".", ls="", label="frame"),
        Line2D([], [], color="#b9bec6", marker=".", ls="", label="idle frame"),
        Line2D([], [], color=QUIET, ls="--", lw=0.8, label="threshold"),
        Line2D([], [], color=FAULT, lw=1.2, label="fault begins"),
        Line2D([], [], color="white", marker="o", ls="", markeredgecolor=INK, label="changed (early)"),
        Line2D([], [], color=ALERT, marker="v", ls="", markeredgecolor=INK, label="alert opened"),
        Line2D([], [], color=ALERT, marker="D", ls="", markeredgecolor=INK, label="severity changed"),
        Line2D([], [], color="white", marker="^", ls="", markeredgecolor=INK, label="alert closed"),
    ]
    figure.legend(handles=entries, loc="upper center", ncols=8, frameon=False, fontsize=8)
