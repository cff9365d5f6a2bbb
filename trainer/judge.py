"""A judge of models: the AUC on labelled recordings, scored by the worker's own core."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recordings import read_recording
from schemas.errors import RecordingError
from stream_app.pipeline import Model, resample, windows
from trainer.labelled import find_labelled
from trainer.promotion import Judge
from trainer.reading import signals_of


def recording_auc(folder: Path) -> Judge:
    """Return a judge: the area under the ROC curve over the recordings under ``folder``.

    Labels are in the paths, as in `whirr evaluate`; recordings without one, or of a training set, don't count. A
    recording's score is the mean over its windows, of a one-channel model's signals the worst.

    Raises:
        RecordingError: The folder lacks normal or anomalous recordings, or the label of one is unclear.
    """
    found = find_labelled(folder)
    if unclear := [f"{problem.name}: {problem.reason}" for problem in found.problems if "is unclear" in problem.reason]:
        raise RecordingError(f"{len(unclear)} recordings in {str(folder)!r} may be normal or not: {unclear[0]}")
    labelled = [(one.path, int(one.anomalous)) for one in found.recordings]
    counts = [sum(label == wanted for _, label in labelled) for wanted in (0, 1)]
    if not all(counts):
        raise RecordingError(
            f"{str(folder)!r} holds {counts[0]} recordings labelled normal and {counts[1]} labelled anomaly; "
            "expected some of both"
        )

    def judge(path: Path) -> float:
        from sklearn.metrics import roc_auc_score

        model = Model.load(path)
        return float(
            roc_auc_score([label for _, label in labelled], [recording_score(model, file) for file, _ in labelled])
        )

    return judge


def recording_score(model: Model, path: Path) -> float:
    """Return the score of a whole recording: the mean over its windows, of a one-channel model's signals the worst."""
    config = model.metadata.features
    audio = read_recording(path)
    scores = []
    for signal in signals_of(audio.samples, config):
        log_mel = model.features.log_mel(resample(signal, audio.rate_hz, config.sample_rate_hz))
        scores.append(model.score(windows(log_mel, config))[0].astype(np.float64).mean())
    return float(max(scores))
