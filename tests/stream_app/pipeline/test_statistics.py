"""The 13 statistics against librosa, and what must hold whatever the signal."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.statistics import STATISTICS
from tests.helpers import needs_shared_data
from tests.stream_app.pipeline.signals import CONFIGS, real_signals, reference_statistics, signals
from tests.stream_app.pipeline.test_features import KINDS, features_of

SOUND = FeatureConfig()
CONTRAST = STATISTICS.index("spectral_contrast")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def statistics(samples: np.ndarray, kind: str, config: FeatureConfig = SOUND) -> np.ndarray:
    frame = samples.reshape(1, -1, samples.shape[-1])
    return features_of(config, kind).log_mel_and_statistics(frame)[1][0]


def assert_equals_librosa(signal: np.ndarray, config: FeatureConfig, kind: str) -> None:
    ours = statistics(signal, kind, config)
    expected = reference_statistics(signal, config)
    for name, reference in zip(STATISTICS, expected, strict=True):
        if np.isnan(reference):  # an octave without a bin
            assert name == "spectral_contrast"
            expected[CONTRAST] = reference_contrast(signal, config)
    assert dict(zip(STATISTICS, ours, strict=True)) == pytest.approx(
        dict(zip(STATISTICS, expected, strict=True)), rel=1e-3, abs=1e-3
    )


def reference_contrast(signal: np.ndarray, config: FeatureConfig) -> float:
    """librosa's spectral contrast written anew in double precision, without the octaves that hold no bin."""
    y = signal.astype(np.float64) - signal.mean(dtype=np.float64)
    magnitude = np.abs(librosa.stft(y, n_fft=config.n_fft, hop_length=config.hop, center=False, dtype=np.complex128))
    bins_hz = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate_hz)
    corners_hz = [0.0, *(config.sample_rate_hz / 128 * 2.0 ** np.arange(7))]
    peaks, valleys = [], []
    for octave in range(7):
        taken = (bins_hz >= corners_hz[octave]) & (bins_hz <= corners_hz[octave + 1])
        if octave > 0:
            taken[np.flatnonzero(taken)[0] - 1] = True
        if octave == 6:
            taken[np.flatnonzero(taken)[-1] :] = True
        count = max(1, int(np.rint(0.02 * taken.sum())))
        rows = np.sort(magnitude[taken] if octave == 6 else magnitude[taken][:-1], axis=0)
        if len(rows):
            peaks.append(rows[-count:].mean(axis=0))
            valleys.append(rows[:count].mean(axis=0))
    return float((librosa.power_to_db(np.array(peaks)) - librosa.power_to_db(np.array(valleys))).mean())


def test_the_names_and_their_order() -> None:
    assert STATISTICS == (
        "rms_mean",
        "rms_std",
        "zcr_mean",
        "spectral_centroid",
        "spectral_bandwidth",
        "spectral_rolloff",
        "spectral_contrast",
        "mfcc_0",
        "mfcc_1",
        "mfcc_2",
        "mfcc_3",
        "mfcc_4",
        "mfcc_5",
    )


class TestAgainstLibrosa:
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

    def test_linear_bands_above_1_khz_have_the_cepstrum_of_a_mel_filterbank(self, kind: str) -> None:
        config = FeatureConfig(scale="linear", bands=64)
        assert_equals_librosa(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), config, kind)

    @pytest.mark.parametrize(("n_fft", "hop"), [(4096, 1000), (8192, 999), (2048, 512), (1000, 300), (1023, 512)])
    def test_other_lengths_and_hops(self, n_fft: int, hop: int, kind: str) -> None:
        config = FeatureConfig(n_fft=n_fft, hop=hop, bands=40)
        assert_equals_librosa(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), config, kind)

    def test_another_floor_of_the_model_changes_no_statistic(self, kind: str) -> None:
        signal = signals(SOUND, 16_000)["tone"]
        changed = statistics(signal, kind, FeatureConfig(floor=1e-3))
        np.testing.assert_array_equal(changed, statistics(signal, kind))


def test_channels_are_averaged(kind: str) -> None:
    first, second = (np.random.default_rng(seed).normal(0, 0.1 + seed, 16_000).astype(np.float32) for seed in (0, 1))
    both = statistics(np.stack([first, second]), kind)
    np.testing.assert_allclose(both, (statistics(first, kind) + statistics(second, kind)) / 2, rtol=1e-6)


def test_they_are_the_same_alone_and_after_a_batch_was_computed(kind: str) -> None:
    features = features_of(SOUND, kind)
    signal = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    alone = features.log_mel_and_statistics(signal.reshape(1, 1, -1))[1]
    features.log_mel(np.tile(signal, (8, 1)))
    np.testing.assert_array_equal(features.log_mel_and_statistics(signal.reshape(1, 1, -1))[1], alone)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("config", "n"),
    [
        *CONFIGS.values(),
        (FeatureConfig(window_columns=1), 1024),  # one column
        (FeatureConfig(window_columns=1), 1700),  # two
        (FeatureConfig(hop=1000), 16_000),
        (FeatureConfig(), 80_000),  # one frame fills a block
    ],
)
def test_a_frame_has_the_same_bit_for_bit_alone_and_beside_others(
    config: FeatureConfig, n: int, channels: int, kind: str
) -> None:
    features = features_of(config, kind)
    of_kinds = [signal for seed in range(channels) for signal in signals(config, n, seed).values()]
    frames = np.stack(of_kinds).reshape(channels, -1, n).swapaxes(0, 1)
    alone = [features.log_mel_and_statistics(frame[np.newaxis])[1][0] for frame in frames]
    for size in (1, 2, 3, 5, len(frames)):
        for start in range(0, len(frames), size):
            together = features.log_mel_and_statistics(frames[start : start + size])[1]
            np.testing.assert_array_equal(together, alone[start : start + size])


class TestEverySignal:
    @pytest.mark.parametrize("of_kind", KINDS)
    @settings(deadline=None, max_examples=80)
    @given(
        samples=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
        tail=st.sampled_from([0.0, 1.0, -1.0, 1e-38, 1e-20, 1e30]),
        config_name=st.sampled_from(list(CONFIGS)),
        remove_dc=st.booleans(),
    )
    def test_is_finite(
        self, of_kind: str, samples: list[float], tail: float, config_name: str, remove_dc: bool
    ) -> None:
        config, n = CONFIGS[config_name]
        config = FeatureConfig(**{**_fields(config), "remove_dc": remove_dc})
        signal = np.full(n, tail, np.float32)
        signal[n // 2 : n // 2 + len(samples)] = samples
        result = statistics(signal, of_kind, config)
        assert result.shape == (13,)
        assert np.isfinite(result).all()

    @pytest.mark.parametrize("value", [0.0, 1.0, -0.3, 1e-30])
    def test_a_constant_has_no_level_no_crossings_and_no_contrast(self, value: float, kind: str) -> None:
        result = dict(zip(STATISTICS, statistics(np.full(16_000, value, np.float32), kind), strict=True))
        assert result["rms_mean"] == result["rms_std"] == result["zcr_mean"] == result["spectral_contrast"] == 0
        assert result["mfcc_0"] == pytest.approx(-100 * np.sqrt(128))

    def test_a_clipped_signal(self, kind: str) -> None:
        square = np.sign(np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000 + 0.1)).astype(np.float32)
        result = dict(zip(STATISTICS, statistics(square, kind), strict=True))
        assert result["rms_mean"] == pytest.approx(1, abs=0.01)
        assert result["zcr_mean"] == pytest.approx(200 / 16_000, rel=0.05)

    def test_few_bands_and_few_bins(self, kind: str) -> None:
        config = FeatureConfig(sample_rate_hz=100, n_fft=4, hop=2, bands=3, scale="linear", fmax_hz=50)
        result = statistics(np.random.default_rng(0).normal(0, 0.1, 100).astype(np.float32), kind, config)
        assert np.isfinite(result).all()
        np.testing.assert_array_equal(result[-3:], 0)  # three bands have three coefficients


def _fields(config: FeatureConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in FeatureConfig.__dataclass_fields__}
