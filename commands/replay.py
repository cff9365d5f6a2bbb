"""``whirr replay``: backtest recordings."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands._options import ColumnsOption, columns_of
from commands._output import print_error, print_json, print_line, print_warning
from schemas.errors import ReplayFailed, SettingsError
from whirr.outputs import check_file, check_folder

if TYPE_CHECKING:
    from backtest.replay.config import ReplayConfig
    from backtest.replay.gates import Gate
    from stream_app.worker.models import Champions

_DATA, _TIMES, _RULE, _OUTPUT = "Recordings", "When they were recorded", "Model and alert rule", "Results"
_KAFKA = "Kafka"


def replay(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="Recordings, in sub-folders too; DIR/<machine>/… names machines.",
            show_default=False,
        ),
    ] = None,
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
            help="A whirr.toml: its routes say which model and which alert rule a machine has.",
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
        str | None,
        typer.Option(help="The machine that all recordings are of; with --from a pattern.", rich_help_panel=_DATA),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The sensor that all recordings are of.", rich_help_panel=_DATA)
    ] = None,
    columns: ColumnsOption = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Where paths name machine, sensor and time: '{machine}/{source}_{time}*'; {time:%d.%m.%Y_%H%M%S} "
            "states the times' form.",
            rich_help_panel=_DATA,
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
    to: Annotated[
        Literal["kafka"] | None,
        typer.Option(help="Publish the frames to Kafka, for workers to score, instead.", rich_help_panel=_KAFKA),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(help="With --to kafka: times as fast as they were recorded, or max.", rich_help_panel=_KAFKA),
    ] = "1",
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="With --to kafka: score in process too, and check that a running worker answers the same.",
            rich_help_panel=_KAFKA,
        ),
    ] = False,
    wait_s: Annotated[
        float,
        typer.Option(
            min=0, help="With --compare: how long nothing may come before the rest is missing.", rich_help_panel=_KAFKA
        ),
    ] = 60.0,
    from_: Annotated[
        Literal["kafka"] | None,
        typer.Option("--from", help="Score what the frames topic retains, not a folder.", rich_help_panel=_KAFKA),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="With --from kafka: from when, as Kafka stored it: 10m, 2h, 7d, or a time (RFC 3339); default: all.",
            rich_help_panel=_KAFKA,
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="With --from kafka: until when; default: now.", rich_help_panel=_KAFKA)
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Kafka's addresses (host:port, host:port).", rich_help_panel=_KAFKA)
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="The frames topic; default: the setting frames_topic.", rich_help_panel=_KAFKA)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one for each core.", rich_help_panel=_OUTPUT)
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Score anew what --out holds already.", rich_help_panel=_OUTPUT)
    ] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with code 6 if this holds, such as 'recall<0.9' or 'false_alerts>2'; may be repeated.",
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
    """Score recordings exactly as a worker would, and apply its alert rule.

    Writes every score (Parquet and CSV), every alert (as on the topic) and a summary to --out. An interrupted run goes
    on when the same command is given again; another alert rule or other labels need no new scoring. With --to kafka
    the recordings are published in their order and with their spacing; with --from kafka retained frames are scored,
    and nothing is committed or sent.
    Exit codes: 0 done, 2 something can't be used, 3 Kafka can't be reached, 6 a --fail-if holds or live answers differ,
    130 interrupted.
    """
    from backtest.replay.config import ReplayConfig
    from backtest.replay.gates import failures, parse_gate
    from backtest.replay.models import load, routes_of, settings_of

    _check(folder, to, from_, compare)
    if report is not None and (to or from_):
        raise SettingsError("--report is for a folder that is scored in process")
    if not to or compare:
        check_folder(out, "--out")
    if report is not None:
        check_file(report, "--report")
    gates = [parse_gate(text) for text in fail_if or ()]
    settings = settings_of(routes, kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if from_ == "kafka":
        from commands._replay_kafka import rescore_topic

        champions = load(routes_of(settings, model, use_routes=routes is not None), settings)
        summary = rescore_topic(
            out,
            settings,
            champions,
            since=since,
            until=until,
            machine=machine or "*",
            jobs=jobs,
            restart=restart,
            as_json=as_json,
        )
        _conclude(summary, gates, as_json)
        return
    assert folder is not None
    config = ReplayConfig(
        folder=folder,
        out=out,
        frame_s=frame_s,
        machine=machine,
        source=source,
        columns=columns_of(columns),
        pattern=pattern,
        times=times,
        zone=zone,
        start_us=_start_us(start),
        every_s=every_s,
        order=order,
        labels=labels,
        include_train=include_train,
        jobs=jobs,
        restart=restart,
    )
    if to == "kafka" and not compare:
        from commands._replay_kafka import print_published, publish_folder, speed_of

        named = model is not None or routes is not None
        known = load(routes_of(settings, model, use_routes=routes is not None), settings) if named else None
        sent = publish_folder(config, settings, known, speed_of(speed))
        print_json(sent) if as_json else print_published(sent)
        return
    champions = load(routes_of(settings, model, use_routes=routes is not None), settings)
    try:
        if compare:
            from commands._replay_kafka import compare_folder, speed_of

            summary = compare_folder(config, settings, champions, speed_of(speed), wait_s, as_json=as_json)
            _fail_if(failures(gates, summary))
            return
        summary = _in_process(config, champions, as_json)
    except KeyboardInterrupt:
        print_warning(f"interrupted; what is scored is kept in {out}: the same command goes on from there")
        raise
    if report is not None:
        from backtest.report.write import write_report

        write_report(out, folder, champions.router, report, ["whirr", *sys.argv[1:]], config.columns)
    _conclude(summary, gates, as_json, report)


def _check(folder: Path | None, to: str | None, from_: str | None, compare: bool) -> None:
    if (folder is None) != (from_ == "kafka"):
        raise SettingsError("give either a folder of recordings, or --from kafka for what the frames topic retains")
    if to and from_:
        raise SettingsError("--to and --from can't be used together; frames from Kafka are scored, never sent again")
    if compare and not to:
        raise SettingsError("--compare is for --to kafka: it compares what a worker answers to what is published")


def _start_us(start: str) -> int:
    from schemas.times import parse_rfc3339

    try:
        return parse_rfc3339(start)
    except ValueError as error:
        raise SettingsError(f"--start: {error}") from None


def _in_process(config: ReplayConfig, champions: Champions, as_json: bool) -> dict[str, Any]:
    from backtest.replay.run import replay as run_replay
    from commands._replay import PrintingReplayObserver, QuietReplayObserver

    with nullcontext(QuietReplayObserver()) if as_json else PrintingReplayObserver() as observer:
        return run_replay(config, champions, observer)


def _conclude(summary: dict[str, Any], gates: list[Gate], as_json: bool, report: Path | None = None) -> None:
    """Print the outcome; exit with an error if a gate fails."""
    from backtest.replay.gates import failures
    from commands._replay import print_replay

    failed = failures(gates, summary)
    if as_json:
        print_json({**summary, "failed": failed})
    else:
        print_replay(summary)
        if report is not None:
            print_line(f"report     {report}")
    _fail_if(failed)


def _fail_if(failed: list[str]) -> None:
    for line in failed:
        print_error(line)
    if failed:
        raise typer.Exit(ReplayFailed.exit_code)
