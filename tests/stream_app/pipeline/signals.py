"""Signals with known traits, real ones, and librosa's answers in double precision."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import librosa
import numpy as np

from recordings import read_recording
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.resample import resample
from tests.helpers import SHARED_DATA

# Name: features, and samples in a frame.
CONFIGS: dict[str, tuple[FeatureConfig, int]] = {
    "sound": (FeatureConfig(), 16_000),
    "accelerometer": (
        FeatureConfig(sample_rate_hz=200, n_fft=64, hop=16, bands=32, scale="linear", fmax_hz=100, window_columns=9),
        200,
    ),
    "bearing": (
        FeatureConfig(sample_rate_hz=25_600, n_fft=512, hop=128, bands=64, fmax_hz=12_800, window_columns=17),
        2_560,
    ),
    "low": (FeatureConfig(sample_rate_hz=8_000, fmin_hz=40, fmax_hz=4_000, bands=64), 16_000),
}


def signals(config: FeatureConfig, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Signals of ``n`` samples at the model's rate, float32, by name."""
    rng = np.random.default_rng(seed)
    time = np.arange(n) / config.sample_rate_hz
    nyquist_hz = config.sample_rate_hz / 2
    noise = rng.standard_normal(n)
    tone = 0.5 * np.sin(2 * np.pi * rng.uniform(0.02, 0.9) * nyquist_hz * time)
    sweep = 0.3 * np.sin(2 * np.pi * nyquist_hz * (0.02 * time + 0.4 * time**2 / (n / config.sample_rate_hz)))
    impulses = np.zeros(n)
    impulses[:: max(1, n // 13)] = 0.9
    made = {
        "noise": 0.1 * noise,
        "tone on a bin": 0.5 * np.sin(2 * np.pi * nyquist_hz / 8 * time),
        "tone": tone,
        "tone of 16 bits": np.round(tone * 32768) / 32768,
        "tone in noise": tone + 1e-4 * noise,
        "chirp": sweep,
        "impulses": impulses + 1e-4 * noise,
        "quiet": 10 ** (-65 / 20) * noise,
        "quiet, of 16 bits": np.round(10 ** (-65 / 20) * noise * 32768) / 32768,
        "offset": 0.7 + 0.001 * noise,
        "low-pass": 0.1 * np.convolve(noise, np.hanning(31) / 15, "same") if n > 31 else noise,
        "silence": np.zeros(n),
    }
    return {name: signal.astype(np.float32) for name, signal in made.items()}


def real_signals(folder: str) -> Iterator[tuple[np.ndarray, FeatureConfig]]:
    """One second from each of some recordings of a set, with features that suit it."""
    paths = sorted(path for path in (SHARED_DATA / folder).rglob("*") if path.suffix in {".wav", ".flac"})
    for path in paths[:: max(1, len(paths) // 8)]:
        audio = read_recording(path)
        config = _suited(folder, audio.rate_hz)
        samples = resample(audio.samples, audio.rate_hz, config.sample_rate_hz)
        for channel in samples[:, : config.sample_rate_hz]:
            yield channel, config


def _suited(folder: str, rate_hz: int) -> FeatureConfig:
    if folder == "fan_high":
        return CONFIGS["accelerometer"][0]
    if folder == "femto":
        return CONFIGS["bearing"][0]
    if folder == "cwru":
        return FeatureConfig(sample_rate_hz=rate_hz, fmax_hz=rate_hz / 2)
    return FeatureConfig()


def reference_log_mel(signal: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """librosa's, in double precision; linear bands are Slaney's below 1 kHz."""
    assert config.scale == "mel" or config.fmax_hz <= 1_000
    energies = librosa.feature.melspectrogram(
        y=_centred(signal, config),
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        hop_length=config.hop,
        center=False,
        n_mels=config.bands,
        fmin=config.fmin_hz,
        fmax=config.fmax_hz,
        dtype=np.float64,
    )
    return np.log(np.maximum(energies, config.floor))


def reference_statistics(signal: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """librosa's 13, in double precision; spectral contrast is NaN where librosa's is."""
    y, rate_hz = _centred(signal, config), config.sample_rate_hz
    spectral = {"y": y, "sr": rate_hz, "n_fft": config.n_fft, "hop_length": config.hop, "center": False}
    framed = {"y": y, "frame_length": config.n_fft, "hop_length": config.hop, "center": False}
    feature = librosa.feature
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a band without a bin
        rms = feature.rms(**framed, dtype=np.float64)
        contrast = feature.spectral_contrast(**spectral, fmin=200.0 if rate_hz > 12_800 else rate_hz / 128)
        mfcc = feature.mfcc(
            **spectral, n_mfcc=6, n_mels=config.bands, fmin=config.fmin_hz, fmax=config.fmax_hz, dtype=np.float64
        )
    others = [
        feature.zero_crossing_rate(**framed),
        feature.spectral_centroid(**spectral),
        feature.spectral_bandwidth(**spectral),
        feature.spectral_rolloff(**spectral),
        contrast,
    ]
    return np.array([rms.mean(), rms.std(), *(one.mean() for one in others), *mfcc.mean(axis=1)])


def _centred(signal: np.ndarray, config: FeatureConfig) -> np.ndarray:
    y = signal.astype(np.float64)
    return y - y.mean() if config.remove_dc else y
