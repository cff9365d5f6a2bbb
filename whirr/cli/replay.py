"""``whirr replay``: backtest recordings."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from whirr.cli._output import print_error, print_json, stderr, stdout
from whirr.errors import ReplayFailed, SettingsError

_DATA, _TIMES, _RULE, _OUTPUT = "Recordings", "When they were recorded", "Model and alert rule", "Results"


def replay(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Recordings, in sub-folders too; DIR/<machine>/… names machines.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results.", rich_help_panel=_OUTPUT)] = Path("replay-out"),
    model: Annotated[
        str | None,
        typer.Option(
            help="A model file, models:/NAME@champion, or an alias such as challenger in place of the routes' own.",
            rich_help_panel=_RULE,
        ),
    ] = None,
    routes: Annotated[
        Path | None,
        typer.Option(
            help="A whirr.toml: its [[route]] tables say which model and which alert rule a machine has.",
            rich_help_panel=_RULE,
        ),
    ] = None,
    frame_s: Annotated[
        float | None,
        typer.Option(
            help="Cut recordings into frames of so many seconds; default: as each model was calibrated.",
            min=0.1,
            max=60,
            rich_help_panel=_RULE,
        ),
    ] = None,
    machine: Annotated[
        str | None, typer.Option(help="The machine that all recordings are of.", rich_help_panel=_DATA)
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The sensor that all recordings are of.", rich_help_panel=_DATA)
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Where paths name machine, sensor and time: '{machine}/{source}_{time}*'.", rich_help_panel=_DATA
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV of labels (path,label[,machine][,onset_s]) in place of names.", rich_help_panel=_DATA),
    ] = None,
    include_train: Annotated[
        bool, typer.Option("--include-train", help="Replay folders named train too.", rich_help_panel=_DATA)
    ] = False,
    times: Annotated[
        str,
        typer.Option(
            help="Where times come from: names, files (when they were last written), pace (back to back from --start), "
            "a CSV file (path,time[,machine][,source]), or auto: names if all of them hold one, else pace.",
            rich_help_panel=_TIMES,
        ),
    ] = "auto",
    zone: Annotated[
        str, typer.Option(help="Time zone of times without one, such as Europe/Berlin.", rich_help_panel=_TIMES)
    ] = "UTC",
    start: Annotated[
        str, typer.Option(help="With pace: when each machine's first recording began.", rich_help_panel=_TIMES)
    ] = "2026-01-01T00:00:00Z",
    every_s: Annotated[
        float | None,
        typer.Option(help="With pace: seconds from one recording's start to the next one's.", rich_help_panel=_TIMES),
    ] = None,
    order: Annotated[
        Literal["labels", "number"],
        typer.Option(help="With pace: normal recordings first, or by the numbers in names.", rich_help_panel=_TIMES),
    ] = "labels",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one for each core.", rich_help_panel=_OUTPUT)
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Score anew what --out holds already.", rich_help_panel=_OUTPUT)
    ] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with code 5 if this holds, such as 'recall<0.9' or 'false_alerts>2'; may be repeated.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page to this HTML file.", rich_help_panel=_OUTPUT)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Score a folder of recordings exactly as a worker would, and apply its alert rule.

    Writes every score (Parquet and CSV), every alert (as on the topic) and a summary to --out. An interrupted run goes
    on when the same command is given again; another alert rule or other labels need no new scoring.
    Exit codes: 0 done, 2 something can't be used, 5 a --fail-if holds, 130 interrupted.
    """
    from schemas.times import parse_rfc3339
    from whirr.cli._replay import PrintingReplayObserver, print_replay
    from whirr.replay.config import ReplayConfig
    from whirr.replay.gates import failures, parse_gate
    from whirr.replay.models import load, routes_of, settings_of
    from whirr.replay.run import ReplayObserver
    from whirr.replay.run import replay as run_replay

    gates = [parse_gate(text) for text in fail_if or ()]
    try:
        start_us = parse_rfc3339(start)
    except ValueError as error:
        raise SettingsError(f"--start: {error}") from None
    config = ReplayConfig(
        folder=folder,
        out=out,
        frame_s=frame_s,
        machine=machine,
        source=source,
        pattern=pattern,
        times=times,
        zone=zone,
        start_us=start_us,
        every_s=every_s,
        order=order,
        labels=labels,
        include_train=include_train,
        jobs=jobs,
        restart=restart,
    )
    settings = settings_of(routes)
    champions = load(routes_of(settings, model, use_routes=routes is not None), settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with nullcontext(ReplayObserver()) if as_json else PrintingReplayObserver() as observer:
            summary = run_replay(config, champions, observer)
    except KeyboardInterrupt:
        stderr.print(f"interrupted; what is scored is kept in {out}: the same command goes on from there")
        raise
    if report is not None:
        from whirr.report.write import write_report

        write_report(out, folder, champions.router, report, ["whirr", *sys.argv[1:]])
    failed = failures(gates, summary)
    if as_json:
        print_json({**summary, "failed": failed})
    else:
        print_replay(summary)
        if report is not None:
            stdout.print(Text(f"report     {report}"))
    for line in failed:
        print_error(line)
    if failed:
        raise typer.Exit(ReplayFailed.exit_code)
