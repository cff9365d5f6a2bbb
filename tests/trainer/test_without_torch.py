"""A first detector needs the worker's packages alone: neither torch, Lightning, MLflow nor scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.covariance import ledoit_wolf

from stream_app.pipeline import Model
from tests.helpers import REPOSITORY
from tests.models import encoded, noise
from trainer.detector import DETECTORS
from trainer.gaussian import shrunk_covariance

pytestmark = pytest.mark.slow  # each runs a Python without some of its packages

TRAINING_ONLY = ("alembic", "lightning", "matplotlib", "mlflow", "onnxscript", "sklearn", "torch")
HERE = ("pooled", "frame_spectrum")
# As on a machine without them: not found, by whoever looks. One process for all commands, since its imports take time.
PROGRAM = f"""
import contextlib, io, json, sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {TRAINING_ONLY!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from commands import run
for args in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
        code = run(args)
    print(json.dumps([code, told.getvalue()]))
assert not set({TRAINING_ONLY!r}) & set(sys.modules)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and what was said on stderr: by detector, of the default one, and with MLflow."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "normals").mkdir()
    for number in range(12):
        (folder / "normals" / f"{number}.wav").write_bytes(encoded(noise(3.0, seed=number)))
    common = ["train", "--normal", str(folder / "normals"), "--out"]
    commands = {
        **{one: [*common, str(folder / f"{one}.onnx"), "--detector", one, "--no-mlflow"] for one in DETECTORS},
        "default": [*common, str(folder / "m.onnx")],
        "with MLflow": [*common, str(folder / "m.onnx"), "--detector", "pooled"],
    }
    program = [sys.executable, "-c", PROGRAM, orjson.dumps(list(commands.values())).decode()]
    done = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = {name: orjson.loads(line) for name, line in zip(commands, done.stdout.splitlines(), strict=True)}
    return {**told, "folder": (0, str(folder))}


@pytest.mark.parametrize("detector", HERE)
def test_a_first_detector_is_trained_without_them(answers: dict[str, Any], detector: str):
    assert answers[detector] == [0, ""]
    assert Model.load(Path(answers["folder"][1], f"{detector}.onnx")).metadata.detector == detector


@pytest.mark.parametrize("detector", sorted(set(DETECTORS) - set(HERE)))
def test_every_other_detector_says_what_it_needs(answers: dict[str, Any], detector: str):
    code, told = answers[detector]
    assert code == 2
    assert "needs the extra `train`" in told


def test_the_default_detector_says_which_there_are_without(answers: dict[str, Any]):
    expected = (
        "error: detector 'frame_spectrum_ae' needs the extra `train`: in Whirr's checkout, pip install '.[train]'; "
        "without it there are pooled, frame_spectrum: --detector frame_spectrum --no-mlflow\n"
    )
    assert answers["default"] == [2, expected]


def test_logging_says_what_it_needs_before_training(answers: dict[str, Any]):
    code, told = answers["with MLflow"]
    assert code == 2
    assert "logging the run in MLflow needs the extra `train`" in told
    assert told.endswith("without it: --no-mlflow\n")


@pytest.mark.parametrize(("count", "entries"), [(5, 40), (40, 5), (300, 60), (2, 3)])
def test_the_shrunk_covariance_is_ledoit_and_wolfs(count: int, entries: int):
    rng = np.random.default_rng(count)
    vectors = rng.normal(size=(count, entries)) @ rng.normal(size=(entries, entries))
    vectors -= vectors.mean(axis=0)
    expected, shrinkage = ledoit_wolf(vectors, assume_centered=True)
    found, share = shrunk_covariance(vectors)
    assert share == pytest.approx(shrinkage, abs=1e-9)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_vectors_without_any_variance_have_a_covariance_of_zero():
    found, share = shrunk_covariance(np.zeros((4, 3)))
    assert (found == 0).all()
    assert share == 0
