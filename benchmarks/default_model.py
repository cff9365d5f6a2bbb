"""The default detector as measurements take it: trained on a simulated machine, and that machine's further signal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import orjson
from numpy.typing import NDArray

from benchmarks.environment import RATE_HZ
from edge_agent.simulator.machine import Machine
from edge_agent.simulator.plant import make_plant
from recordings.encode import encode
from recordings.samples import SignalFormat
from schemas import FrameRecord, frame_headers
from stream_app.pipeline.model import METADATA_KEY
from trainer.train import TrainConfig, train_model

TRAIN_S: Final = 60


def signal(seconds: int, seed: int = 0) -> NDArray[np.int16]:
    """Return what a healthy simulated machine sounds like; int16 [1, n] at 16 kHz."""
    machine = Machine(make_plant(seconds=seconds).machines[0].healthy(), seed=seed, rate_hz=RATE_HZ, run="bench")
    samples: NDArray[Any] = np.concatenate([machine.read(RATE_HZ) for _ in range(seconds)], axis=1)
    return np.round(samples * 32767).astype(np.int16)


def frames(seconds: int, seed: int = 0) -> list[bytes]:
    """Return the same as WAV files of a second each."""
    seconds_of = np.split(signal(seconds, seed), seconds, axis=1)
    return [encode(one, SignalFormat(RATE_HZ, len(one), "pcm16"), "wav").value for one in seconds_of]


def record(machine_id: str, value: bytes, recorded_us: int) -> FrameRecord:
    """Return a frame as a worker gets it, sent when it was recorded."""
    headers = tuple(frame_headers(machine_id, None, recorded_us, value))
    return FrameRecord(machine_id.encode(), value, headers, recorded_us // 1000)


def train_default(folder: Path) -> Path:
    """Train the default detector on a minute of that machine, unless it is in the folder; return the model's file."""
    if (out := folder / "default.onnx").exists():
        return out
    normal = folder / "normal"
    normal.mkdir(parents=True, exist_ok=True)
    for number, value in enumerate(frames(2 * TRAIN_S)[::2]):
        (normal / f"{number:04d}.wav").write_bytes(value)
    train_model(TrainConfig(normal=normal, out=out, mlflow=False, accelerator="cpu"))
    return out


def unheard() -> list[bytes]:
    """Return frames of that machine that it was not trained on."""
    return frames(2 * TRAIN_S)[1::2]


def with_threshold(model: Path, out: Path, alert_threshold: float) -> Path:
    """Write a model with another alert threshold; return the file."""
    changed = onnx.load(model)
    for entry in changed.metadata_props:
        if entry.key == METADATA_KEY:
            metadata = orjson.loads(entry.value)
            metadata["thresholds"]["alert_threshold"] = alert_threshold
            entry.value = orjson.dumps(metadata).decode()
    onnx.save(changed, out)
    return out
