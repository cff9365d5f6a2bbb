"""What frame_spectrum adds to the contract: frames of any length, and normals at two lengths."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stream_app.pipeline.model import Model
from tests.models import encoded, noise
from tests.trainer.test_detectors import CONFIG, SHAPES, normals, prepared
from tests.trainer.test_normals import clips, of_clips
from trainer.frame_spectrum.detector import FrameSpectrumDetector
from trainer.frame_spectrum.graphs import BackEnds
from trainer.graph import Tensor, evaluated
from trainer.pooled.graphs import FlutterPool, MaxPool, ShapePool
from trainer.train import train_model
from trainer.train_options import FeatureOptions

WIDTH = 12


def ignore(_: object) -> None:
    """Hear no epoch."""


def test_a_frame_of_any_length_is_one_window():
    graph = FrameSpectrumDetector().fit(prepared(SHAPES["sound"]), CONFIG, ignore).graph
    for columns in (12, 13, 40, 300):
        score, band_error = graph.score(normals((1, 24, columns), 3, columns))
        assert score.shape == (3,)
        assert band_error.shape == (3, 1, 24)
        assert np.isfinite(score).all()


def test_long_frames_are_judged_by_recordings_and_short_ones_by_windows():
    fitted = FrameSpectrumDetector().fit(of_clips(), CONFIG, ignore)
    assert "frames of 24 columns or more on 25 whole recordings" in fitted.why
    for windows in (1, 4):  # whatever its length, a normal frame is as normal
        assert np.median(fitted.graph.score(clips(40, windows, 7))[0]) == pytest.approx(1.0, abs=0.7)


def test_what_is_buried_in_a_second_shows_in_the_whole_recording():
    graph = FrameSpectrumDetector().fit(of_clips(40, 8), CONFIG, ignore).graph
    normal, faulty = clips(60, 8, 7), clips(60, 8, 8)
    faulty[:, :, 7] += 0.4
    whole = (graph.score(faulty)[0][:, None] > graph.score(normal)[0]).mean()
    seconds = [graph.score(np.ascontiguousarray(one[..., :WIDTH]))[0] for one in (normal, faulty)]
    assert whole > (seconds[1][:, None] > seconds[0]).mean() + 0.05


def test_the_graph_computes_the_distances_that_standards_were_made_from():
    vectors = np.random.default_rng(0).normal(0, 1, (60, 16)).astype(np.float32)
    judged = BackEnds(vectors[:50])
    as_window = vectors[50:].reshape(10, 1, 16, 1)
    for index, expected in enumerate(judged.distances(vectors[50:])):
        found = evaluated(partial(_distance, judged, index), as_window)
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3)


def _distance(judged: BackEnds, index: int, log_mel: Tensor) -> Tensor:
    return judged(log_mel.flatten())[index][0].unsqueeze(1)


def test_a_loose_normal_excuses_more_than_one_of_a_crowd():
    rng = np.random.default_rng(0)
    crowd, loose = rng.normal(0, 0.1, (40, 4)), rng.normal(8, 1.5, (40, 4))
    judged = BackEnds(np.concatenate([crowd, loose]).astype(np.float32))
    beside_the_crowd, beside_the_loose = np.full((1, 4), 1.0), np.full((1, 4), 10.0)
    crowd_s, loose_s = (judged.distances(one.astype(np.float32))[2, 0] for one in (beside_the_crowd, beside_the_loose))
    assert crowd_s > 3 * loose_s


@pytest.mark.parametrize("pool", [ShapePool(), FlutterPool()])
def test_poolings_that_do_not_hear_the_level(pool):
    windows = normals((3, 16, 9), 4, 0)
    np.testing.assert_allclose(evaluated(pool, windows), evaluated(pool, windows + 3), atol=1e-5)


def test_a_fixed_filter_does_not_move_the_flutter_and_one_column_has_none():
    windows = normals((1, 16, 9), 4, 0)
    tilted = windows + np.linspace(0, 5, 16)[:, None].astype(np.float32)
    flat_one, tilted_one = (evaluated(FlutterPool(), one) for one in (windows, tilted))
    np.testing.assert_allclose(flat_one, tilted_one, atol=1e-5)
    assert not evaluated(FlutterPool(), windows[..., :1]).any()


def test_the_maximum_hears_what_comes_now_and_then():
    windows = normals((1, 16, 9), 4, 0)
    np.testing.assert_array_equal(evaluated(MaxPool(), windows), windows.max(axis=3).reshape(4, -1))


@pytest.mark.slow
def test_the_worker_takes_its_model_with_frames_of_other_lengths(tmp_path: Path):
    for number in range(10):
        (tmp_path / f"{number}.wav").write_bytes(encoded(noise(3.0, seed=number)))
    options = FeatureOptions(bands=24, n_fft=512, hop=256)
    config = replace(CONFIG, normal=tmp_path, out=tmp_path / "m.onnx", detector="frame_spectrum", features=options)
    result = train_model(config)
    features = Model.load(result.out).metadata.features
    assert features.time_axis == "dynamic"
    assert features.window_s == pytest.approx(1.0, abs=0.05)
    assert features.max_columns is not None
    assert {window.shape[2] for window in result.metadata.golden} == {features.window_columns}
    assert (features.max_columns - 1) * features.hop / features.sample_rate_hz == pytest.approx(60, abs=0.1)


@pytest.mark.slow
def test_a_frame_that_resampling_makes_a_sample_shorter_counts(tmp_path: Path):
    """0.3 s at 48 kHz become 3,307 samples at 11,025 Hz, where a frame has 3,308."""
    for number in range(10):
        rate_hz = 11_025 if number < 8 else 48_000  # the last fifth is held out
        value = encoded(noise(3.1, rate_hz=rate_hz, seed=number), rate_hz)
        (tmp_path / f"{number}.wav").write_bytes(value)
    config = replace(CONFIG, normal=tmp_path, out=tmp_path / "m.onnx", detector="frame_spectrum", frame_s=0.3)
    options = FeatureOptions(bands=24, n_fft=512, hop=1, window_s=0.2)  # each sample is a column
    result = train_model(replace(config, features=options))
    assert result.held_out_windows == 2 * 10  # the last 0.1 s of each make no frame
