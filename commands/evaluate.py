"""``whirr evaluate``: how good a model is on labelled recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backtest.evaluation.evaluate_options import EvaluateConfig
from commands._options import AsJson, takes
from commands._output import print_json, print_line
from whirr.outputs import check_file


@takes(EvaluateConfig)
def evaluate(
    config: EvaluateConfig,
    *,
    report: Annotated[
        Path | None, typer.Option(help="Write a report to this HTML file.", rich_help_panel="Output")
    ] = None,
    mlflow: Annotated[
        bool,
        typer.Option("--mlflow", help="Log figures and report to the model's run in MLflow.", rich_help_panel="Output"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score labelled recordings as a worker would, and say how well it went.

    Words in names label recordings (normal, ok, healthy; anomaly, abnormal, fault and their like), and so do folders
    named for a label; what is unclear is named and not used. Folders named "train" are left out. Both thresholds are
    the model's: nothing is tuned on the labels.
    """
    from backtest.evaluation.evaluate import evaluate as run_evaluation
    from commands._evaluation import PrintingEvaluationObserver, print_evaluation
    from whirr.settings import load_settings

    if report is not None:
        check_file(report, "--report")
    settings = load_settings()
    if mlflow:
        from trainer.registration import check_registry

        check_registry(settings)
    with PrintingEvaluationObserver(quiet=as_json) as observer:
        result = run_evaluation(config, observer, settings)
    logged: str | None = None
    if report is not None or mlflow:
        from backtest.evaluation.tracking import publish_evaluation

        logged = publish_evaluation(result, report, settings if mlflow else None)
    if as_json:
        told = {"report": None if report is None else str(report), "mlflow_run_id": logged}
        print_json({**result.as_dict(), **told})
        return
    print_evaluation(result)
    if report is not None:
        print_line(f"report     {report}")
    if logged is not None:
        print_line(f"run        {logged} in MLflow")
