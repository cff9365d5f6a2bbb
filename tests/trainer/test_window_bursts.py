"""The frame score that normals choose: the median where some of their windows burst, else the mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from schemas.errors import SettingsError
from stream_app.pipeline import Model
from tests.models import encoded, noise
from tests.trainer.test_detectors import CONFIG
from trainer.dataset import HeldOutFrame, HeldOutSet
from trainer.train import train_model
from trainer.train_options import FeatureOptions
from trainer.window_bursts import steadier

WINDOWS = 8


def held_out(frames: int, windows: int = WINDOWS) -> HeldOutSet:
    places = tuple(HeldOutFrame("a", str(i), i * windows, 1, windows) for i in range(frames))
    return HeldOutSet(np.zeros((frames * windows, 1, 1, 1), np.float32), places)


def scores(frames: int, bursts: float, seed: int, windows: int = WINDOWS) -> np.ndarray:
    """Gamma distributed scores; a share of frames has one window that is ten times as high."""
    rng = np.random.default_rng(seed)
    found = rng.gamma(8, 0.125, (frames, windows))
    found[: round(bursts * frames), -1] *= 10
    return found.astype(np.float32).ravel()


@pytest.mark.parametrize("seed", range(5))
def test_bursts_in_a_tenth_of_the_normals_choose_the_median(seed: int):
    assert steadier(held_out(200), scores(200, 0.1, seed)) == "median"


@pytest.mark.parametrize("seed", range(5))
def test_without_bursts_all_windows_count(seed: int):
    assert steadier(held_out(200), scores(200, 0.0, seed)) == "mean"


def test_of_two_windows_neither_outvotes_the_other():
    assert steadier(held_out(200, 2), scores(200, 0.1, 0, 2)) == "mean"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told", "bursts", "expected"), [("auto", True, "median"), ("auto", False, "mean"), ("median", False, "median")]
)
def test_a_model_says_how_its_frames_are_scored(
    tmp_path: Path, told: Literal["mean", "median", "auto"], bursts: bool, expected: str
):
    for number in range(40):
        signal = noise(5.0, seed=number)
        if bursts and number % 5 == 0:
            signal[..., 16_000:24_000] *= 5  # no clipping
        (tmp_path / f"{number:02}.wav").write_bytes(encoded(signal))
    config = replace(
        CONFIG,
        normal=tmp_path,
        out=tmp_path / "m.onnx",
        detector="pooled",
        frame_s=5.0,
        frame_score=told,
        trim=0.0,
        held_out_share=0.5,
        features=FeatureOptions(bands=24, n_fft=512, hop=256, window_s=0.5),
    )
    result = train_model(config)
    assert Model.load(result.out).metadata.frame_score == expected


def test_a_detector_of_whole_frames_has_no_windows_to_take_the_median_of():
    with pytest.raises(SettingsError, match="'median' and detector 'frame_spectrum' takes a frame as one window"):
        replace(CONFIG, detector="frame_spectrum", frame_score="median").check()
