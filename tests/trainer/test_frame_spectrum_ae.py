"""What frame_spectrum_ae adds to frame_spectrum: an autoencoder at each length that has enough to learn from."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.trainer.test_detectors import CONFIG, SHAPES, normals, prepared
from tests.trainer.test_normals import clips, of_clips
from trainer.auto.detector import AutoDetector
from trainer.detector import Fitted
from trainer.frame_spectrum.autoencoder import AutoencoderBackEnds, CodeAndResidual
from trainer.frame_spectrum.detector import (
    LEAST_VECTORS,
    FrameSpectrumAutoencoderDetector,
    FrameSpectrumDetector,
)
from trainer.frame_spectrum.network import CODE, trained_layers
from trainer.graph import Tensor, evaluated

SHAPE = SHAPES["sound"]
pytestmark = pytest.mark.xdist_group("frame_spectrum_ae")


def ignore(_: object) -> None:
    """Hear no epoch."""


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return FrameSpectrumAutoencoderDetector().fit(prepared(SHAPE), CONFIG, ignore)


def test_where_there_are_few_vectors_it_is_frame_spectrum_and_says_so():
    few = of_clips(5, 1, 2)
    fitted = FrameSpectrumAutoencoderDetector().fit(few, CONFIG, ignore)
    assert fitted.why.endswith("; too few for an autoencoder")
    assert fitted.graph.version == FrameSpectrumDetector().fit(few, CONFIG, ignore).graph.version


@pytest.mark.parametrize(
    ("recordings", "told"),
    [
        (LEAST_VECTORS // 2, f"an autoencoder on {LEAST_VECTORS // 2 * 4} windows"),
        (LEAST_VECTORS, f"an autoencoder on {LEAST_VECTORS * 4} windows and {LEAST_VECTORS} recordings"),
    ],
)
def test_each_length_has_an_autoencoder_if_it_has_enough(recordings: int, told: str):
    data = of_clips(recordings - 5)
    fitted = FrameSpectrumAutoencoderDetector().fit(data, CONFIG, ignore)
    assert fitted.why.endswith(told)
    for windows in (1, 4):
        long, alone = clips(64, windows, 7), []
        score, band_error = fitted.graph.score(long)
        for at in range(len(long)):
            one, bands = fitted.graph.score(long[at : at + 1])
            alone.append(one)
            np.testing.assert_array_equal(bands, band_error[at : at + 1])
        np.testing.assert_array_equal(np.concatenate(alone), score)
        assert np.median(score) == pytest.approx(1.0, abs=0.7)


def test_another_seed_gives_another_network(fitted: Fitted):
    other = FrameSpectrumAutoencoderDetector().fit(prepared(SHAPE), replace(CONFIG, seed=1), ignore)
    assert other.graph.version != fitted.graph.version


def test_the_default_candidate_of_auto_is_taken_as_it_is(fitted: Fitted):
    auto = AutoDetector().fit(prepared(SHAPE), replace(CONFIG, detector="auto"), ignore)
    assert auto.graph.version == fitted.graph.version
    assert auto.why == f"frame_spectrum_ae: {fitted.why}"
    windows = prepared(SHAPE).held_out.windows
    assert auto.judge is not None
    assert fitted.judge is not None
    np.testing.assert_array_equal(auto.judge.score(windows)[0], fitted.judge.score(windows)[0])


def test_the_held_out_normals_enter_no_network_of_the_judge(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def recorded(vectors: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        seen.append(len(vectors))
        return trained_layers(vectors, seed)

    monkeypatch.setattr("trainer.frame_spectrum.network.trained_layers", recorded)
    data = prepared(SHAPE)
    FrameSpectrumAutoencoderDetector().fit(data, CONFIG, ignore)
    held_out = len(data.held_out.windows)
    everything, without = seen[-2:]
    assert everything - without == held_out


def test_the_network_takes_bands_that_go_together_for_one_change():
    """A healthy change that all bands share leaves less of a residual than one of the same size that none has seen."""
    rng = np.random.default_rng(0)
    vectors = (rng.normal(0, 0.3, (400, 24)) + rng.normal(0, 2, (400, 1))).astype(np.float32)
    embed = CodeAndResidual(vectors, partial(trained_layers, seed=0))
    quiet = rng.normal(0, 0.3, (50, 24)).astype(np.float32)
    together, against = (quiet + 2, quiet + 2 * np.where(np.arange(24) % 2, 1, -1).astype(np.float32))
    one, other = (np.square(embed.of(vector)[:, :-CODE]).sum(axis=1) for vector in (together, against))
    assert np.median(other) > 3 * np.median(one)


def test_the_graph_computes_the_distances_that_standards_were_made_from():
    vectors = np.random.default_rng(0).normal(0, 1, (80, 16)).astype(np.float32)
    judged = AutoencoderBackEnds(vectors[:60], partial(trained_layers, seed=0))
    as_window = vectors[60:].reshape(20, 1, 16, 1)
    for index, expected in enumerate(judged.distances(vectors[60:])):

        def distance(log_mel: Tensor, index: int = index) -> Tensor:
            return judged(log_mel.flatten())[index][0].unsqueeze(1)

        def shares(log_mel: Tensor, index: int = index) -> Tensor:
            return judged(log_mel.flatten())[index][1]

        np.testing.assert_allclose(evaluated(distance, as_window)[:, 0], expected, rtol=1e-3)
        np.testing.assert_allclose(evaluated(shares, as_window).sum(axis=1), expected, rtol=1e-3)


def test_a_band_that_changed_is_named(fitted: Fitted):
    windows = normals(SHAPE, 60, 5)
    louder = windows.copy()
    louder[:, :, 7] += 3
    normal, odd = (fitted.graph.score(one)[1].mean(axis=(0, 1)) for one in (windows, louder))
    assert int((odd - normal).argmax()) == 7
