"""A frame's score: the mean of its windows', or their median, which a burst in one of them doesn't move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.frame import FrameRecord
from schemas.model_metadata import FrameScore
from stream_app.pipeline import Model, Router
from stream_app.pipeline.analyse import Computed
from stream_app.pipeline.computation import compute
from stream_app.pipeline.frame_score import frame_scores, middle_bands
from tests.models import START_US, encoded, noise, record, tiny_metadata, tiny_model
from whirr.settings import Route

RATE_HZ = 16_000


def frame(burst: float) -> FrameRecord:
    """Five seconds of noise, the third of them so many times as loud."""
    signal = noise(5.0, seed=3)
    signal[..., 2 * RATE_HZ : 3 * RATE_HZ] *= burst
    return record(encoded(signal), "pump-1", START_US)


def scored(folder: Path, how: FrameScore, burst: float) -> Computed:
    model = Model.load(tiny_model(folder / f"{how}.onnx", tiny_metadata(frame_score=how)))
    (found,) = compute([frame(burst)], Router.from_routes([Route(model="m")], {"m": model}))
    assert isinstance(found, Computed)
    return found


def test_a_burst_in_one_window_moves_the_mean_and_hardly_the_median(tmp_path: Path):
    quiet, loud = ({how: scored(tmp_path, how, burst) for how in ("mean", "median")} for burst in (1.0, 30.0))
    assert loud["mean"].score > 1.5 * quiet["mean"].score
    assert loud["median"].score == pytest.approx(quiet["median"].score, rel=0.1)
    assert loud["mean"].band_error.mean() > 1.5 * loud["median"].band_error.mean()


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_bands_behind_a_median_add_up_to_it(count: int):
    bands = np.random.default_rng(count).gamma(2, 1, (6, count, 2, 4)).astype(np.float32)
    scores = bands.sum(axis=(2, 3)).astype(np.float64)
    found = middle_bands(scores, bands)
    assert found.shape == (6, 2, 4)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), frame_scores(scores, "median"), rtol=1e-5)


def test_a_model_that_does_not_say_takes_the_mean():
    assert tiny_metadata().frame_score == "mean"
    assert frame_scores(np.array([[1.0, 2.0, 6.0]]), "mean").tolist() == [3.0]
