"""Models of single machines: loaded when needed, evicted by age, within a bound in bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from schemas.errors import ModelError
from stream_app.pipeline import METADATA_KEY, Model
from stream_app.worker.resident_models import CopyGone, ResidentCount, ResidentModels
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
    resident.keep({models[1][0].digest: [models[1][0].path]})
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


def test_of_files_that_are_equal_one_is_enough(models: list[tuple[Model, float]], tmp_path: Path) -> None:
    model, score = models[0]
    twin = tmp_path / "twin.onnx"
    twin.write_bytes(model.path.read_bytes())
    resident = ResidentModels(1)
    resident.keep({model.digest: [model.path, twin]})
    model.path.unlink()
    resident.need(model)
    assert float(model.score(WINDOWS)[0][0]) == score
    resident.trim()
    tiny_model(twin, scale=9.0)
    with pytest.raises(CopyGone, match=r"0.onnx' can't be read.*twin.onnx': the file has changed"):
        resident.need(model)


def test_a_model_that_fails_its_check_scores_nothing_and_says_why(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "nan.onnx", nan_from=-1e9)
    raw = path.read_bytes()
    text = next(one.value for one in onnx.load_model_from_string(raw).metadata_props if one.key == METADATA_KEY)
    model = Model.described(text, path, hashlib.sha256(raw).hexdigest())
    resident = ResidentModels(1 << 40)
    for _ in range(2):
        with pytest.raises(ModelError, match="scores silence as nan"):
            resident.need(model)
        assert not model.can_score
        assert resident.count == ResidentCount()
    with pytest.raises(RuntimeError, match="scores silence as nan"):
        model.score(WINDOWS)


def test_whatever_goes_wrong_while_a_model_wakes_is_a_model_error(
    models: list[tuple[Model, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise IndexError("nobody thought of this")

    monkeypatch.setattr(Model, "_check_scores", fails)
    with pytest.raises(ModelError, match="nobody thought of this"):
        ResidentModels(1).need(models[0][0])


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
