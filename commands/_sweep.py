"""What ``whirr sweep`` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table

from backtest.evaluation.words import false_alerts_a_day
from backtest.sweep.choice import Choice
from backtest.sweep.load import Loaded
from backtest.sweep.outcome import Outcome
from commands._output import print_line, print_warning, stdout

_MOST_ROWS: Final = 12
_CAPTION: Final = (
    "times: the alert threshold, multiplied; m frames below hyst. of it close; delay: median; a day: per machine"
)


def print_sweep(
    loaded: Loaded, choice: Choice, front: Sequence[Outcome], tried: int, took_s: float, labelled: bool
) -> None:
    """Print the settings that no other beats, and the recommended one with its reason."""
    frames = sum(map(len, loaded.courses))
    left = f" ({loaded.left_out} late, idle or flat ones left out)" if loaded.left_out else ""
    print_line(f"{tried} settings on {frames:,} frames of {len(loaded.thresholds)} machines in {took_s:.1f} s{left}")
    if not labelled:
        print_warning("no recording is labelled: all are taken for normal, so every alert counts as false")
    table = Table("", "times", "k of n", "m", "hyst.", "found", "delay", "false", "a day (95 %)", caption=_CAPTION)
    for column in table.columns[1:]:
        column.justify = "right"
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


def _cells(outcome: Outcome, *, recommended: bool) -> list[str]:
    here = outcome.setting
    return [
        "take" if recommended else "",
        f"{here.factor:g}",
        f"{here.k} of {here.n}",
        str(here.m),
        f"{here.hysteresis:g}",
        f"{outcome.found} of {outcome.faults}",
        _seconds(outcome.delay_s_median),
        str(outcome.false_alerts),
        false_alerts_a_day(outcome.false_alerts_per_machine_day, outcome.false_alerts_per_machine_day_interval),
    ]


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
