"""Models of single machines: loaded when needed, evicted by age, within a bound in bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelError
from stream_app.pipeline import Model
from stream_app.worker.resident_models import ResidentCount, ResidentModels
from tests.models import tiny_model

WINDOWS = np.full((3, 1, 128, 30), -3.0, np.float32)


def described(path: Path, scale: float) -> tuple[Model, float]:
    """A model that is only described, and what it makes of a window."""
    whole = Model.load(tiny_model(path, scale=scale))
    return Model.described(whole.metadata_json(), path, whole.digest), float(whole.score(WINDOWS)[0][0])


@pytest.fixture
def models(tmp_path: Path) -> list[tuple[Model, float]]:
    return [described(tmp_path / f"{at}.onnx", 1.0 + at) for at in range(4)]


def size_of(model: Model) -> int:
    whole = Model.load(model.path)
    return whole.n_bytes


def test_a_model_comes_when_it_is_needed_and_the_longest_unused_one_goes(models: list[tuple[Model, float]]) -> None:
    resident = ResidentModels(round(2.5 * size_of(models[0][0])))
    for at in (0, 1, 0, 2):
        resident.need(models[at][0])
        resident.trim()
    assert [model.can_score for model, _ in models] == [True, False, True, False]
    assert (resident.count.models, resident.count.loaded, resident.count.evicted) == (2, 3, 1)
    assert 0 < resident.count.n_bytes <= resident.max_bytes


def test_what_a_batch_needs_stays_until_it_ends_however_large(models: list[tuple[Model, float]]) -> None:
    resident = ResidentModels(1)
    for model, _ in models:
        resident.need(model)
    assert [float(model.score(WINDOWS)[0][0]) for model, _ in models] == [score for _, score in models]
    resident.trim()
    assert resident.count == ResidentCount(0, 0, 4, 4)


def test_a_score_does_not_depend_on_where_its_model_was(models: list[tuple[Model, float]]) -> None:
    resident = ResidentModels(1)
    for _ in range(3):
        for model, score in models:
            resident.need(model)
            assert float(model.score(WINDOWS)[0][0]) == score
            resident.trim()
            with pytest.raises(RuntimeError, match="computed by another process"):
                model.score(WINDOWS)


def test_a_model_that_is_used_no_more_goes_and_is_not_counted_as_evicted(models: list[tuple[Model, float]]) -> None:
    resident = ResidentModels(1 << 40)
    for model, _ in models:
        resident.need(model)
    resident.keep([models[1][0].digest])
    assert [model.can_score for model, _ in models] == [False, True, False, False]
    assert resident.count == ResidentCount(1, models[1][0].n_bytes, 4, 0)


def test_a_file_that_has_gone_or_changed_is_refused(models: list[tuple[Model, float]]) -> None:
    resident = ResidentModels(1 << 40)
    tiny_model(models[0][0].path, scale=9.0)
    with pytest.raises(ModelError, match="has changed since it was tried"):
        resident.need(models[0][0])
    models[1][0].path.unlink()
    with pytest.raises(ModelError, match="can't be read"):
        resident.need(models[1][0])
    assert resident.count == ResidentCount()


def test_what_a_model_says_of_itself_crosses_without_golden_windows(tmp_path: Path) -> None:
    from dataclasses import replace

    from stream_app.pipeline import golden_window
    from tests.models import tiny_metadata

    plain = Model.load(tiny_model(tmp_path / "plain.onnx"))
    golden = golden_window(WINDOWS[0], float(plain.score(WINDOWS)[0][0]))
    metadata = replace(tiny_metadata(), golden=[golden] * 8)
    whole = Model.load(tiny_model(tmp_path / "golden.onnx", metadata))
    found = Model.described(whole.metadata_json(), whole.path, whole.digest)
    assert found.metadata == replace(whole.metadata, golden=[])
    assert len(whole.metadata_json()) < 10_000
