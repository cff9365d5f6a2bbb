"""Loading models at the start, and noticing new ones."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelError, SettingsError
from stream_app.worker.champions import ModelTrial, ModelWatcher, describe, load_champions, load_model
from tests.models import tiny_metadata, tiny_model
from whirr.settings import Route


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.onnx")


def watcher(path: Path, refusals: list[int]) -> ModelWatcher:
    routes = (Route(match="*", model=str(path)),)
    return ModelWatcher(routes, load_champions(routes), lambda: refusals.append(1))


def replace_file(path: Path, content: bytes) -> None:
    """As a deployment does it: the new file appears complete, under the old name."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def second_version(path: Path) -> bytes:
    return tiny_model(path.with_name("second.onnx"), replace(tiny_metadata(), version="2")).read_bytes()


def test_no_routes_shows_how_one_looks() -> None:
    with pytest.raises(SettingsError, match=r"(?s)\[\[route\]\].*model ="):
        load_champions(())


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx"):
        load_champions((Route(model=str(tmp_path / "gone.onnx")),))


def test_routes_share_a_model(path: Path) -> None:
    router = load_champions((Route(match="pump-*", model=str(path)), Route(model=str(path)))).router
    assert router.routed[0].model is router.routed[1].model
    assert set(describe(router)) == {"pump-*", "*"}


def test_an_unchanged_file_is_no_news(path: Path) -> None:
    refusals: list[int] = []
    watching = watcher(path, refusals)
    assert watching.check() is None
    os.utime(path, ns=(1, 1))
    assert watching.check() is None, "touched, but the same"
    assert refusals == []


def test_a_new_file_is_swapped_in(path: Path) -> None:
    watching = watcher(path, refusals := [])
    replace_file(path, second_version(path))
    champions = watching.check()
    assert champions is not None
    assert champions.files[str(path)].digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert champions.router.find("any").model.metadata.version == "2"
    assert watching.check() is None
    assert refusals == []


def test_a_bad_file_is_refused_once_and_the_old_model_stays(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watching = watcher(path, refusals := [])
    replace_file(path, b"no model")
    assert watching.check() is None
    assert watching.check() is None
    assert refusals == [1]
    assert "tiny version 1" in caplog.text


def test_a_good_file_after_a_bad_one_is_taken(path: Path) -> None:
    watching = watcher(path, refusals := [])
    good = second_version(path)
    replace_file(path, b"no model")
    watching.check()
    replace_file(path, good)
    champions = watching.check()
    assert champions is not None
    assert champions.files[str(path)].digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert champions.router.find("any").model.metadata.version == "2"
    assert refusals == [1]


def test_a_file_that_vanishes_is_refused_once(path: Path) -> None:
    watching = watcher(path, refusals := [])
    path.unlink()
    assert watching.check() is None
    assert watching.check() is None
    assert refusals == [1]


@pytest.mark.slow
def test_a_model_whose_trial_never_ends_is_refused_and_the_one_in_use_goes_on(path: Path) -> None:
    refusals: list[int] = []
    routes = (Route(model=str(path)),)
    with ModelTrial(30.0) as trial:
        champions = load_champions(routes, load=trial)
    watcher = ModelWatcher(routes, champions, lambda: refusals.append(1), trial=lambda: ModelTrial(4.0))
    assert watcher.check() is None
    tiny_model(path, endless_from=-1e9)
    assert watcher.check() is None
    assert refusals == [1]
    tiny_model(path, replace(tiny_metadata(), version="3"))
    changed = watcher.check()
    assert changed is not None
    assert changed.router.routed[0].model.metadata.version == "3"


@pytest.mark.slow
def test_at_the_start_such_a_model_is_an_error_that_says_so(path: Path) -> None:
    tiny_model(path, endless_from=-1e9)
    with ModelTrial(4.0) as trial, pytest.raises(ModelError, match="loading and trying it, it took more than 4 s"):
        load_champions((Route(model=str(path)),), load=trial)


@pytest.mark.slow
def test_a_model_that_was_tried_elsewhere_tells_all_but_scores(path: Path) -> None:
    here, digest = load_model(str(path))
    with ModelTrial(30.0) as trial:
        there, its_digest = trial(str(path))
        with pytest.raises(ModelError, match="no ONNX file"):
            trial(str(_broken(path.with_name("broken.onnx"))))
        assert trial(str(path))[1] == digest, "and the process goes on after a refusal"
    assert its_digest == digest
    assert there.metadata == here.metadata
    assert (there.features.band_edges_hz == here.features.band_edges_hz).all()
    with pytest.raises(RuntimeError, match="by another process"):
        there.score(np.zeros((1, 1, 128, 30), np.float32))


def _broken(path: Path) -> Path:
    path.write_bytes(b"no model")
    return path
