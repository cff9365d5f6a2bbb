"""``whirr replay``: backtest recordings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from backtest.replay.replay_options import ReplayConfig
from commands._options import AsJson, takes
from commands._output import print_warning
from commands._recordings import FailIf, Models, VerdictsFrom, check_out, end_as_interrupted, heeded_of
from schemas.errors import SettingsError
from whirr.outputs import check_file

# What `whirr replay` did until 0.1, and which command does it now.
_MOVED = {
    "--to": "`whirr publish DIR`, or `whirr compare DIR` in place of --compare",
    "--compare": "`whirr compare DIR`",
    "--from": "`whirr rescore`",
}


class _ReplayCommand(TyperCommand):
    """Names the commands that options of 0.1 have become, whatever other options of 0.1 stand beside them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option, instead in _MOVED.items():
            if any(arg.partition("=")[0] == option for arg in args):
                raise SettingsError(f"whirr replay {option} is a command of its own: {instead}")
        return super().parse_args(ctx, args)


@takes(ReplayConfig, Models)
def replay(
    config: ReplayConfig,
    models: Models,
    *,
    verdicts: VerdictsFrom = None,
    fail_if: FailIf = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page to this HTML file.", rich_help_panel="Results")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score recordings exactly as a worker would, and apply its alert rule.

    Writes every score (Parquet and CSV), every alert (as on the topic) and a summary to --out. An interrupted run goes
    on when the same command is given again; another alert rule or other labels or verdicts need no new scoring.
    Exit codes: 0 done, 2 something can't be used, 6 a --fail-if holds, 130 interrupted.
    """
    from backtest.replay.gates import parse_gate
    from backtest.replay.run import replay as run_replay
    from commands._replay import PrintingReplayObserver, conclude

    check_out(config.out, config.folder)
    if report is not None:
        check_file(report, "--report")
    gates = [parse_gate(text) for text in fail_if or ()]
    end_as_interrupted()
    settings = models.settings()
    heeded = heeded_of(verdicts, settings)
    champions = models.load(settings)
    try:
        with PrintingReplayObserver(quiet=as_json) as observer:
            summary = run_replay(config, champions, observer, heeded)
    except KeyboardInterrupt:
        print_warning(f"interrupted; what is scored is kept in {config.out}: the same command goes on from there")
        raise
    if report is not None:
        from backtest.report.replay import write_report

        write_report(config.out, config.folder, champions.router, report, ["whirr", *sys.argv[1:]], config.columns)
    conclude(summary, gates, as_json, report)


app = typer.Typer(add_completion=False)
app.command("replay", cls=_ReplayCommand)(replay)
