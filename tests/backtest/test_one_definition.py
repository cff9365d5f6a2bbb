"""Evaluation, replay and sweep count the same of the same recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backtest.alerting import AlertFigures
from backtest.evaluation.evaluate import evaluate
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.replay.replay_options import ReplayConfig
from backtest.replay.routing import load
from backtest.replay.run import ReplayObserver, replay
from backtest.sweep.grid import Grid
from backtest.sweep.load import load_scores
from backtest.sweep.tried_settings import try_settings
from tests.models import NORMAL_RMS, encoded, noise, tiny_model
from whirr.settings import Route, load_settings

# Loud segments among the normals, a fault that is found, one that is missed, and one with a false alert still open.
LEVELS = {
    "pump-1": ((1, 1, 10, 1, 1), (1, 10)),
    "pump-2": ((1, 1, 1, 1), (1, 1)),
    "pump-3": ((1, 1, 10), (10, 10)),
    "pump-4": ((1, 10, 1, 1), ()),
}
ONSET_S = 2.5
DEFAULT_RULE = Grid((1.0,), ((3, 5),), (5,), (0.9,))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return recordings of four seconds, with labels that say where in its first anomaly a machine's fault begins."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = ["path,label,onset_s"]
    for machine, both in LEVELS.items():
        for label, levels in zip(("normal", "anomaly"), both, strict=True):
            for number, level in enumerate(levels):
                path = folder / machine / f"{label}_{number}.wav"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encoded(noise(4.0, rms=NORMAL_RMS * level, seed=len(rows))))
                onset = ONSET_S if label == "anomaly" and number == 0 else ""
                rows.append(f"{machine}/{path.name},{label},{onset}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("every_s", [None, 90.0])
def test_evaluation_replay_and_sweep_agree(recordings: Path, tmp_path: Path, every_s: float | None) -> None:
    model, labels = tiny_model(tmp_path / "model.onnx"), recordings / "labels.csv"
    evaluation = evaluate(
        EvaluateConfig(folder=recordings, model=model, labels=labels, every_s=every_s, frame_s=1.0, resamples=0)
    )
    config = ReplayConfig(
        folder=recordings, out=tmp_path / "out", labels=labels, times="pace", every_s=every_s, frame_s=1.0, jobs=1
    )
    summary = replay(config, load((Route(model=str(model)),), load_settings()), ReplayObserver())
    scores = load_scores(tmp_path / "out")
    (tried,) = try_settings(scores.streams, DEFAULT_RULE, scores.every_s)

    assert (evaluation.figures.faults, evaluation.figures.found) == (3, 1)
    assert evaluation.figures.false_alerts == 3
    assert tried.figures == evaluation.figures
    assert summed(summary) == told(evaluation.figures)
    for machine, one in evaluation.machines.items():
        assert summed(summary["machines"][machine]) == told(one.figures)
    assert summary["auc_mean"] == pytest.approx(evaluation.arithmetic["auc"])


def told(figures: AlertFigures) -> dict[str, Any]:
    return {
        "faults": figures.faults,
        "faults_found": figures.found,
        "delay_s_median": figures.delay_s_median,
        "delay_s_max": figures.delay_s_max,
        "false_alerts": figures.false_alerts,
        "normal_s": pytest.approx(figures.normal_s),
        "false_alerts_per_day": pytest.approx(figures.false_alerts_a_day),
    }


def summed(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: summary[name] for name in told(AlertFigures())}
