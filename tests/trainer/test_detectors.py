"""The contract of trainer.detector, held against every detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from schemas import FeatureConfig
from schemas.errors import SettingsError
from stream_app.pipeline.model import Model
from tests.models import encoded, noise
from trainer.dataset import HeldOutFrame, HeldOutSet, TrainingSet
from trainer.detector import CANDIDATES, DEFAULT, DETECTORS, RETIRED, Fitted, find_detector
from trainer.spectrograms import Prepared
from trainer.train import train_model
from trainer.train_options import FeatureOptions, TrainConfig

SHAPES = {"sound": (1, 24, 12), "accelerometer": (3, 16, 9)}
FAULTY_BAND = 7
ODD = 6  # nat


def normals(shape: tuple[int, int, int], count: int, seed: int) -> np.ndarray:
    """Windows whose bands rise and fall together and whose columns fade into each other, float32 [count, *shape]."""
    rng = np.random.default_rng(seed)
    channels, bands, columns = shape
    together = rng.normal(0, 0.5, (count, 1, 1, 1))
    slow = rng.normal(0, 0.3, (count, channels, bands, 1))
    quick = rng.normal(0, 0.4, (count, channels, bands, columns))
    tilt = np.linspace(-4, -9, bands)[None, None, :, None]
    return (tilt + together + slow + quick).astype(np.float32)


def prepared(shape: tuple[int, int, int]) -> Prepared:
    train, held_out = normals(shape, 240, 0), normals(shape, 80, 1)
    columns = train.transpose(0, 3, 1, 2).reshape(-1, *shape[:2])
    frames = tuple(HeldOutFrame(None, f"{i}.wav", i, 1, 1) for i in range(len(held_out)))
    segments = tuple((i * shape[2], shape[2]) for i in range(len(train)))
    return Prepared(TrainingSet(columns, segments, shape[2]), HeldOutSet(held_out, frames))


CONFIG = TrainConfig(normal=Path(), out=Path("model.onnx"), epochs=3, latent=8, mlflow=False, accelerator="cpu")
_FITTED: dict[tuple[str, str], Fitted] = {}


def _slow(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if name == "auto" or "torch" in DETECTORS[name].needs else []


# One process for all tests of a detector, so that it is fitted once.
CASES = [
    pytest.param((name, kind), id=f"{name}-{kind}", marks=[pytest.mark.xdist_group(name), *_slow(name)])
    for name in DETECTORS
    for kind in SHAPES
]


@pytest.fixture(params=CASES)
def fitted(request: pytest.FixtureRequest):
    name, kind = request.param
    if request.param not in _FITTED:
        _FITTED[request.param] = find_detector(name).fit(prepared(SHAPES[kind]), CONFIG, lambda _: None)
    one = _FITTED[request.param]
    return SimpleNamespace(name=name, shape=SHAPES[kind], fitted=one, graph=one.graph)


def test_outputs_have_their_shapes_and_range(fitted):
    windows = normals(fitted.shape, 5, 3)
    score, band_error = fitted.graph.score(windows)
    assert (score.shape, score.dtype) == ((5,), np.float32)
    assert (band_error.shape, band_error.dtype) == ((5, *fitted.shape[:2]), np.float32)
    assert np.isfinite(score).all()
    assert np.isfinite(band_error).all()
    assert (score >= 0).all()


def test_whatever_comes_the_score_is_finite_and_not_negative(fitted):
    odd = np.stack(
        [
            np.full(fitted.shape, np.log(1e-10), np.float32),
            np.full(fitted.shape, 60.0, np.float32),
            np.zeros(fitted.shape, np.float32),
        ]
    )
    score, band_error = fitted.graph.score(odd)
    assert np.isfinite(score).all()
    assert np.isfinite(band_error).all()
    assert (score >= 0).all()


def test_a_louder_band_and_an_odd_course_score_higher(fitted):
    windows = normals(fitted.shape, 60, 4)
    louder = windows.copy()
    louder[:, :, FAULTY_BAND] += ODD
    before, after = fitted.graph.score(windows)[0], fitted.graph.score(louder)[0]
    assert np.median(after) > np.quantile(before, 0.99)


def test_the_band_that_changed_drives_the_score(fitted):
    windows = normals(fitted.shape, 60, 5)
    louder = windows.copy()
    louder[:, :, FAULTY_BAND] += ODD
    normal = fitted.graph.score(normals(fitted.shape, 80, 1))[1].mean(axis=(0, 1))
    excess = fitted.graph.score(louder)[1].mean(axis=(0, 1)) - normal
    assert int(excess.argmax()) == FAULTY_BAND


def test_a_window_scores_the_same_in_any_batch(fitted):
    windows = normals(fitted.shape, 64, 6)
    alone = [fitted.graph.score(windows[i : i + 1]) for i in range(64)]
    for size in (2, 3, 7, 16, 33, 64):
        score, band_error = fitted.graph.score(windows[:size])
        np.testing.assert_array_equal(score, np.concatenate([one[0] for one in alone[:size]]))
        np.testing.assert_array_equal(band_error, np.concatenate([one[1] for one in alone[:size]]))


def test_the_same_seed_gives_the_same_graph(fitted):
    again = find_detector(fitted.name).fit(prepared(fitted.shape), CONFIG, lambda _: None)
    assert again.graph.version == fitted.graph.version
    windows = normals(fitted.shape, 16, 8)
    for one, other in zip(fitted.graph.score(windows), again.graph.score(windows), strict=True):
        np.testing.assert_array_equal(one, other)


def test_epochs_are_told_where_there_are_any(fitted):
    detector = find_detector(fitted.name)
    assert detector.name == fitted.name
    assert bool(fitted.fitted.history) == detector.by_gradient
    assert fitted.fitted.has_checkpoint == detector.by_gradient
    assert (fitted.fitted.best is not None) == detector.by_gradient


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_training_ends_in_a_model_that_the_worker_takes(name: str, tmp_path: Path):
    for number in range(6):
        (tmp_path / f"{number}.wav").write_bytes(encoded(noise(3.0, seed=number)))
    options = FeatureOptions(bands=24, n_fft=512, hop=256)
    config = replace(CONFIG, normal=tmp_path, out=tmp_path / "m.onnx", detector=name, epochs=2, features=options)
    result = train_model(config)
    model = Model.load(result.out)
    assert model.metadata.detector == name
    assert model.metadata.thresholds.alert_threshold >= model.metadata.thresholds.decision_threshold
    assert isinstance(model.metadata.features, FeatureConfig)
    assert (result.checkpoint is not None) == find_detector(name).by_gradient
    assert result.checkpoint is None or result.checkpoint.is_file()


def test_the_default_is_the_combination_with_an_autoencoder_in_it():
    assert DEFAULT == "auto"
    assert TrainConfig(normal=Path(), out=Path("m.onnx")).detector == "auto"
    assert CANDIDATES == ("frame_spectrum_ae",)


# Scores of the first five windows before detectors on stacked frames were taken out of the same code.
GOLDEN = {
    "sound": [0.46854034, 1.01987946, 0.97744185, 0.52389455, 0.46532837],
    "accelerometer": [0.4628521, 0.73669529, 0.68198603, 0.51654577, 0.51534885],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_the_convolutional_autoencoder_learns_by_its_seed_what_it_always_did(kind: str):
    graph = find_detector("conv_ae").fit(prepared(SHAPES[kind]), CONFIG, lambda _: None).graph
    np.testing.assert_allclose(graph.score(normals(SHAPES[kind], 5, 11))[0], GOLDEN[kind], rtol=1e-3)


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_detector_is_named_with_what_took_its_place(name: str):
    instead, version = RETIRED[name]
    assert instead in DETECTORS
    with pytest.raises(SettingsError, match=f"{name!r}, which there is no more since version {version}; .*{instead!r}"):
        replace(CONFIG, detector=name).check()
    with pytest.raises(SettingsError, match=f"{name!r}, which there is no more"):
        replace(CONFIG, detector="auto", candidates=("pooled", name)).check()


def test_what_a_retired_detector_trained_is_used_as_before():
    """The file is what 0.2 made of six recordings of white noise: of ``noise(3.0, seed=0)`` to ``noise(3.0, seed=5)``.

    Its options: detector idnn, 2 epochs, latent 8, 8 bands, n_fft and hop 2048. There is no code left that makes one.
    """
    model = Model.load(Path(__file__).with_name("trained") / "idnn.onnx")  # which scores its golden windows
    assert model.metadata.detector in RETIRED
    assert model.metadata.golden


def test_an_unknown_detector_is_named_with_those_that_there_are():
    with pytest.raises(SettingsError, match="'nearest'; expected one of conv_ae, pooled"):
        replace(CONFIG, detector="nearest").check()


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_a_page(name: str):
    home = Path(DETECTORS[name].module.replace(".", "/")).parent
    page = (Path(__file__).parents[2] / home / "README.md").read_text()
    for part in ("**When to use it**", "**Cost**", "**Source**"):
        assert part in page, f"{home}/README.md lacks {part}"
