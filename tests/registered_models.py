"""Registered models for tests: a registry of its own, and tiny models in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stream_app.pipeline import Model, golden_window
from tests.models import tiny_metadata, tiny_model
from trainer.mlflow_run import MlflowRun
from trainer.promotion import FalseAlarmCount
from trainer.registration import register_model
from whirr.mlflow_client import TrackingServer, quiet
from whirr.settings import Settings


def sound_model(path: Path, name: str, version: str = "1", run_id: str | None = None, scale: float = 1.0) -> Path:
    """Write a tiny model with a golden window."""
    metadata = replace(tiny_metadata(), name=name, version=version, run_id=run_id)
    features = metadata.features
    window = np.random.default_rng(0).normal(-6, 1, (1, features.bands, features.window_columns)).astype(np.float32)
    score = float(Model.load(tiny_model(path, metadata, scale)).score(window[None])[0][0])
    return tiny_model(path, replace(metadata, golden=[golden_window(window, score)]), scale)


def register(
    settings: Settings,
    folder: Path,
    name: str,
    version: str = "1",
    above: int = 0,
    scale: float = 1.0,
    first_from_us: int | None = None,
) -> tuple[int, Path]:
    """Register a tiny model of which ``above`` of 100 held-out frames were false alarms; return number and file."""
    run = MlflowRun(settings, name, datetime.now(UTC))
    file = sound_model(folder / f"{name}-{version}.onnx", name, version, run.run_id, scale)
    run.finish([])
    with quiet(), TrackingServer(settings).client() as client:
        return register_model(client, file, FalseAlarmCount(100, above), first_from_us), file
