"""Publishing: the report as a file, and figures and report in MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path

from backtest.evaluation.result import Evaluation
from backtest.report.evaluation import evaluation_page
from backtest.report.page import write_page
from schemas.errors import ModelError
from stream_app.pipeline import Model
from whirr.settings import Settings


def publish(result: Evaluation, report: Path | None, settings: Settings | None) -> str | None:
    """Write the report, and log it with the figures.

    Args:
        result: The evaluation.
        report: The file to write; None for none.
        settings: For MLflow; None for no logging.

    Returns:
        The id of the run that it was logged to, or None.

    Raises:
        SettingsError: The report can't be written.
        ModelError: The model file is another one by now.
        RecordingError: A recording can't be read any more.
        ServiceUnavailable: MLflow can't be used; the report has been written before.
    """
    model = Model.load(result.config.model)
    if model.digest != result.digest:
        raise ModelError(f"model {str(result.config.model)!r} was replaced during the evaluation; run it again")
    text = evaluation_page(result, model)
    if report is not None:
        write_page(report, text)
    if settings is None:
        return None
    from backtest.evaluation.tracking import log_evaluation

    with tempfile.TemporaryDirectory(prefix="whirr-evaluate-") as folder:
        file = Path(folder) / "report.html"
        file.write_text(text, encoding="utf-8")
        return log_evaluation(result, file, settings)
