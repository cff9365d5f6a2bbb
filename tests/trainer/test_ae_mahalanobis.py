"""What ae_mahalanobis adds to the contract: a network that a refit keeps, and none where there are too few windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.test_detectors import CONFIG, SHAPES, normals, prepared
from trainer.ae_mahalanobis.detector import LEAST_WINDOWS, AutoencoderMahalanobisDetector
from trainer.ae_mahalanobis.network import HIDDEN
from trainer.auto.detector import AutoDetector
from trainer.detector import Fitted
from trainer.spectrograms import Prepared
from trainer.windows import as_training_set

SHAPE = SHAPES["sound"]
pytestmark = pytest.mark.xdist_group("ae_mahalanobis")


def ignore(_: object) -> None:
    """Hear no epoch."""


def of(windows: np.ndarray) -> Prepared:
    return replace(prepared(SHAPE), train=as_training_set(windows))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return AutoencoderMahalanobisDetector().fit(prepared(SHAPE), CONFIG, ignore)


def test_a_refit_keeps_the_network_and_estimates_another_covariance(fitted: Fitted):
    others = normals(SHAPE, 100, 7) * np.float32(1.5)
    assert fitted.refit is not None
    again = fitted.refit(of(others))
    assert np.median(again.score(others)[0]) == pytest.approx(1, abs=0.3)
    assert np.median(fitted.graph.score(others)[0]) > 3
    weights, anew = ({one.raw_data for one in graph._proto.graph.initializer} for graph in (fitted.graph, again))
    network = [raw for raw in weights & anew if len(raw) == 4 * 2 * SHAPE[0] * SHAPE[1] * HIDDEN]
    assert len(network) == 2  # the first layer and the last
    assert fitted.refit(prepared(SHAPE)).version == fitted.graph.version


@pytest.mark.parametrize("count", [1, 4, 12, LEAST_WINDOWS - 1])
def test_of_few_windows_the_spectra_themselves_are_compared_and_it_says_so(count: int):
    fitted = AutoencoderMahalanobisDetector().fit(of(normals(SHAPE, count, 0)), CONFIG, ignore)
    assert fitted.why.startswith(f"{count} windows, too few")
    fresh = normals(SHAPE, 20, 1)
    louder = fresh.copy()
    louder[:, :, 3] += 6
    assert (fitted.graph.score(louder)[0] > fitted.graph.score(fresh)[0]).mean() > 0.9


def test_another_seed_gives_another_network(fitted: Fitted):
    other = AutoencoderMahalanobisDetector().fit(prepared(SHAPE), replace(CONFIG, seed=1), ignore)
    assert other.graph.version != fitted.graph.version


def test_the_bands_shares_add_up_to_the_score(fitted: Fitted):
    score, band_error = fitted.graph.score(normals(SHAPE, 30, 4))
    np.testing.assert_allclose(band_error.sum(axis=(1, 2)), score, rtol=1e-4)


def test_the_network_takes_bands_that_go_together_for_one_change():
    """A healthy change that all bands share leaves less of a residual than one of the same size that none has seen."""
    rng = np.random.default_rng(0)
    level = rng.normal(0, 2, (400, 1, 1, 1))
    windows = (rng.normal(0, 0.3, (400, *SHAPE)) + level).astype(np.float32)
    fitted = AutoencoderMahalanobisDetector().fit(of(windows), CONFIG, ignore)
    signs = np.where(np.arange(SHAPE[1]) % 2, 1, -1)[None, None, :, None]
    quiet = rng.normal(0, 0.3, (50, *SHAPE)).astype(np.float32)
    together, against = (fitted.graph.score((quiet + 2 * by).astype(np.float32))[0] for by in (1, signs))
    assert np.median(against) > 3 * np.median(together)


@pytest.mark.parametrize("shape", [(1, 32, 9), (3, 128, 60), (2, 40, 1)], ids=str)
def test_any_shape_scores_the_same_in_any_batch(shape: tuple[int, int, int]):
    held_out = replace(prepared(SHAPE).held_out, windows=normals(shape, 8, 1))
    data = Prepared(as_training_set(normals(shape, 60, 0)), held_out)
    graph = AutoencoderMahalanobisDetector().fit(data, CONFIG, ignore).graph
    windows = normals(shape, 64, 2)
    score, band_error = graph.score(windows)
    for size in (1, 2, 5, 31, 64):
        one, bands = graph.score(windows[:size])
        np.testing.assert_array_equal(one, score[:size])
        np.testing.assert_array_equal(bands, band_error[:size])


def test_in_auto_the_held_out_normals_enter_no_network():
    config = replace(CONFIG, detector="auto", candidates=("ae_mahalanobis",))
    data = prepared(SHAPE)
    odd = replace(data, held_out=replace(data.held_out, windows=normals(SHAPE, 80, 1) + 20))
    judges = [AutoDetector().fit(one, config, ignore).judge for one in (data, odd)]
    known, other = (judge.score(normals(SHAPE, 30, 5))[0] for judge in judges if judge is not None)
    assert np.corrcoef(known, other)[0, 1] > 0.99
