"""A judge of models, for the gate between challenger and champion: the AUC that an evaluation gives."""

from __future__ import annotations

from pathlib import Path

from backtest.evaluation.evaluate import evaluate
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.evaluation.labelled import find_labelled
from schemas.errors import RecordingError
from trainer.promotion import Judge
from whirr.counts import counted


def recording_auc(folder: Path) -> Judge:
    """Return a judge: the area under the ROC curve over a folder's recordings, as ``whirr evaluate`` gives it.

    Raises:
        RecordingError: The folder lacks normal or anomalous recordings, or the label of one is unclear.
    """
    found = find_labelled(folder)
    if unclear := [f"{problem.name}: {problem.reason}" for problem in found.problems if "is unclear" in problem.reason]:
        raise RecordingError(
            f"{counted(len(unclear), 'recording')} in {str(folder)!r} may be normal or not: {unclear[0]}"
        )
    anomalous = sum(one.anomalous for one in found.recordings)
    normal = len(found.recordings) - anomalous
    expected = f"{str(folder)!r} holds {counted(normal, 'recording')} labelled normal and {anomalous} labelled anomaly"
    if not (normal and anomalous):
        raise RecordingError(f"{expected}; expected some of both")

    def judge(path: Path) -> float:
        area = evaluate(EvaluateConfig(folder=folder, model=path, resamples=0)).overall.values["auc"]
        if area is None:
            raise RecordingError(f"{expected}, of which {path} can use too few; expected some of both")
        return area

    return judge
