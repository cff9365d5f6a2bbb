"""``whirr evaluate``: how good a model is on labelled recordings."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from commands._options import ColumnsOption, PatternOption, columns_of
from commands._output import print_json, print_line
from whirr.outputs import check_file

_DATA, _RULE, _OUTPUT = "Data", "Alert rule", "Output"


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Labelled recordings; DIR/<machine>/… names machines.")],
    model: Annotated[Path, typer.Option(help="The model file.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV of labels (path,label[,machine][,onset_s]) in place of names.", rich_help_panel=_DATA),
    ] = None,
    machine: Annotated[
        str | None, typer.Option(help="The machine that all recordings are of.", rich_help_panel=_DATA)
    ] = None,
    pattern: PatternOption = None,
    columns: ColumnsOption = None,
    on_error: Annotated[
        Literal["skip", "fail"],
        typer.Option(help="What to do with files that have no label or can't be used.", rich_help_panel=_DATA),
    ] = "skip",
    frame_s: Annotated[
        float | None,
        typer.Option(
            help="Cut recordings into frames of so many seconds; default: as the model was calibrated.",
            min=0.1,
            max=60,
            rich_help_panel=_RULE,
        ),
    ] = None,
    every_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds from one recording's start to the next one's; default: back to back.", rich_help_panel=_RULE
        ),
    ] = None,
    routes: Annotated[
        bool,
        typer.Option(
            "--routes",
            help="Take the alert rule from the routes in whirr.toml, not from the model.",
            rich_help_panel=_RULE,
        ),
    ] = False,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples behind the confidence intervals; 0 for none.", rich_help_panel=_OUTPUT)
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.", rich_help_panel=_OUTPUT)] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write a report to this HTML file.", rich_help_panel=_OUTPUT)
    ] = None,
    mlflow: Annotated[
        bool,
        typer.Option("--mlflow", help="Log figures and report to the model's run in MLflow.", rich_help_panel=_OUTPUT),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Score labelled recordings (.wav .flac .ogg .mp3) as a worker would, and say how well it went.

    Words in names label recordings (normal, ok, healthy; anomaly, abnormal, fault and their like), and so do folders
    named for a label; what is unclear is named and not used. Folders named "train" are left out. Both thresholds are
    the model's: nothing is tuned on the labels.
    """
    from backtest.evaluation import EvaluateConfig
    from backtest.evaluation import evaluate as run_evaluation
    from commands._evaluation import PrintingEvaluationObserver, QuietEvaluationObserver, print_evaluation
    from whirr.settings import load_settings

    if report is not None:
        check_file(report, "--report")
    config = EvaluateConfig(
        folder=folder,
        model=model,
        labels=labels,
        machine=machine,
        pattern=pattern,
        columns=columns_of(columns),
        on_error=on_error,
        frame_s=frame_s,
        every_s=every_s,
        use_routes=routes,
        resamples=bootstrap,
        seed=seed,
    )
    settings = load_settings()
    if mlflow:
        from trainer.registration import check_registry

        check_registry(settings)
    with nullcontext(QuietEvaluationObserver()) if as_json else PrintingEvaluationObserver() as observer:
        result = run_evaluation(config, observer, settings)
    logged: str | None = None
    if report is not None or mlflow:
        from backtest.evaluation.publish import publish

        logged = publish(result, report, settings if mlflow else None)
    if as_json:
        told = {"report": None if report is None else str(report), "mlflow_run_id": logged}
        print_json({**result.as_dict(), **told})
        return
    print_evaluation(result)
    if report is not None:
        print_line(f"report     {report}")
    if logged is not None:
        print_line(f"run        {logged} in MLflow")
