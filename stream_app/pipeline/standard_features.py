"""Features that suit a signal by its sample rate and length: one rule for training and for machines without a model.

- Sound (8 kHz and above): at most 16 kHz, spectra of 64 ms overlapping by half, 128 mel bands up to 8 kHz.
- Bursts (above 16 kHz, shorter than half a second, as from a bearing's accelerometer): native rate, linear bands up
  to half of it, since the news is in high bands that the mel scale lumps together.
- Slow signals (below 8 kHz): native rate, linear bands, spectra that overlap by three quarters, of 64 samples or
  64 ms, whichever is longer.
"""

from __future__ import annotations

from math import log2
from typing import Final, Literal

from schemas.errors import FrameRejected
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.features import Features, shared_features

SOUND_MIN_HZ: Final = 8_000  # signals below are taken for an accelerometer's
SOUND_RATE_HZ: Final = 16_000
SOUND_MAX_HZ: Final = 8_000.0
SHORT_S: Final = 0.5  # recordings shorter and faster than sound are taken for bursts of a fast accelerometer
WINDOW_S: Final[dict[str, float]] = {"sound": 1.0, "burst": 0.1, "slow": 1.0}
MIN_N_FFT: Final = 16
MAX_BANDS: Final = 128
_SPECTRUM_S = 0.064  # a spectrum of sound: 1024 samples at 16 kHz

SignalKind = Literal["sound", "burst", "slow"]


def signal_kind(rate_hz: int, shortest_s: float) -> SignalKind:
    """Return what signals of this rate, of which the shortest is so long, are taken for."""
    if rate_hz < SOUND_MIN_HZ:
        return "slow"
    return "burst" if rate_hz > SOUND_RATE_HZ and shortest_s < SHORT_S else "sound"


def spectrum_length(rate_hz: int, samples: int, kind: SignalKind) -> int:
    """Return the samples of a spectrum, a power of two; less than ``MIN_N_FFT`` are too few for one.

    64 ms of sound; else 64 samples or 64 ms, at most a third of the window.

    Args:
        rate_hz: At which spectra are taken.
        samples: Of a window, at least 1.
        kind: Of signal.
    """
    sound = kind == "sound"
    length = rate_hz * _SPECTRUM_S if sound else max(64.0, rate_hz * _SPECTRUM_S)
    room = samples if sound else max(samples / 3, 64)
    n_fft = int(min(2 ** round(log2(length)), 2 ** int(log2(min(room, samples)))))
    if sound:
        return min(n_fft, 1024 if rate_hz <= SOUND_RATE_HZ else 2048)
    return min(n_fft, 512)


def spectrum_hop(n_fft: int, kind: SignalKind) -> int:
    """Return the samples between two spectra."""
    return max(1, n_fft // 2 if kind == "sound" else n_fft // 4)


def standard_features(rate_hz: int, duration_s: float) -> Features:
    """Return the features of one frame of a machine that has no model to say how it wants its own.

    They are what ``whirr train`` takes for recordings like it. Its channels are computed one by one.

    Args:
        rate_hz: Sample rate of the frame.
        duration_s: Its length.

    Raises:
        FrameRejected: ``too_short`` for a spectrum.
    """
    kind = signal_kind(rate_hz, duration_s)
    own_hz = min(rate_hz, SOUND_RATE_HZ) if kind == "sound" else rate_hz
    samples = round(min(WINDOW_S[kind], duration_s) * own_hz)
    n_fft = spectrum_length(own_hz, samples, kind) if samples else 0
    if n_fft < MIN_N_FFT:
        raise FrameRejected("too_short", f"{samples} samples at {own_hz} Hz; one spectrum takes {MIN_N_FFT}")
    return _features(own_hz, n_fft, kind)


def _features(rate_hz: int, n_fft: int, kind: SignalKind) -> Features:
    nyquist_hz, sound = rate_hz / 2, kind == "sound"
    return shared_features(
        FeatureConfig(
            sample_rate_hz=rate_hz,
            n_fft=n_fft,
            hop=spectrum_hop(n_fft, kind),
            bands=MAX_BANDS if sound else min(MAX_BANDS, n_fft // 2),
            scale="mel" if sound else "linear",
            fmax_hz=min(SOUND_MAX_HZ, nyquist_hz) if sound else nyquist_hz,
            window_columns=1,
        )
    )
