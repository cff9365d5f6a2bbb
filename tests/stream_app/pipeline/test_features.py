"""Log-mel against librosa in double precision, and what must hold whatever the signal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import FrameRejected, ModelError
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.features import Features
from tests.helpers import needs_shared_data
from tests.stream_app.pipeline.signals import CONFIGS, real_signals, reference_log_mel, signals

SOUND = FeatureConfig()
NEAR_NEPERS = 7 * np.log(10)  # 70 dB


def assert_equals_librosa(signal: np.ndarray, config: FeatureConfig) -> None:
    ours = Features(config).log_mel(signal)
    expected = reference_log_mel(signal, config)
    assert ours.dtype == np.float32
    assert ours.shape == expected.shape
    difference = np.abs(ours - expected)
    near = expected > expected.max() - NEAR_NEPERS
    assert difference[near].max() <= 1e-4
    assert difference.max() <= 0.05


class TestAgainstLibrosa:
    @pytest.mark.slow
    @pytest.mark.parametrize("config_name", CONFIGS)
    @pytest.mark.parametrize("name", list(signals(SOUND, 1)))
    def test_simulated_signals(self, name: str, config_name: str) -> None:
        config, n = CONFIGS[config_name]
        for seed in range(3):
            assert_equals_librosa(signals(config, n, seed)[name], config)

    @needs_shared_data
    @pytest.mark.parametrize("name", ["motor", "fan_high", "femto", "washer", "dcase_clips", "cwru"])
    def test_real_recordings(self, name: str) -> None:
        for signal, config in real_signals(name):
            assert_equals_librosa(signal, config)

    @pytest.mark.parametrize("remove_dc", [True, False])
    def test_offset(self, remove_dc: bool) -> None:
        config = FeatureConfig(remove_dc=remove_dc)
        signal = (0.5 + np.random.default_rng(0).normal(0, 0.01, 16_000)).astype(np.float32)
        assert_equals_librosa(signal, config)

    def test_a_long_signal_of_several_blocks(self) -> None:
        signal = np.random.default_rng(0).normal(0, 0.1, 16_000 * 9).astype(np.float32)
        assert_equals_librosa(signal, SOUND)

    @pytest.mark.parametrize("n_fft", [400, 1000, 1023, 2048])
    @pytest.mark.parametrize("hop", [160, 333])
    def test_other_lengths_and_hops(self, n_fft: int, hop: int) -> None:
        signal = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
        assert_equals_librosa(signal, FeatureConfig(n_fft=n_fft, hop=hop, bands=40))


class TestBatches:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 1000), st.integers(1, 11), st.integers(1_024, 20_000), st.booleans())
    def test_a_frame_is_bit_for_bit_the_same_alone_and_in_a_batch(
        self, seed: int, size: int, n: int, tones: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        batch = rng.normal(0, 0.1, (size, n)).astype(np.float32)
        if tones:  # some of the batch needs double precision, some doesn't
            batch[::2] = 0.5 * np.sin(0.3 * np.arange(n))
        features = Features(SOUND)
        together = features.log_mel(batch)
        spectra = features.spectrum(batch)
        for index, frame in enumerate(batch):
            alone = features.spectrum(frame)
            np.testing.assert_array_equal(features.log_mel(frame), together[index])
            np.testing.assert_array_equal(features.log_mel_of(alone), together[index])
            np.testing.assert_array_equal(alone.power, spectra.power[index])
            np.testing.assert_array_equal(alone.samples, spectra.samples[index])
        np.testing.assert_array_equal(features.log_mel_of(spectra), together)

    def test_leading_axes_are_kept(self) -> None:
        features = Features(SOUND)
        samples = np.random.default_rng(0).normal(0, 0.1, (2, 3, 16_000)).astype(np.float32)
        assert features.log_mel(samples).shape == (2, 3, 128, 30)
        assert features.log_mel(samples[0, 0]).shape == (128, 30)
        assert features.spectrum(samples).power.shape == (2, 3, 513, 30)
        assert features.columns(16_000) == 30
        np.testing.assert_array_equal(features.log_mel(samples)[1, 2], features.log_mel(samples[1, 2]))

    def test_inputs_are_left_alone(self) -> None:
        samples = np.random.default_rng(0).normal(0.3, 0.1, (2, 16_000)).astype(np.float32)
        before = samples.copy()
        for remove_dc in (True, False):
            features = Features(FeatureConfig(remove_dc=remove_dc))
            spectrum = features.spectrum(samples)
            energies = spectrum.energies.copy()
            features.log_mel(samples)
            features.log_mel_of(spectrum)
            features.statistics_of(spectrum)
            np.testing.assert_array_equal(samples, before)
            np.testing.assert_array_equal(spectrum.energies, energies)

    def test_a_view_with_strides_is_taken(self) -> None:
        interleaved = np.random.default_rng(0).normal(0, 0.1, (16_000, 2)).astype(np.float32)
        features = Features(SOUND)
        np.testing.assert_array_equal(
            features.log_mel(interleaved.T), features.log_mel(np.ascontiguousarray(interleaved.T))
        )


class TestEverySignal:
    @settings(deadline=None, max_examples=100)
    @given(
        samples=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
        tail=st.sampled_from([0.0, 1.0, 1e-30, 1e20]),
    )
    def test_is_finite_and_at_least_the_floor(self, samples: list[float], tail: float) -> None:
        signal = np.full(1_400, tail, np.float32)
        signal[: len(samples)] = samples
        signal[700 : 700 + len(samples)] = samples
        for config in (SOUND, FeatureConfig(remove_dc=False)):
            log_mel = Features(config).log_mel(signal)
            assert np.isfinite(log_mel).all()
            assert log_mel.min() >= np.float32(np.log(1e-10)) - 1e-5

    def test_silence_is_the_floor(self) -> None:
        for value in (0.0, 0.7):
            log_mel = Features(FeatureConfig(floor=1e-7)).log_mel(np.full(16_000, value, np.float32))
            np.testing.assert_allclose(log_mel, np.log(1e-7), rtol=1e-6)

    def test_shorter_than_one_spectrum_is_rejected(self) -> None:
        for call in (Features(SOUND).log_mel, Features(SOUND).spectrum):
            with pytest.raises(FrameRejected, match=r"1023 samples.*1024") as caught:
                call(np.zeros((1, 1_023), np.float32))
            assert caught.value.code == "too_short"


class TestBands:
    def test_they_tile_the_range_without_a_gap(self) -> None:
        for config in (FeatureConfig(fmin_hz=50, fmax_hz=7_000), CONFIGS["accelerometer"][0]):
            edges = Features(config).band_edges_hz
            assert edges.shape == (config.bands, 2)
            assert (edges[0, 0], edges[-1, 1]) == pytest.approx((config.fmin_hz, config.fmax_hz))
            np.testing.assert_array_equal(edges[1:, 0], edges[:-1, 1])
            assert (edges[:, 1] > edges[:, 0]).all()

    @pytest.mark.parametrize("scale", ["mel", "linear"])
    def test_a_tone_is_loudest_in_the_band_that_holds_it(self, scale: Any) -> None:
        config = FeatureConfig(bands=24, scale=scale, norm="none")
        features = Features(config)
        for frequency_hz in (700, 1_500, 3_100, 6_200):
            tone = np.sin(2 * np.pi * frequency_hz / 16_000 * np.arange(16_000)).astype(np.float32)
            loudest = int(features.log_mel(tone).mean(axis=-1).argmax())
            from_hz, to_hz = features.band_edges_hz[loudest]
            assert from_hz <= frequency_hz <= to_hz

    def test_linear_bands_are_equally_wide_and_none_is_empty(self) -> None:
        features = Features(CONFIGS["accelerometer"][0])
        widths = np.diff(features.band_edges_hz, axis=1)[1:-1, 0]
        np.testing.assert_allclose(widths, widths[0])
        noise = np.random.default_rng(0).normal(0, 0.1, 200).astype(np.float32)
        assert features.log_mel(noise).min() > np.log(1e-10)


def _impossible() -> Iterator[tuple[FeatureConfig, str]]:
    yield FeatureConfig(fmax_hz=9_000), "fmax_hz 9000.*8000"
    yield FeatureConfig(fmin_hz=500, fmax_hz=400), "fmin_hz 500 and fmax_hz 400"
    yield FeatureConfig(n_fft=256, hop=512), "n_fft 256 and hop 512"
    yield FeatureConfig(n_fft=2, hop=1), "n_fft 2"
    yield FeatureConfig(floor=1e-60), "floor 1e-60"
    yield FeatureConfig(time_axis="dynamic"), "max_columns None"
    yield FeatureConfig(time_axis="dynamic", max_columns=29), "max_columns 29.*30"


@pytest.mark.parametrize(("config", "message"), list(_impossible()))
def test_a_configuration_that_cannot_be_computed_is_refused(config: FeatureConfig, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Features(config)


def test_no_warnings_for_huge_and_silent_signals() -> None:
    features = Features(SOUND)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0.0, 1e30, 3e38):
            signal = np.zeros(16_000, np.float32)
            signal[::2] = value
            features.statistics_of(features.spectrum(signal))
