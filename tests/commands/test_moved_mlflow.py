"""A project folder that was moved: MLflow's database names places that are gone, and every command says which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands import run
from schemas.errors import ServiceUnavailable
from schemas.model_uri import ModelUri
from tests.models import encoded, noise
from tests.registered_models import register
from trainer.registration import check_registry
from trainer.registry import Registry
from whirr.mlflow_client import ModelRegistry
from whirr.settings import Settings, load_settings

NAME = "pump"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project's old folder, where nothing is any more, and the new one; a registered model in it."""
    ground = tmp_path_factory.mktemp("moved")
    old, new = ground / "old place", ground / "new"
    old.mkdir()
    register(_settings(old), old, NAME)
    register(_settings(old), old, NAME, "2")
    shutil.move(old, new)
    return old, new


def _settings(folder: Path) -> Settings:
    return load_settings(mlflow_tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def _check(message: str, old: Path, new: Path) -> None:
    assert f"says '{old}/mlruns" in message
    assert f"the same is at '{new}/mlruns" in message
    assert f"ln -s {new}/mlruns '{old}/mlruns'" in message


@pytest.mark.slow
def test_a_worker_and_a_replay_say_where_the_model_was_and_is(moved: tuple[Path, Path], tmp_path: Path):
    registry = ModelRegistry(_settings(moved[1]))
    uri = ModelUri.parse(f"models:/{NAME}@champion")
    assert uri is not None
    assert registry.resolve(uri).number == 1
    with pytest.raises(ServiceUnavailable) as raised:
        registry.download(NAME, 1, tmp_path)
    _check(str(raised.value), *moved)


def test_promotion_by_recordings_says_it(moved: tuple[Path, Path]):
    with pytest.raises(ServiceUnavailable) as raised:
        Registry(_settings(moved[1])).promote(NAME, "2", judge=lambda _path: 1.0)
    _check(str(raised.value), *moved)


def test_a_training_says_it_before_it_begins(moved: tuple[Path, Path], tmp_path: Path, monkeypatch, capsys):
    with pytest.raises(ServiceUnavailable) as raised:
        check_registry(_settings(moved[1]))
    _check(str(raised.value), *moved)
    (tmp_path / "normals").mkdir()
    (tmp_path / "normals" / "1.wav").write_bytes(encoded(noise(12.0)))
    monkeypatch.setenv("WHIRR_MLFLOW_TRACKING_URI", f"sqlite:///{moved[1] / 'mlflow.db'}")
    out = tmp_path / "m.onnx"
    assert run(["train", "--normal", str(tmp_path / "normals"), "--out", str(out), "--detector", "pooled"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(". Nothing has been trained yet; --no-mlflow trains without it\n")
    assert not out.exists()


def test_a_link_as_the_message_says_makes_it_work_again(moved: tuple[Path, Path], tmp_path: Path):
    old, new = moved
    old.mkdir()
    try:
        (old / "mlruns").symlink_to(new / "mlruns")
        assert ModelRegistry(_settings(new)).download(NAME, 1, tmp_path).is_file()
    finally:
        shutil.rmtree(old)


def test_a_file_that_is_nowhere_is_named(moved: tuple[Path, Path], tmp_path: Path):
    new = tmp_path / "copy"
    new.mkdir()
    shutil.copy(moved[1] / "mlflow.db", new)
    with pytest.raises(
        ServiceUnavailable, match=r"version 1 of 'pump' is not where it was kept, '.*'; was it deleted\?"
    ):
        ModelRegistry(_settings(new)).download(NAME, 1, tmp_path)
