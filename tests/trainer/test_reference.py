"""Reference statistics from the feature store's history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from feature_repo import fields
from feature_repo.history import write_rows
from feature_repo.rows import FeatureRow
from schemas import format_rfc3339
from schemas.errors import FeatureStoreError
from stream_app.pipeline.model import Model
from stream_app.pipeline.statistics import STATISTICS
from tests.trainer.conftest import vibration, write
from trainer.reference import reference_statistics
from trainer.train import TrainConfig, train_model
from whirr.label_spans import LabelSpan

NOW = datetime.now(UTC)
NOW_US = int(NOW.timestamp() * 1e6)
DAY_S = 86_400.0


def row(machine: str, seconds_ago: float, value: float, state: str | None = "normal") -> FeatureRow:
    at_us = NOW_US - round(seconds_ago * 1e6)
    values = [value + number for number in range(len(fields.AUDIO_FIELDS))]
    return FeatureRow(machine, "", at_us, at_us, (*values, 1.0, 1.0, 0.5, 1, 0, state, "m/1", ""))


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = tmp_path / "history"
    write_rows(folder, [row("pump-1", 10 + number, float(number)) for number in range(101)])
    write_rows(folder, [row("pump-1", 300, 1e6, state) for state in ("critical",)])
    write_rows(folder, [row("pump-1", 400 + number, 1e6, state) for number, state in enumerate(("idle", "flat", None))])
    write_rows(folder, [row("pump-1", 2 * DAY_S, 1e6), row("pump-2", 5, 7.0), row("quiet", 5, 7.0, "idle")])
    return folder


def test_percentiles_are_of_normal_rows_of_the_period(history: Path):
    found = reference_statistics(history, [], NOW, DAY_S)
    assert list(found) == ["pump-1", "pump-2"]
    pump = found["pump-1"]
    assert pump.rows == 101
    assert (pump.first_at, pump.last_at) == (format_rfc3339(NOW_US - 110_000_000), format_rfc3339(NOW_US - 10_000_000))
    assert list(pump.percentiles) == list(STATISTICS)
    for number, name in enumerate(STATISTICS):
        expected = np.percentile(np.arange(101) + number, [5, 50, 95])
        np.testing.assert_allclose([pump.percentiles[name][p] for p in ("5", "50", "95")], expected)


def test_machines_can_be_chosen_and_none_that_was_normal_is_an_error(history: Path):
    assert list(reference_statistics(history, ["pump-2", "unknown"], NOW, DAY_S)) == ["pump-2"]
    with pytest.raises(FeatureStoreError, match=r"has 1 rows of quiet since .* none with the alert state 'normal'"):
        reference_statistics(history, ["quiet"], NOW, DAY_S)
    with pytest.raises(FeatureStoreError, match="has 0 rows since"):
        reference_statistics(history, [], NOW - timedelta(days=30), DAY_S)


def test_what_was_heard_of_a_fault_is_no_reference(history: Path):
    """Its rows say normal: before the alarm, and after it, until the repair."""
    span = LabelSpan(machine="pump-1", label="anomaly", from_us=NOW_US - 60_500_000, until_us=NOW_US - 20_500_000)
    found = reference_statistics(history, [], NOW, DAY_S, [span])
    assert found["pump-1"].rows == 101 - 40
    assert found["pump-2"].rows == 1, "another machine's"
    with pytest.raises(FeatureStoreError, match="none with the alert state 'normal'"):
        reference_statistics(history, ["pump-1"], NOW, DAY_S, [replace(span, from_us=0, until_us=None)])


@pytest.mark.slow
def test_a_trained_model_carries_the_reference_of_its_machines(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(fields.HISTORY_VARIABLE, str(history))
    for number in range(5):
        write(tmp_path / "in" / "pump-1" / f"{number}.wav", vibration(3, number))
    out = tmp_path / "model.onnx"
    config = TrainConfig(normal=tmp_path / "in", out=out, detector="pooled", mlflow=False, reference_s=DAY_S)
    result = train_model(config)
    assert list(result.metadata.statistics_reference) == ["pump-1"]
    assert Model.load(out).metadata.statistics_reference == result.metadata.statistics_reference
