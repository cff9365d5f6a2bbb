"""What a model file says of itself is bounded: some of it is in every answer, and an answer must fit its topic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import FeatureConfig
from schemas.errors import ModelError
from stream_app.pipeline import Model
from tests.models import tiny_metadata, tiny_model

LONG = "x" * 3_000_000
THRESHOLDS = {"decision_threshold": 0.8, "alert_threshold": 1.0, "normals": 9}
REFERENCE = {"rows": 1, "first_at": "2026-01-01T00:00:00Z", "last_at": "2026-01-01T00:00:00Z", "percentiles": {}}


def with_changes(changes: dict[str, Any]) -> bytes:
    return orjson.dumps({**json.loads(orjson.dumps(tiny_metadata())), **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", LONG),
        ("version", LONG),
        ("version", ""),
        ("version", "1\x1b]52;c;AA"),
        ("version", "ü\n"),
        ("detector", LONG),
        ("run_id", LONG),
        ("data_hash", LONG),
        ("created_at", LONG),
        ("created_at", "soon"),
        ("machine_thresholds", {LONG: THRESHOLDS}),
        ("machine_thresholds", {"": THRESHOLDS}),
        ("machine_thresholds", {str(number): THRESHOLDS for number in range(100_001)}),
        ("machines", [LONG]),
        ("machines", ["m"] * 100_001),
        ("score_percentiles", {LONG: 1.0}),
        ("score_percentiles", {str(number): 1.0 for number in range(1_001)}),
        ("normal_band_error", [[0.1] * 5000]),
        ("normal_band_error", [[0.1]] * 65),
        ("statistics_reference", {LONG: REFERENCE}),
        ("statistics_reference", {"pump": {**REFERENCE, "first_at": LONG}}),
        ("statistics_reference", {"pump": {**REFERENCE, "percentiles": {LONG: {}}}}),
        ("golden", [{"shape": [1, 128, 30], "log_mel_base64": "A" * ((1 << 25) + 4), "score": 0.5}]),
        ("golden", [{"shape": [1, 128, 30], "log_mel_base64": "AAAA", "score": 0.5}]),
        ("golden", [{"shape": [16, 1 << 24, 1 << 24], "log_mel_base64": "AAAA", "score": 0.5}]),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_each_field_is_bounded_and_named(tmp_path: Path, field: str, value: Any) -> None:
    path = tiny_model(tmp_path / "tiny.onnx", metadata_json=with_changes({field: value}))
    with pytest.raises(ModelError, match=f"metadata: {field}") as refused:
        Model.load(path)
    assert len(str(refused.value)) < 1_000, "what is said about it is bounded, too"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["thresholds", "calibration", "score_percentiles", "normal_band_error"])
def test_no_number_is_infinite(tmp_path: Path, field: str, number: str) -> None:
    said = json.loads(orjson.dumps(tiny_metadata()))
    wrong = {
        "thresholds": {**said["thresholds"], "alert_threshold": 123456.5},
        "calibration": {**said["calibration"], "frame_s": 123456.5},
        "score_percentiles": {"50": 123456.5},
        "normal_band_error": [[123456.5]],
    }
    raw = orjson.dumps({**said, field: wrong[field]}).replace(b"123456.5", number.encode())
    with pytest.raises(ModelError, match=f"metadata: {field}"):
        Model.load(tiny_model(tmp_path / "tiny.onnx", metadata_json=raw))


def test_a_window_is_of_a_size_that_can_be_tried(tmp_path: Path) -> None:
    said = json.loads(orjson.dumps(tiny_metadata()))
    said["features"] |= {"channels": 64, "bands": 4096, "window_columns": 65_536}
    path = tiny_model(tmp_path / "tiny.onnx", metadata_json=orjson.dumps(said))
    with pytest.raises(ModelError, match="features: a window of 64 channels, 4096 bands and 65536 columns"):
        Model.load(path)


def test_what_training_writes_is_well_within(tmp_path: Path) -> None:
    metadata = tiny_metadata(FeatureConfig(), version="2026-01-31 build 7", run_id="a" * 32, machines=("Pump 7",))
    assert Model.load(tiny_model(tmp_path / "tiny.onnx", metadata)).metadata == metadata
