"""Copies that were tried are not tried again by the next worker; whatever has changed is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from schemas.errors import ModelError
from stream_app.pipeline import Model
from stream_app.worker import tried_models
from stream_app.worker.champions import ModelTrial
from stream_app.worker.model_files import KEPT_COPIES, RegisteredFiles, VersionSource, file_digest
from tests.models import tiny_metadata, tiny_model


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are tried, by path; here and not in a process."""
    paths: list[str] = []

    def try_here(_: ModelTrial, path: str) -> tuple[Model, str]:
        paths.append(path)
        model = Model.load(path)
        return Model.described(model.metadata_json(), path, model.digest), model.digest

    monkeypatch.setattr(ModelTrial, "_tried", try_here)
    return paths


def test_a_copy_is_tried_once(copies: Path, tried: list[str]) -> None:
    path = tiny_model(copies / "pump-1-abc.onnx", replace(tiny_metadata(), name="pump", machines=("pump-1",)))
    first, digest = ModelTrial(9, copies)(str(path))
    again, same = ModelTrial(9, copies)(str(path))
    assert tried == [str(path)]
    assert digest == same == file_digest(path)
    assert (again.metadata, again.digest, again.path) == (first.metadata, digest, path)
    assert again.trained_on == {"pump-1"}
    assert not again.can_score


def _changed_file(path: Path, _: pytest.MonkeyPatch) -> None:
    tiny_model(path, scale=2.0)


def _other_version(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.__version__", "9.9.9")


def _damaged_note(path: Path, _: pytest.MonkeyPatch) -> None:
    path.with_name(path.name + tried_models.SUFFIX).write_bytes(b'{"digest": 3')


def _strange_note(path: Path, _: pytest.MonkeyPatch) -> None:
    note = path.with_name(path.name + tried_models.SUFFIX)
    note.write_bytes(note.read_bytes().replace(b"alert_threshold", b"alert_threshholds"))


def _impossible_note(path: Path, _: pytest.MonkeyPatch) -> None:
    note = path.with_name(path.name + tried_models.SUFFIX)
    whole = orjson.loads(note.read_bytes())
    metadata = orjson.loads(whole["metadata"])
    metadata["features"]["hop"] = 4 * metadata["features"]["n_fft"]
    note.write_bytes(orjson.dumps(whole | {"metadata": orjson.dumps(metadata).decode()}))


def _no_note(path: Path, _: pytest.MonkeyPatch) -> None:
    tried_models.forget(path)


@pytest.mark.parametrize(
    "change", [_changed_file, _other_version, _damaged_note, _strange_note, _impossible_note, _no_note]
)
def test_what_has_changed_is_tried_again(
    copies: Path, tried: list[str], monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    path = tiny_model(copies / "pump-1-abc.onnx")
    ModelTrial(9, copies)(str(path))
    change(path, monkeypatch)
    assert ModelTrial(9, copies)(str(path))[1] == file_digest(path)
    assert len(tried) == 2
    ModelTrial(9, copies)(str(path))
    assert len(tried) == 2


def test_nothing_is_noted_beside_a_file_of_the_users_or_one_that_is_refused(
    copies: Path, tmp_path: Path, tried: list[str]
) -> None:
    mine = tiny_model(tmp_path / "mine.onnx")
    for _ in range(2):
        ModelTrial(9, copies)(str(mine))
    bad = copies / "bad.onnx"
    bad.write_bytes(b"no model")
    for _ in range(2):
        with pytest.raises(ModelError):
            ModelTrial(9, copies)(str(bad))
    assert len(tried) == 4
    assert [path.name for path in (*tmp_path.glob("*.tried"), *copies.glob("*.tried"))] == []


def test_a_folder_that_cannot_be_written_to_costs_a_trial_and_no_more(
    copies: Path, tried: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tried_models, "replacing", full)
    path = tiny_model(copies / "pump-1-abc.onnx")
    for _ in range(2):
        ModelTrial(9, copies)(str(path))
    assert len(tried) == 2
    assert "No space left on device" in caplog.text


def test_a_folder_where_a_note_would_be_is_left_alone(copies: Path, tried: list[str]) -> None:
    path = tiny_model(copies / "pump-1-abc.onnx")
    (folder := copies / f"{path.name}.tried").mkdir()
    for _ in range(2):
        ModelTrial(9, copies)(str(path))
    tried_models.forget(path)
    assert len(tried) == 2
    assert folder.is_dir()


def test_notes_go_with_their_copies(copies: Path) -> None:
    paths = [copies / f"pump-{number}-{number:012x}.onnx" for number in range(1, KEPT_COPIES + 3)]
    for number, path in enumerate(paths):
        tiny_model(path)
        os.utime(path, (number, number))
        tried_models.remember(Model.load(path))
    files = RegisteredFiles(copies, cast("VersionSource", None))
    files.used("models:/pump@champion", paths[-1])
    assert sorted(path.name for path in copies.glob("*.onnx")) == [path.name for path in paths[2:]]
    assert sorted(path.name for path in copies.glob("*.tried")) == [f"{path.name}.tried" for path in paths[2:]]
