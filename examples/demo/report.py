"""What the demo prints: a line for each alert, and a table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from examples.demo.machines import DemoMachine
from examples.demo.observer import Received, latency_ms
from examples.demo.outcome import MachineOutcome
from schemas import parse_rfc3339

STATE_STYLES = {
    "changed": "cyan",
    "opened": "bold red",
    "updated": "yellow",
    "closed": "green",
    "settled": "green",
    "reminded": "yellow",
    "anomalous": "red",
}


def alert_line(alert: dict[str, Any], machine: DemoMachine, start_us: int) -> str:
    """Return one line: when, which machine, what changed, which bands, how late."""
    at_s = (parse_rfc3339(alert["recorded_at"]) - start_us) / 1e6
    style = STATE_STYLES[alert["state"]]
    what = alert["sensor_fault"] or alert["severity"]
    parts = [f"   {at_s:7.1f} s  {machine.machine_id:14} [{style}]{alert['state']:8}[/] {what:9}"]
    if alert["ratio"] is not None:
        parts.append(f"{alert['ratio']:5.2f} x threshold")
    parts.append(_bands(alert))
    parts.append(_since_onset(alert, machine, at_s))
    late_ms = latency_ms(alert)
    if late_ms is not None:
        parts.append(f"[dim]{late_ms:.0f} ms after its frame[/]")
    return "  ".join(part for part in parts if part)


def _bands(alert: dict[str, Any]) -> str:
    bands = [f"{_span(band['from_hz'], band['to_hz'])} {band['share']:3.0%}" for band in alert["bands"][:1]]
    return ", ".join(bands)


def _span(from_hz: float, to_hz: float) -> str:
    if to_hz < 1000:
        return f"{from_hz:.0f}-{to_hz:.0f} Hz"
    return f"{from_hz / 1000:.1f}-{to_hz / 1000:.1f} kHz"


def _since_onset(alert: dict[str, Any], machine: DemoMachine, at_s: float) -> str:
    if alert["state"] not in {"opened", "changed"}:
        return ""
    if machine.onset_s is None:
        return f"healthy: [bold red]false {'alert' if alert['state'] == 'opened' else 'early finding'}[/]"
    if at_s < machine.onset_s - machine.frame_s:
        return "[bold red]before the fault[/]"
    return f"{max(0.0, at_s - machine.onset_s):.0f} s after the fault began,"


def lost_lines(published: Mapping[str, int], received: Received, start_us: int) -> list[str]:
    """Return a line for each machine of which a frame has no answer, with the places of the gaps in what was scored."""
    lines = []
    for machine_id, frames in published.items():
        if frames == (answered := received.of(machine_id)):
            continue
        scores = [score for score in received.scores.values() if score["machine_id"] == machine_id]
        gaps = [(parse_rfc3339(s["recorded_at"]) - start_us) / 1e6 for s in scores if s["missing_before"]]
        where = f"; gaps before {', '.join(f'{at_s:.1f} s' for at_s in sorted(gaps))}" if gaps else ""
        lines.append(f"   [red]{machine_id}: {frames} frames published, {answered} answered{where}[/]")
    return lines


def summary_table(found: Sequence[MachineOutcome]) -> Table:
    """Return a table with one row a machine, of at most 80 columns where machines have short names."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("   machine", no_wrap=True)
    table.add_column("truth", no_wrap=True)
    for name in ("frames", "idle", "peak", "early", "alerts", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    for one in found:
        table.add_row(
            f"   {one.machine.machine_id}",
            one.machine.fault or "healthy",
            str(one.frames),
            str(one.idle),
            f"{one.highest_ratio:.2f}",
            str(one.early + one.false_early),
            str(one.opened + one.false_alerts),
            "" if one.delay_s is None else f"{one.delay_s:.0f} s",
            _in_words(one),
        )
    return table


def _in_words(one: MachineOutcome) -> str:
    if one.false_alerts:
        return f"[red]{one.false_alerts} false alert{'s' if one.false_alerts > 1 else ''}[/]"
    if one.machine.onset_s is None:
        return "[green]quiet[/]"
    if not one.opened and one.early:
        return "[yellow]found early[/]"
    return "[green]found[/]" if one.opened else "[red]missed[/]"
