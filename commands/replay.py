"""``whirr replay``: backtest recordings."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from commands import _recordings as option
from commands._options import ColumnsOption
from commands._output import print_warning
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


def replay(
    folder: option.Folder,
    out: option.Out = Path("replay-out"),
    model: option.Model = None,
    routes: option.Routes = None,
    frame_s: option.FrameS = None,
    machine: option.Machine = None,
    source: option.Source = None,
    columns: ColumnsOption = None,
    pattern: option.Pattern = None,
    labels: option.Labels = None,
    include_train: option.IncludeTrain = False,
    times: option.Times = "auto",
    zone: option.Zone = "UTC",
    start: option.Start = option.START,
    every_s: option.EveryS = None,
    order: option.Order = "labels",
    jobs: option.Jobs = None,
    restart: option.Restart = False,
    fail_if: option.FailIf = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page to this HTML file.", rich_help_panel=option.OUTPUT)
    ] = None,
    as_json: option.Json = False,
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
    from backtest.replay.models import load, routes_of, settings_of
    from backtest.replay.run import replay as run_replay
    from commands._replay import PrintingReplayObserver, QuietReplayObserver, conclude

    check_folder(out, "--out")
    if report is not None:
        check_file(report, "--report")
    gates = [parse_gate(text) for text in fail_if or ()]
    option.end_as_interrupted()
    config = option.replay_config(
        folder,
        out,
        frame_s=frame_s,
        machine=machine,
        source=source,
        columns=columns,
        pattern=pattern,
        labels=labels,
        include_train=include_train,
        times=times,
        zone=zone,
        start=start,
        every_s=every_s,
        order=order,
        jobs=jobs,
        restart=restart,
    )
    settings = settings_of(routes)
    champions = load(routes_of(settings, model, use_routes=routes is not None), settings)
    try:
        with nullcontext(QuietReplayObserver()) if as_json else PrintingReplayObserver() as observer:
            summary = run_replay(config, champions, observer)
    except KeyboardInterrupt:
        print_warning(f"interrupted; what is scored is kept in {out}: the same command goes on from there")
        raise
    if report is not None:
        from backtest.report.replay import write_report

        write_report(out, folder, champions.router, report, ["whirr", *sys.argv[1:]], config.columns)
    conclude(summary, gates, as_json, report)
