"""What ``whirr sweep`` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from backtest.sweep.choice import Recommendation
from backtest.sweep.load import ReplayedScores
from backtest.sweep.standstill import Standstill
from backtest.sweep.tried_settings import TriedSetting
from backtest.words import delay, false_alerts_a_day
from commands._output import print_line, print_warning, stdout
from whirr.counts import counted

_MOST_ROWS: Final = 12
_CAPTION: Final = (
    "times: the alert threshold, multiplied; m frames below hyst. of it close; delay: median; a day: per machine, "
    "- from less than a day"
)


def print_sweep(
    loaded: ReplayedScores,
    choice: Recommendation,
    front: Sequence[TriedSetting],
    still: Sequence[Standstill],
    tried: int,
    took_s: float,
) -> None:
    """Print the settings that no other beats, and the recommended one with its reason."""
    left = f" ({loaded.left_out} late, idle or flat ones left out)" if loaded.left_out else ""
    machines = counted(len(loaded.thresholds), "machine")
    print_line(f"{tried} settings on {loaded.moving:,} frames of {machines} in {took_s:.1f} s{left}")
    if not loaded.labelled:
        print_warning("no recording is labelled: all are taken for normal, so every alert counts as false")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=_CAPTION, caption_justify="left")
    for name in ("", "times", "k of n", "m", "hyst.", "found", "delay", "false", "a day (95 %)"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = list(front[:_MOST_ROWS])
    if choice.outcome not in shown:
        shown.insert(0, choice.outcome)
    for outcome in shown:
        table.add_row(*_cells(outcome, recommended=outcome is choice.outcome))
    stdout.print(table)
    if len(front) > _MOST_ROWS:
        print_line(f"and {len(front) - _MOST_ROWS} more that nothing beats; --json has them all")
    missed = [name for name, recall in choice.outcome.recall.items() if recall < 1]
    print_line(f"Take {choice.reason}")
    if missed:
        print_line(f"Not every fault is found on {', '.join(missed)}")
    for one in still:
        alerts = counted(one.false_alerts, "false alert")
        print_line(
            f"{one.machine} has {alerts} by the default rule while it is quiet ({one.quiet_dbfs:.0f} dBFS, usually "
            f"{one.usual_dbfs:.0f}). If it is switched off then, say running_dbfs = {one.running_dbfs} in its route"
        )


def _cells(outcome: TriedSetting, *, recommended: bool) -> list[str]:
    here, figures = outcome.setting, outcome.figures
    return [
        "take" if recommended else "",
        f"{here.factor:g}",
        f"{here.k} of {here.n}",
        str(here.m),
        f"{here.hysteresis:g}",
        f"{figures.found} of {figures.faults}",
        delay(figures.delay_s_median),
        str(figures.false_alerts),
        false_alerts_a_day(figures),
    ]
