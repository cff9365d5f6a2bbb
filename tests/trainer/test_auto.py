"""What auto adds to the contract: it learns from all normals, and judges the held-out ones without having seen them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import SettingsError
from tests.models import encoded, noise
from tests.trainer.test_detectors import CONFIG, SHAPES, normals, prepared
from trainer.auto.detector import AutoDetector
from trainer.auto.graphs import Member
from trainer.detector import CANDIDATES, find_detector
from trainer.graph import build, evaluated
from trainer.train import train_model
from trainer.train_options import FeatureOptions
from trainer.twfr_gmm.graphs import MAX_NETWORK, TimeWeighted, sorting_network

CHEAP = ("pooled_gmm", "pooled")


def ignore(_: object) -> None:
    """Hear no epoch."""


def test_the_held_out_normals_are_learnt_but_judged_unseen():
    data = prepared(SHAPES["sound"])
    fitted = AutoDetector().fit(data, replace(CONFIG, detector="auto", candidates=("pooled",)), ignore)
    known, unseen = (graph.score(data.held_out.windows)[0] for graph in (fitted.graph, fitted.judge))
    fresh = fitted.graph.score(normals(SHAPES["sound"], 80, 9))[0]
    assert np.median(known) < np.median(unseen)  # a covariance fits what it was made from
    assert np.median(unseen) == pytest.approx(np.median(fresh), rel=0.25)


def test_it_says_what_each_candidate_made_of_normals_that_it_had_not_seen():
    config = replace(CONFIG, detector="auto", candidates=CHEAP)
    fitted = AutoDetector().fit(prepared(SHAPES["sound"]), config, ignore)
    for name in CHEAP:
        assert fitted.figures[f"{name}.deviation"] > 0
        assert 0 <= fitted.figures[f"{name}.far"] < 0.2
        assert name in fitted.why


def test_a_detector_of_windows_hears_a_long_frame_window_by_window():
    data = prepared(SHAPES["sound"])
    own = find_detector("pooled").fit(data, CONFIG, ignore).graph
    member = build(Member(own, data.shape[:2], SHAPES["sound"][2]), data.shape, any_length=True)
    windows = normals(SHAPES["sound"], 6, 7)
    frames = np.concatenate([windows[:3], windows[3:]], axis=3)
    for of_member, of_windows in zip(member.score(frames), own.score(windows), strict=True):
        np.testing.assert_allclose(of_member, (of_windows[:3] + of_windows[3:]) / 2, rtol=1e-5)
    # What is left at the end and makes no window counts for nothing.
    longer = np.concatenate([frames, np.zeros_like(frames[..., :5])], axis=3)
    np.testing.assert_array_equal(member.score(longer)[0], member.score(frames)[0])


@pytest.mark.slow
@pytest.mark.parametrize("candidates", [CANDIDATES, ("pooled", "twfr_gmm"), ("frame_spectrum", "contrast")])
def test_frames_may_be_longer_than_windows(tmp_path: Path, candidates: tuple[str, ...]):
    for number in range(10):
        (tmp_path / f"{number}.wav").write_bytes(encoded(noise(12.0, seed=number)))
    options = FeatureOptions(bands=24, n_fft=512, hop=256)
    config = replace(CONFIG, normal=tmp_path, out=tmp_path / "m.onnx", detector="auto", candidates=candidates)
    metadata = train_model(replace(config, features=options, frame_s=12.0)).metadata
    assert metadata.calibration is not None
    assert metadata.calibration.frame_s == 12
    assert {golden.shape[2] for golden in metadata.golden} == {10 * metadata.features.window_columns}  # not all twelve
    assert metadata.features.window_s == pytest.approx(1.0, abs=0.05)


def test_a_single_recording_of_a_few_windows_is_enough(tmp_path: Path):
    (tmp_path / "only.wav").write_bytes(encoded(noise(12.0)))
    options = FeatureOptions(bands=24, n_fft=512, hop=256)
    result = train_model(
        replace(CONFIG, normal=tmp_path, out=tmp_path / "m.onnx", detector="auto", candidates=CHEAP, features=options)
    )
    assert result.out.is_file()
    assert set(result.detector_figures) >= {f"{name}.far" for name in CHEAP}


@pytest.mark.parametrize(
    ("detector", "candidates", "message"),
    [
        ("auto", ("nearest",), "'nearest'; expected one of"),
        ("auto", ("auto", "pooled"), "auto, pooled; expected different ones, without auto"),
        ("auto", ("pooled", "pooled"), "pooled, pooled; expected different ones"),
        ("auto", (), "none; expected different ones"),
        ("pooled", ("pooled",), "candidates are pooled and detector is 'pooled'; expected 'auto' with them"),
    ],
)
def test_candidates_that_cannot_be_are_refused(detector: str, candidates: tuple[str, ...], message: str):
    with pytest.raises(SettingsError, match=message):
        replace(CONFIG, detector=detector, candidates=candidates).check()


def test_the_default_candidates_need_no_epochs():
    replace(CONFIG, detector="auto", candidates=CANDIDATES).check()


@pytest.mark.parametrize("count", range(1, 11))
def test_the_network_sorts_whatever_comes(count: int):
    """A network that sorts every row of zeros and ones sorts everything (Knuth, theorem 5.3.4Z)."""
    rows = np.array(list(itertools.product([0, 1], repeat=count)))
    for one, other in sorting_network(count):
        rows[:, one], rows[:, other] = (
            np.maximum(rows[:, one], rows[:, other]),
            np.minimum(rows[:, one], rows[:, other]),
        )
    assert (np.diff(rows, axis=1) <= 0).all()


@pytest.mark.parametrize("columns", [2, 17, MAX_NETWORK, MAX_NETWORK + 1])
@pytest.mark.parametrize("r", [0.0, 0.9, 1.0])
def test_time_weighting_is_a_weighted_mean_of_the_sorted_columns(columns: int, r: float):
    windows = normals((2, 3, columns), 4, 0)
    weights = np.power(r, np.arange(columns))
    expected = (-np.sort(-windows.astype(np.float64), axis=3) * weights).sum(axis=3) / weights.sum()
    found = evaluated(TimeWeighted(r, columns), windows)
    np.testing.assert_allclose(found, expected.reshape(4, -1), rtol=1e-5)
