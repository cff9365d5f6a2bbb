"""Models and frames for tests: tiny, made in milliseconds, with scores that can be predicted."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import soundfile
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from schemas import Calibration, FeatureConfig, FrameRecord, ModelMetadata, Thresholds, format_rfc3339, frame_headers
from schemas.condition import UNKNOWN, Condition
from schemas.frame import condition_headers
from stream_app.pipeline.features import Features

SECOND_US = 1_000_000
START_US = 1_767_225_600 * SECOND_US  # 2026-01-01T00:00:00Z
NORMAL_RMS = 0.05
LEVELS = [1.0] * 8 + [10.0] * 8 + [40.0] * 4 + [1.0] * 12  # a machine that fails, gets worse, and is mended


def noise(seconds: float = 1.0, rms: float = NORMAL_RMS, rate_hz: int = 16_000, channels: int = 1, seed: int = 0):
    """White noise, float32 [channels, n]."""
    rng = np.random.default_rng(seed)
    return (rms * rng.standard_normal((channels, round(seconds * rate_hz)))).astype(np.float32)


def encoded(samples: NDArray[Any], rate_hz: int = 16_000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """An audio file of samples [channels, n], as bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1).T, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def record(
    value: bytes | None,
    machine_id: str = "pump-1",
    recorded_us: int | None = None,
    *,
    source: str | None = None,
    sequence: int | None = None,
    offset: int = 0,
    partition: int = 0,
    condition: Condition = UNKNOWN,
) -> FrameRecord:
    """A frame's record as Whirr's own producers would send it; bare, without headers, if it has no recording time."""
    headers = condition_headers(condition)
    if recorded_us is not None:
        headers = frame_headers(machine_id, source, recorded_us, value or b"", sequence, condition=condition)
    stamp_ms = (recorded_us if recorded_us is not None else START_US) // 1000
    return FrameRecord(machine_id.encode(), value, tuple(headers), stamp_ms, partition=partition, offset=offset)


def course(
    levels: Sequence[float], machine_id: str = "pump-1", source: str | None = None, start_us: int = START_US
) -> list[FrameRecord]:
    """One-second frames of noise; a level of 1 is normal, 10 is loud enough to be anomalous for a tiny model."""
    return [
        record(
            encoded(noise(rms=NORMAL_RMS * level, seed=i)),
            machine_id,
            start_us + i * SECOND_US,
            source=source,
            sequence=i,
            offset=i,
        )
        for i, level in enumerate(levels)
    ]


def plant(machines: int = 6, levels: Sequence[float] = LEVELS) -> list[FrameRecord]:
    """Frames of several machines, interleaved; every other machine stays normal."""
    courses = [course(levels if i % 2 else [1.0] * len(levels), f"pump-{i}", "mic") for i in range(machines)]
    return [frame for together in zip(*courses, strict=True) for frame in together]


def sent_now(frames: Iterable[FrameRecord]) -> list[FrameRecord]:
    """The same frames with records of today: the recording times are old enough for Kafka to delete the records."""
    return [replace(frame, timestamp_ms=0) for frame in frames]


def tiny_metadata(features: FeatureConfig | None = None, **changes: Any) -> ModelMetadata:
    """Metadata of a tiny model: alert threshold 1.0."""
    features = features or FeatureConfig()
    metadata = ModelMetadata(
        name="tiny",
        version="1",
        detector="level",
        run_id=None,
        data_hash="0" * 64,
        created_at=format_rfc3339(START_US),
        features=features,
        thresholds=Thresholds(decision_threshold=0.8, alert_threshold=1.0, normals=100),
        machine_thresholds={},
        calibration=Calibration(frame_s=1.0, k=3, n=5, false_alerts_per_30_days=1.0, decision_percentile=95.0),
        score_percentiles={"50": 0.45, "95": 0.6},
        normal_band_error=[[0.45] * features.bands] * features.channels,
        golden=[],
    )
    return replace(metadata, **changes)


def tiny_model(
    path: Path,
    metadata: ModelMetadata | None = None,
    scale: float = 1.0,
    metadata_json: bytes | None = None,
    endless_from: float | None = None,
    nan_from: float | None = None,
) -> Path:
    """Write a model whose score is the mean distance of the log-mel from that of white noise at ``NORMAL_RMS``.

    Normal noise scores about 0.5, noise ten times as loud about 4.6, digital silence about 17; times ``scale``. Windows
    that are louder in any band than ``endless_from`` nepers above normal noise are computed for ever, and those louder
    than ``nan_from`` score NaN.
    """
    metadata = metadata or tiny_metadata()
    features = metadata.features
    rate_hz = features.sample_rate_hz
    normal = noise(max(10.0, 40 * features.n_fft / rate_hz), rate_hz=rate_hz, channels=features.channels)
    reference = Features(features).log_mel(normal).mean(axis=-1)[None, :, :, None].astype(np.float32)
    columns: int | str = features.window_columns if features.time_axis == "fixed" else "time"
    nodes = [
        helper.make_node("Sub", ["log_mel", "reference"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("Mul", ["distance", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "time_axis"], ["band_error"], keepdims=0),
        helper.make_node("ReduceMean", ["band_error", "band_axes"], ["mean"], keepdims=0),
        helper.make_node("ReduceMax", ["difference"], ["loudest"], keepdims=0),
        helper.make_node("Greater", ["loudest", "endless_from"], ["endless"]),
        helper.make_node("Loop", ["", "endless", "zero"], ["nothing"], body=_for_ever()),
        helper.make_node("Add", ["mean", "nothing"], ["number"]),
        helper.make_node("Greater", ["loudest", "nan_from"], ["is_nan"]),
        helper.make_node("Where", ["is_nan", "nan", "number"], ["score"]),
    ]
    constants = {
        "reference": reference,
        "scale": np.float32(scale),
        "endless_from": np.float32(np.inf if endless_from is None else endless_from),
        "nan_from": np.float32(np.inf if nan_from is None else nan_from),
        "nan": np.float32(np.nan),
        "zero": np.float32(0),
        "time_axis": np.array([3], np.int64),
        "band_axes": np.array([1, 2], np.int64),
    }
    shape = ["window", features.channels, features.bands]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, [*shape, columns])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["window"]),
            helper.make_tensor_value_info("band_error", TensorProto.FLOAT, shape),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"whirr": (metadata_json or orjson.dumps(metadata)).decode()})
    onnx.save(model, str(path))
    return path


def conditioned_model(path: Path) -> Path:
    """Write a model that expects 1 neper more in each band for each 20 of load above 50, where the load is known.

    It knows of loads from 0 to 100. Else it is as :func:`tiny_model`'s.
    """
    from trainer.graph import build_conditioned  # trains nothing, but needs onnx

    metadata = tiny_metadata(conditions={"load": (0.0, 100.0)})
    features = metadata.features
    reference = Features(features).log_mel(noise(10.0)).mean(axis=-1)[None, :, :, None].astype(np.float32)

    def scorer(log_mel: Any, condition: Any) -> tuple[Any, Any]:
        load = condition.between(1, 2, 1).squeeze(1)
        expected = (load.where(load.is_nan().negated(), 50.0).clipped(0.0, 100.0) - 50.0) / 20.0
        bands = (log_mel - reference - expected.unsqueeze(1, 2, 3)).square().sqrt().mean(3)
        return bands.mean(2).mean(1), bands

    build_conditioned(scorer, (features.channels, features.bands, features.window_columns)).save(path, metadata)
    return path


def _for_ever() -> onnx.GraphProto:
    """The body of a loop that goes on as long as it was told to begin."""
    names = ("turn", TensorProto.INT64), ("go_on", TensorProto.BOOL), ("value", TensorProto.FLOAT)
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in names]
    outputs = [helper.make_tensor_value_info(f"{name}_after", kind, []) for name, kind in names[1:]]
    nodes = [helper.make_node("Identity", [name], [f"{name}_after"]) for name, _ in names[1:]]
    return helper.make_graph(nodes, "for_ever", inputs, outputs)
