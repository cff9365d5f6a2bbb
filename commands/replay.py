"""``whirr replay``: backtest recordings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from backtest.replay.config import ReplayConfig
from commands._options import AsJson, takes
from commands._output import print_warning
from commands._recordings import FailIf, Models, end_as_interrupted
from schemas.errors import SettingsError
from whirr.outputs import check_file, check_folder

_MOVED = "Names the command that does it now."


def _moved(_context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> None:
    if value is not None and parameter.name == "_to":
        raise SettingsError(
            "whirr replay --to kafka is a command of its own: `whirr publish DIR`, or `whirr compare DIR` in place of "
            "--compare"
        )
    if value is not None:
        raise SettingsError("whirr replay --from kafka is a command of its own: `whirr rescore`")


@takes(ReplayConfig, Models)
def replay(
    config: ReplayConfig,
    models: Models,
    *,
    fail_if: FailIf = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page to this HTML file.", rich_help_panel="Results")
    ] = None,
    as_json: AsJson = False,
    _to: Annotated[str | None, typer.Option("--to", hidden=True, is_eager=True, callback=_moved, help=_MOVED)] = None,
    _from: Annotated[
        str | None, typer.Option("--from", hidden=True, is_eager=True, callback=_moved, help=_MOVED)
    ] = None,
) -> None:
    """Score recordings exactly as a worker would, and apply its alert rule.

    Writes every score (Parquet and CSV), every alert (as on the topic) and a summary to --out. An interrupted run goes
    on when the same command is given again; another alert rule or other labels need no new scoring.
    Exit codes: 0 done, 2 something can't be used, 6 a --fail-if holds, 130 interrupted.
    """
    from backtest.replay.gates import parse_gate
    from backtest.replay.run import replay as run_replay
    from commands._replay import PrintingReplayObserver, conclude

    check_folder(config.out, "--out")
    if report is not None:
        check_file(report, "--report")
    gates = [parse_gate(text) for text in fail_if or ()]
    end_as_interrupted()
    champions = models.load(models.settings())
    try:
        with PrintingReplayObserver(quiet=as_json) as observer:
            summary = run_replay(config, champions, observer)
    except KeyboardInterrupt:
        print_warning(f"interrupted; what is scored is kept in {config.out}: the same command goes on from there")
        raise
    if report is not None:
        from backtest.report.replay import write_report

        write_report(config.out, config.folder, champions.router, report, ["whirr", *sys.argv[1:]], config.columns)
    conclude(summary, gates, as_json, report)
