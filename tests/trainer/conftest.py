"""Recordings of a small plant, made up, and one model trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from trainer import TrainConfig, TrainResult, train_model

RATE_HZ = 200


def vibration(seconds: float, seed: int, fault: float = 0.0, rate_hz: int = RATE_HZ, channels: int = 3) -> np.ndarray:
    """A shaft at 12 Hz with a harmonic, in noise; a fault adds a line at 70 Hz. float32 [n, channels]."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    shaft = 0.1 * np.sin(2 * np.pi * 12 * t + rng.uniform(0, 6)) + 0.03 * np.sin(2 * np.pi * 24 * t)
    line = fault * np.sin(2 * np.pi * 70 * t)
    noise = 0.02 * rng.standard_normal((len(t), channels))
    return ((shaft + line)[:, np.newaxis] * np.linspace(1, 0.5, channels) + noise).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    """Write a recording [n, channels]; the suffix says which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz)
    return path


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two machines, ten recordings of 5 s each, three axes at 200 Hz."""
    folder = tmp_path_factory.mktemp("plant")
    for number, machine in enumerate(("pump-1", "pump-2")):
        for index in range(10):
            write(folder / machine / "train" / f"{index}.wav", vibration(5, 100 * number + index))
    return folder


@pytest.fixture(scope="session")
def trained(plant: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A model of the plant, trained for a few epochs, without MLflow."""
    out = tmp_path_factory.mktemp("model") / "plant.onnx"
    config = TrainConfig(normal=plant, out=out, detector="conv_ae", epochs=6, accelerator="cpu", mlflow=False)
    return train_model(config)
