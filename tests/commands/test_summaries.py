"""The tables that end a replay and the demo fit into a terminal of 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from commands._replay import _table
from examples.demo.machines import DemoMachine
from examples.demo.outcome import MachineOutcome
from examples.demo.report import summary_table

MACHINE = {
    "frames": 604_800,
    "incidents": 12,
    "sensor_alerts": 0,
    "early_findings": 3,
    "false_alerts": 2,
    "faults": 10,
    "faults_found": 10,
    "delay_s_median": 5400.0,
    "auc": 1.0,
    "highest_ratio": 1234.5,
}


def lines_of(table: Table) -> list[str]:
    console = Console(width=80)
    with console.capture() as said:
        console.print(table)
    return [line.rstrip() for line in said.get().splitlines()]


def test_a_replay_of_busy_machines_breaks_no_name() -> None:
    machines = {"compressor-1": MACHINE, "gearbox-7": MACHINE}
    summary: dict[str, Any] = {**MACHINE, "machines": machines, "auc_mean": 1.0}
    lines = lines_of(_table(summary))
    assert "machine" in lines[1]
    assert "highest" in lines[1]
    for label in ("compressor-1", "gearbox-7", "all, mean AUC"):
        (row,) = (line for line in lines if label in line)
        assert row.split()[-3:] == ["min", "1.000", "1234"]


def test_the_table_of_the_demo_cuts_nothing() -> None:
    machine = DemoMachine(
        machine_id="compressor-1",
        train=Path(),
        live=(),
        live_s=240.0,
        shortest_s=1.0,
        onset_s=96.0,
        fault="outer race",
    )
    found = MachineOutcome(
        machine=machine, frames=240, idle=36, highest_ratio=1234.5, opened=1, false_alerts=1, delay_s=119.0, early=1
    )
    heading, row = lines_of(summary_table([found]))
    assert heading.split() == ["machine", "truth", "frames", "idle", "peak", "early", "alerts", "after", "result"]
    assert row.split() == [
        "compressor-1", "outer", "race", "240", "36", "1234.50", "1", "2", "119", "s", "1", "false", "alert"
    ]  # fmt: skip
