"""Log-mel against librosa in double precision, and what must hold whatever the signal."""

from __future__ import annotations

import builtins
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import FrameRejected, ModelError
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline import optional_kernels
from stream_app.pipeline.features import Features
from stream_app.pipeline.optional_kernels import find_kernels
from stream_app.pipeline.sensor import level_dbfs
from tests.helpers import needs_shared_data
from tests.stream_app.pipeline.signals import CONFIGS, real_signals, reference_log_mel, signals

SOUND = FeatureConfig()
NEAR_NEPERS = 7 * np.log(10)  # 70 dB


KINDS = ["numpy", "compiled"]


def features_of(config: FeatureConfig, kind: str) -> Features:
    """The reference by numpy, or the compiled loops, which fail where they can't be had; numpy for other lengths."""
    power_of_two = config.n_fft >= 64 and config.n_fft & (config.n_fft - 1) == 0
    return Features(config, compiled=kind == "compiled" and power_of_two)


def assert_equals_librosa(signal: np.ndarray, config: FeatureConfig, kind: str) -> None:
    ours = features_of(config, kind).log_mel(signal)
    expected = reference_log_mel(signal, config)
    assert ours.dtype == np.float32
    assert ours.shape == expected.shape
    difference = np.abs(ours - expected)
    near = expected > expected.max() - NEAR_NEPERS
    assert difference[near].max() <= 1e-4
    assert difference.max() <= 0.05


@pytest.mark.parametrize("kind", KINDS)
class TestAgainstLibrosa:
    @pytest.mark.slow
    @pytest.mark.parametrize("config_name", CONFIGS)
    @pytest.mark.parametrize("name", list(signals(SOUND, 1)))
    def test_simulated_signals(self, name: str, config_name: str, kind: str) -> None:
        config, n = CONFIGS[config_name]
        for seed in range(3):
            assert_equals_librosa(signals(config, n, seed)[name], config, kind)

    @needs_shared_data
    @pytest.mark.parametrize("name", ["motor", "fan_high", "femto", "washer", "dcase_clips", "cwru"])
    def test_real_recordings(self, name: str, kind: str) -> None:
        for signal, config in real_signals(name):
            assert_equals_librosa(signal, config, kind)

    @pytest.mark.parametrize("remove_dc", [True, False])
    def test_offset(self, remove_dc: bool, kind: str) -> None:
        config = FeatureConfig(remove_dc=remove_dc)
        signal = (0.5 + np.random.default_rng(0).normal(0, 0.01, 16_000)).astype(np.float32)
        assert_equals_librosa(signal, config, kind)

    def test_a_long_signal_of_several_blocks(self, kind: str) -> None:
        signal = np.random.default_rng(0).normal(0, 0.1, 16_000 * 9).astype(np.float32)
        assert_equals_librosa(signal, SOUND, kind)

    @pytest.mark.parametrize("n_fft", [64, 400, 512, 1000, 1023, 2048])
    @pytest.mark.parametrize("hop", [50, 160, 333])
    def test_other_lengths_and_hops(self, n_fft: int, hop: int, kind: str) -> None:
        hop = min(hop, n_fft)
        signal = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
        assert_equals_librosa(signal, FeatureConfig(n_fft=n_fft, hop=hop, bands=40 if n_fft > 64 else 8), kind)


@pytest.mark.parametrize("kind", KINDS)
class TestBatches:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 1000), st.integers(1, 11), st.integers(1_024, 20_000), st.booleans())
    def test_a_frame_is_bit_for_bit_the_same_alone_and_in_a_batch(
        self, kind: str, seed: int, size: int, n: int, tones: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        batch = rng.normal(0, 0.1, (size, n)).astype(np.float32)
        if tones:  # some of the batch needs double precision, some doesn't
            batch[::2] = 0.5 * np.sin(0.3 * np.arange(n))
        features = features_of(SOUND, kind)
        together, statistics = features.log_mel_and_statistics(batch[:, np.newaxis])
        for index, frame in enumerate(batch):
            log_mel, own = features.log_mel_and_statistics(frame[np.newaxis, np.newaxis])
            np.testing.assert_array_equal(log_mel, together[index : index + 1])
            np.testing.assert_array_equal(features.log_mel(frame), together[index, 0])
            np.testing.assert_array_equal(own[0], statistics[index])
        np.testing.assert_array_equal(features.log_mel(batch), together[:, 0])

    def test_leading_axes_are_kept(self, kind: str) -> None:
        features = features_of(SOUND, kind)
        samples = np.random.default_rng(0).normal(0, 0.1, (2, 3, 16_000)).astype(np.float32)
        assert features.log_mel(samples).shape == (2, 3, 128, 30)
        assert features.log_mel(samples[0, 0]).shape == (128, 30)
        log_mel, statistics = features.log_mel_and_statistics(samples)
        assert (log_mel.shape, statistics.shape) == ((2, 3, 128, 30), (2, 13))
        assert features.columns(16_000) == 30
        np.testing.assert_array_equal(features.log_mel(samples)[1, 2], features.log_mel(samples[1, 2]))

    def test_inputs_are_left_alone(self, kind: str) -> None:
        samples = np.random.default_rng(0).normal(0.3, 0.1, (2, 16_000)).astype(np.float32)
        before = samples.copy()
        for remove_dc in (True, False):
            features = features_of(FeatureConfig(remove_dc=remove_dc), kind)
            log_mel, _ = features.log_mel_and_statistics(samples[np.newaxis])
            np.testing.assert_array_equal(features.log_mel(samples), log_mel[0])
            np.testing.assert_array_equal(samples, before)

    def test_a_view_with_strides_is_taken(self, kind: str) -> None:
        interleaved = np.random.default_rng(0).normal(0, 0.1, (16_000, 2)).astype(np.float32)
        features = features_of(SOUND, kind)
        np.testing.assert_array_equal(
            features.log_mel(interleaved.T), features.log_mel(np.ascontiguousarray(interleaved.T))
        )


@pytest.mark.parametrize("kind", KINDS)
class TestEverySignal:
    @settings(deadline=None, max_examples=100)
    @given(
        samples=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
        tail=st.sampled_from([0.0, 1.0, 1e-30, 1e20]),
    )
    def test_is_finite_and_at_least_the_floor(self, kind: str, samples: list[float], tail: float) -> None:
        signal = np.full(1_400, tail, np.float32)
        signal[: len(samples)] = samples
        signal[700 : 700 + len(samples)] = samples
        for config in (SOUND, FeatureConfig(remove_dc=False)):
            log_mel = features_of(config, kind).log_mel(signal)
            assert np.isfinite(log_mel).all()
            assert log_mel.min() >= np.float32(np.log(1e-10)) - 1e-5

    def test_silence_is_the_floor(self, kind: str) -> None:
        for value in (0.0, 0.7):
            log_mel = features_of(FeatureConfig(floor=1e-7), kind).log_mel(np.full(16_000, value, np.float32))
            np.testing.assert_allclose(log_mel, np.log(1e-7), rtol=1e-6)

    def test_shorter_than_one_spectrum_is_rejected(self, kind: str) -> None:
        features = features_of(SOUND, kind)
        for call in (features.log_mel, features.log_mel_and_statistics):
            with pytest.raises(FrameRejected, match=r"1023 samples.*1024") as caught:
                call(np.zeros((1, 1, 1_023), np.float32))
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


@pytest.mark.parametrize("kind", KINDS)
def test_no_warnings_for_huge_and_silent_signals(kind: str) -> None:
    features = features_of(SOUND, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0.0, 1e30, 3e38):
            signal = np.zeros(16_000, np.float32)
            signal[::2] = value
            features.log_mel_and_statistics(signal.reshape(1, 1, -1))


class TestWhoComputes:
    def test_both_agree_within_rounding(self) -> None:
        for config, n in CONFIGS.values():
            for signal in signals(config, n, 5).values():
                frame = signal.reshape(1, 1, -1)
                (reference, numbers), (compiled, others) = (
                    Features(config, compiled=kind).log_mel_and_statistics(frame) for kind in (False, None)
                )
                near = reference > reference.max() - NEAR_NEPERS
                np.testing.assert_allclose(compiled[near], reference[near], atol=2e-4)
                np.testing.assert_allclose(others, numbers, rtol=1e-3, atol=1e-3)

    def test_a_length_that_is_no_power_of_two_is_numpys(self) -> None:
        with pytest.raises(ValueError, match="n_fft 1000 can't be compiled"):
            Features(FeatureConfig(n_fft=1000), compiled=True).log_mel(np.zeros(16_000, np.float32))

    def test_no_configuration_and_no_input_makes_anything_be_compiled_anew(self) -> None:
        from stream_app.pipeline import kernels

        def known() -> dict[str, int]:
            return {name: len(one.signatures) for name, one in vars(kernels).items() if hasattr(one, "signatures")}

        find_kernels()
        before = known()
        tone = (0.5 * np.sin(0.3 * np.arange(16_000))).astype(np.float32)
        read_only = tone.copy()
        read_only.flags.writeable = False
        for config in (SOUND, FeatureConfig(remove_dc=False, floor=1e-5), FeatureConfig(scale="linear", bands=40)):
            for signal in (tone, read_only, np.stack([tone, tone])[:, ::2], np.full(2_000, 3e38, np.float32)):
                Features(config).log_mel_and_statistics(signal.reshape(1, -1, signal.shape[-1]))
                level_dbfs(signal.reshape(-1, signal.shape[-1]))
        assert known() == before
        assert before["spectra"] == 2  # single precision and double


def test_without_a_place_for_compiled_code_numpy_computes_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def no_place(name: str, *args: Any, **kwargs: Any) -> Any:
        if args and "kernels" in (args[2] or ()):
            raise RuntimeError("cannot cache function 'load': no locator available")
        return real(name, *args, **kwargs)

    real = builtins.__import__
    with patch.object(builtins, "__import__", no_place):
        assert find_kernels.__wrapped__() is None
    assert "NUMBA_CACHE_DIR" in caplog.text


@pytest.mark.parametrize(("second", "usable"), [(None, True), (OSError("No space left on device"), False)])
def test_damaged_compiled_code_is_thrown_away_and_made_anew_and_else_numpy_computes(
    second: Exception | None, usable: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, other = tmp_path / "kernels.spectra-480.py311.nbi", tmp_path / "another.nbi"
    for file in (damaged, other):
        file.write_bytes(b"")
    kernels = SimpleNamespace(spectra=SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path))))
    tried = iter([EOFError("Ran out of input"), second])

    def try_out() -> bool:
        if (error := next(tried)) is not None:
            raise error
        return True

    with (
        patch("stream_app.pipeline.compiled.try_out", try_out),
        patch.object(importlib, "reload", lambda module: module),
    ):
        assert (optional_kernels._tried(cast("ModuleType", kernels)) is not None) is usable
    assert (damaged.exists(), other.exists()) == (False, True)
    assert f"compiled code in {tmp_path} can't be used (EOFError" in caplog.text
    assert ("computed by numpy" in caplog.text) is not usable


def test_a_spectrum_without_an_octave_has_no_contrast() -> None:
    config = FeatureConfig(n_fft=64, hop=64, sample_rate_hz=1_000_000, fmax_hz=5e5, bands=4)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 1, 1_000)).astype(np.float32)
    for compiled in (None, False):
        statistics = Features(config, compiled=compiled).log_mel_and_statistics(noise)[1][0]
        assert np.isfinite(statistics).all()
        assert statistics[6] == 0
