"""The autoencoder: any shape in, scores out, the same from torch and from ONNX, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from schemas.errors import ModelError
from stream_app.pipeline.features import Features
from tests.trainer.conftest import vibration
from trainer import ConvAutoEncoder, LitAutoEncoder, TrainResult
from trainer.conv_ae.torch_model import MIN_STD
from trainer.export import export
from trainer.graph import Graph

pytestmark = pytest.mark.slow  # each exports a network

SHAPES = [(1, 128, 30), (3, 32, 9), (2, 40, 33), (1, 1, 1)]


def _module(shape: tuple[int, int, int], seed: int = 0) -> ConvAutoEncoder:
    torch.manual_seed(seed)
    module = ConvAutoEncoder(*shape, latent=8)
    rng = np.random.default_rng(seed)
    module.set_normalisation(rng.normal(-8, 2, shape[:2]), rng.uniform(0.5, 2, shape[:2]))
    return module.eval()


def _windows(count: int, shape: tuple[int, int, int], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(-8, 3, (count, *shape)).astype(np.float32)


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def exported(request: pytest.FixtureRequest) -> tuple[ConvAutoEncoder, Graph, np.ndarray]:
    shape = request.param
    windows = _windows(64, shape)
    module = _module(shape)
    return module, export(module, shape, windows[:8]), windows


def test_the_graph_gives_the_modules_scores(exported: tuple[ConvAutoEncoder, Graph, np.ndarray]) -> None:
    module, graph, windows = exported
    with torch.no_grad():
        expected = module(torch.from_numpy(windows))
    score, band_error = graph.score(windows)
    assert score.dtype == np.float32
    assert (score.shape, band_error.shape) == ((64,), windows.shape[:3])
    np.testing.assert_allclose(score, expected[0], rtol=1e-4)
    np.testing.assert_allclose(band_error, expected[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(band_error.mean(axis=(1, 2)), score, rtol=1e-5)


def test_a_score_is_the_same_in_every_batch(exported: tuple[ConvAutoEncoder, Graph, np.ndarray]) -> None:
    _, graph, windows = exported
    score, band_error = graph.score(windows)
    for size in range(1, 65):
        for start in {0, 64 - size}:
            ours = graph.score(windows[start : start + size])
            np.testing.assert_array_equal(ours[0], score[start : start + size])
            np.testing.assert_array_equal(ours[1], band_error[start : start + size])


def test_worse_windows_score_higher_and_extremes_stay_finite(
    exported: tuple[ConvAutoEncoder, Graph, np.ndarray],
) -> None:
    module, graph, windows = exported
    normal = np.broadcast_to(module.mean.numpy(), windows.shape).astype(np.float32)
    scores = [graph.score(normal + shift * module.std.numpy())[0].mean() for shift in (0, 10, 100)]
    assert scores == sorted(scores)
    for level in (np.log(1e-10), 20.0):
        score, band_error = graph.score(np.full_like(windows, level))
        assert np.isfinite(score).all()
        assert np.isfinite(band_error).all()
        assert (score >= 0).all()


def test_a_graph_that_disagrees_is_refused() -> None:
    class Moody(torch.nn.Module):
        """Scores otherwise when traced."""

        def forward(self, log_mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            factor = 1.0 if torch.compiler.is_compiling() else 1.01
            band_error = log_mel.square().mean(dim=3) * factor
            return band_error.mean(dim=(1, 2)), band_error

    with pytest.raises(ModelError, match="differs"):
        export(Moody(), (1, 4, 4), _windows(2, (1, 4, 4)))


def test_steady_bands_do_not_dominate() -> None:
    module = ConvAutoEncoder(1, 4, 8)
    module.set_normalisation(np.zeros((1, 4)), np.array([[0.0, 0.1, 1.0, 2.0]]))
    np.testing.assert_allclose(module.std[0, :, 0], [MIN_STD, MIN_STD, 1, 2])


def test_the_first_weights_depend_on_the_seed_and_leave_torchs_generator_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (LitAutoEncoder(1, 32, 9, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.encoder.0.weight"], other["model.encoder.0.weight"])


def test_a_checkpoint_judges_as_the_training_said(trained: TrainResult) -> None:
    model = LitAutoEncoder.load_from_checkpoint(trained.checkpoint, map_location="cpu")
    features = Features(trained.metadata.features)
    assert float(model.threshold) == pytest.approx(trained.metadata.thresholds.decision_threshold)
    is_anomaly, error = model.predict_anomaly(features.log_mel(np.ascontiguousarray(vibration(1, 999).T)))
    assert (type(is_anomaly), type(error)) == (bool, float)
    assert not is_anomaly or error < 1.5 * float(model.threshold)
    faulty = features.log_mel(np.ascontiguousarray(vibration(1, 999, fault=0.3).T))
    assert model.predict_anomaly(faulty)[0]
    assert model.predict_anomaly(torch.from_numpy(faulty)) == model.predict_anomaly(faulty)


def test_a_long_spectrogram_counts_as_the_mean_over_its_windows() -> None:
    model = LitAutoEncoder(1, 32, 8)
    spectrogram = _windows(1, (1, 32, 29))[0]
    pieces = [spectrogram[:, :, start : start + 8] for start in (0, 8, 16, 21)]
    expected = np.mean([model.predict_anomaly(piece)[1] for piece in pieces])
    assert model.predict_anomaly(spectrogram[0])[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(32, 7), (31, 8), (2, 32, 8), (1, 1, 32, 8), (8,)])
def test_a_spectrogram_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        LitAutoEncoder(1, 32, 8).predict_anomaly(np.zeros(shape, np.float32))


def test_the_file_stands_alone_and_tells_nothing_of_the_machine_that_trained(trained: TrainResult) -> None:
    raw = Path(trained.out).read_bytes()
    proto = onnx.load_from_string(raw)
    onnx.checker.check_model(proto)
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    assert sorted(path.name for path in trained.out.parent.iterdir()) == ["plant.ckpt", "plant.onnx"]
    assert b"site-packages" not in raw
    assert str(Path(__file__).parents[2]).encode() not in raw
    (given,) = proto.graph.input
    assert [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] == ["window", 3, 32, 9]
    assert [output.name for output in proto.graph.output] == ["score", "band_error"]
