"""``whirr edge status``: what waits in this gateway's spools."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from typer.core import TyperCommand

from commands._options import AsJson, SpoolDir
from commands._output import cell, print_json, print_line, stdout
from whirr.durations import as_duration
from whirr.settings import load_settings

if TYPE_CHECKING:
    from edge_agent.spool import SpoolStatus


class EdgeCommand(TyperCommand):
    """``whirr edge`` takes paths, so ``status`` can't be one of several commands in a group: it is told by its name."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of this command, or of ``status`` if that is the first word."""
        if args[:1] != ["status"]:
            return super().make_context(info_name, args, parent, **extra)
        alone = typer.Typer(add_completion=False)
        alone.command("status")(status)
        return typer.main.get_command(alone).make_context(f"{info_name} status", args[1:], parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run whichever command the context is of."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


def status(
    spool_dir: SpoolDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell what waits in this gateway's spools: frames, bytes, the oldest's age, what was dropped or damaged."""
    from edge_agent.spool import read_status

    root = load_settings(edge_spool_dir=spool_dir).edge_spool_dir
    spools = read_status(root, time.time_ns() // 1000)
    if as_json:
        totals = ("frames", "bytes", "dropped_frames", "dropped_bytes", "damaged_records")
        sums = {name: sum(getattr(spool, name) for spool in spools) for name in totals}
        print_json({"spool_dir": str(root), **sums, "spools": spools})
    elif not spools:
        print_line(f"no spool in {root}")
    else:
        stdout.print(_table(spools))


def _table(spools: list[SpoolStatus]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("machine", "source", "agent"):
        table.add_column(name, overflow="fold")
    for name in ("waiting", "MB", "oldest", "dropped", "damaged"):
        table.add_column(name, justify="right", no_wrap=True)
    for spool in spools:
        style = "red" if spool.dropped_frames or spool.damaged_records else ""
        table.add_row(
            cell(spool.machine_id),
            cell(spool.source or ""),
            "running" if spool.running else "stopped",
            str(spool.frames),
            f"{spool.bytes / 1e6:.2f}",
            "-" if spool.oldest_age_s is None else as_duration(round(spool.oldest_age_s)),
            str(spool.dropped_frames),
            str(spool.damaged_records),
            style=style,
        )
    return table
