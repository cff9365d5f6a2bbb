"""Features that suit the data, unless the user says otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas import FeatureConfig
from schemas.errors import SettingsError
from stream_app.pipeline.features import Features
from trainer.feature_choice import choose_features
from trainer.recording_set import Recording, RecordingSet
from trainer.train_options import FeatureOptions


def found(*recordings: tuple[int, int, float]) -> RecordingSet:
    """Recordings of (rate_hz, channels, duration_s)."""
    made = [
        Recording(
            path=Path("x"), name=str(i), machine=None, rate_hz=rate, channels=channels, samples=round(rate * duration)
        )
        for i, (rate, channels, duration) in enumerate(recordings)
    ]
    return RecordingSet(Path(), tuple(made), ())


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 96_000])
def test_sound_is_taken_at_16_khz_with_the_default_features(rate_hz: int) -> None:
    assert choose_features(found((rate_hz, 1, 6.0))).features == FeatureConfig()


@pytest.mark.parametrize(
    ("rate_hz", "taken_hz", "n_fft"), [(16_000, 16_000, 1024), (44_100, 44_100, 2048), (96_000, 48_000, 2048)]
)
def test_a_detector_that_takes_sound_at_higher_rates_gets_its_own(rate_hz: int, taken_hz: int, n_fft: int) -> None:
    features = choose_features(found((rate_hz, 1, 6.0)), sound_rate_hz=48_000).features
    assert (features.sample_rate_hz, features.n_fft, features.fmax_hz) == (taken_hz, n_fft, taken_hz / 2)
    assert features.window_s <= 1.0


def test_an_accelerometer_keeps_its_rate_and_axes() -> None:
    features = choose_features(found((200, 3, 1.0))).features
    assert (features.sample_rate_hz, features.channels, features.n_fft, features.hop) == (200, 3, 64, 16)
    assert (features.bands, features.scale, features.fmax_hz, features.window_columns) == (32, "linear", 100, 9)


def test_bursts_of_a_bearing_keep_what_is_above_8_khz() -> None:
    features = choose_features(found((25_600, 2, 0.1))).features
    assert (features.sample_rate_hz, features.channels, features.fmax_hz) == (25_600, 2, 12_800)
    assert features.window_s <= 0.1
    assert features.window_columns >= 8


@pytest.mark.parametrize("rate_hz", [100, 200, 500, 1000, 3200, 6400, 8000, 12_000, 16_000, 25_600, 48_000, 192_000])
@pytest.mark.parametrize("duration_s", [0.1, 0.5, 1.0, 10.0])
def test_whatever_is_chosen_can_be_computed_and_no_band_is_empty(rate_hz: int, duration_s: float) -> None:
    if rate_hz * duration_s < 16:
        pytest.skip("less than any spectrum")
    features = choose_features(found((rate_hz, 1, duration_s))).features
    samples = np.random.default_rng(0).normal(0, 0.1, round(duration_s * features.sample_rate_hz)).astype(np.float32)
    log_mel = Features(features).log_mel(samples)
    assert log_mel.shape[1] >= features.window_columns
    assert log_mel.mean(axis=1).min() > np.log(features.floor) + 1
    assert features.window_s <= min(duration_s, 1.0)


def test_mixed_rates_take_the_most_frequent_and_no_band_that_some_lack() -> None:
    features = choose_features(found((16_000, 1, 5.0), (16_000, 1, 5.0), (8_000, 1, 5.0))).features
    assert (features.sample_rate_hz, features.fmax_hz) == (16_000, 4_000)


def test_mixed_channels_are_judged_one_by_one() -> None:
    choice = choose_features(found((16_000, 1, 5.0), (16_000, 2, 5.0)))
    assert choice.features.channels == 1
    assert "differ in channels" in choice.why


def test_a_stray_short_recording_does_not_shrink_the_window() -> None:
    assert choose_features(found((16_000, 1, 0.2), (16_000, 1, 5.0), (16_000, 1, 5.0))).features.window_columns == 30
    assert choose_features(found((16_000, 1, 0.6), (16_000, 1, 0.9))).features.window_s <= 0.6


def test_options_come_first() -> None:
    options = FeatureOptions(rate_hz=32_000, bands=64, n_fft=2048, hop=256, scale="linear", window_s=0.5)
    features = choose_features(found((44_100, 1, 6.0)), options).features
    assert (features.sample_rate_hz, features.bands, features.n_fft, features.hop) == (32_000, 64, 2048, 256)
    assert (features.scale, features.fmax_hz) == ("linear", 16_000)
    assert features.window_s <= 0.5


@pytest.mark.parametrize("options", [FeatureOptions(n_fft=32_768), FeatureOptions(n_fft=512, hop=513)])
def test_options_that_contradict_the_data_are_refused(options: FeatureOptions) -> None:
    with pytest.raises(SettingsError):
        choose_features(found((16_000, 1, 1.0)), options)
