"""A folder of recordings that holds all a replay must cope with, and a model, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.replay.routing import load
from stream_app.worker.champions import Champions
from tests.models import NORMAL_RMS as RMS
from tests.models import encoded, noise, tiny_model
from whirr.settings import Route, load_settings


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model's file: normal noise scores about 0.5, ten times as loud about 4.6; alert threshold 1."""
    return tiny_model(tmp_path_factory.mktemp("replay-model") / "model.onnx")


@pytest.fixture(scope="session")
def champions(model: Path) -> Champions:
    """Return the model, loaded, for all machines with the default rule."""
    return load((Route(model=str(model)),), load_settings())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return two machines' recordings: whole frames, long ones, other formats, broken ones, times in names."""
    folder = tmp_path / "recordings"
    for machine in ("fan-1", "pump-2"):
        (folder / machine / "test").mkdir(parents=True)
        for number in range(8):  # one second each, every two seconds
            label, level = ("normal", 1) if number < 4 else ("anomaly", 10)
            name = f"{label}_20260131T1200{2 * number:02}.wav"
            (folder / machine / "test" / name).write_bytes(encoded(noise(rms=RMS * level, seed=number)))
    long = noise(7.7, rms=RMS, seed=20)
    (folder / "fan-1" / "normal_2026-01-31_12-01-00.flac").write_bytes(encoded(long, kind="FLAC"))
    (folder / "pump-2" / "normal_20260131_120100.5Z.ogg").write_bytes(encoded(long, kind="OGG", subtype="VORBIS"))
    (folder / "pump-2" / "anomaly_1769861000.wav").write_bytes(encoded(10 * long, subtype="PCM_U8"))
    (folder / "pump-2" / "normal_1769862000.mp3").write_bytes(encoded(long, kind="MP3", subtype="MPEG_LAYER_III"))
    whole = encoded(noise())
    (folder / "fan-1" / "normal_20260131T130000.wav").write_bytes(whole[: len(whole) // 2])  # its header lies
    (folder / "fan-1" / "normal_20260131T130100.wav").write_bytes(b"no audio at all")
    (folder / "fan-1" / "normal_20260131T130200.wav").write_bytes(encoded(noise(0.05)))
    return folder
