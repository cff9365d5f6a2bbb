"""The picture of a machine's life: its score over the season, the state that it was in, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.season.stories import Story
from benchmarks.season.world import Told

INK, QUIET, SCORE = "#222222", "#8a8f98", "#2563a8"
STATES: Final = {"learning": "#cfd8e3", "normal": "#dcefe0", "changed": "#fbe7b2", "alarm": "#f4b8b0"}
LOWEST, HIGHEST = 0.02, 30.0


def draw(story: Story, told: Told, path: Path) -> None:
    """Draw one machine's life into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.edgecolor": QUIET, "text.color": INK, "axes.labelcolor": INK})
    figure, axes = plt.subplots(figsize=(10, 3.6))
    _draw_states(axes, told)
    days = np.array([day for day, ratio, _ in told.course if ratio is not None])
    ratios = np.array([ratio for _, ratio, _ in told.course if ratio is not None])
    axes.plot(days, np.clip(ratios, LOWEST, HIGHEST), ".", ms=2, color=SCORE)
    axes.axhline(1.0, color=QUIET, lw=0.8, ls="--")
    axes.annotate(
        "alert threshold", (days[-1], 1.0), xytext=(0, 3), textcoords="offset points", ha="right", color=QUIET
    )
    _draw_events(axes, story, told)
    axes.set_yscale("log")
    axes.set_ylim(LOWEST * 0.8, HIGHEST * 2.5)
    axes.set_xlim(0, told.course[-1][0])
    axes.set_xlabel("days")
    axes.set_ylabel("score / alert threshold")
    patches = [mpl.patches.Patch(color=colour, label=state) for state, colour in STATES.items()]
    handles = [*patches, *axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, ncol=len(handles), loc="upper center", frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_states(axes: Any, told: Told) -> None:
    for state, spell in groupby(told.course, key=lambda one: one[2]):
        own: Sequence[tuple[float, float | None, str]] = list(spell)
        axes.axvspan(own[0][0], own[-1][0] + 1 / 48, color=STATES[state], lw=0)


def _draw_events(axes: Any, story: Story, told: Told) -> None:
    """Mark faults and repairs above the course, and each model that took over below it."""
    marks = [(fault.from_day, fault.what.replace("_", " ")) for fault in story.faults]
    marks += [(fault.repaired_day, "repaired") for fault in story.faults if fault.repaired_day is not None]
    marks += [(event.day, event.what) for event in story.events if all(event.day != day for day, _ in marks)]
    for number, (day, what) in enumerate(sorted(marks)):
        axes.axvline(day, color=INK, lw=0.8)
        axes.annotate(
            what, (day, HIGHEST * (1.9 if number % 2 else 1.35)), xytext=(3, 0), textcoords="offset points", va="center"
        )
    promoted = [day for day, what in told.jobs if what.startswith("promote")]
    axes.plot(promoted, [LOWEST * 1.1] * len(promoted), "^", ms=6, color=INK, label="a new model takes over")
