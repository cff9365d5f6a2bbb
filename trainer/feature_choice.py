"""Which features suit a folder of recordings, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from schemas import FeatureConfig
from schemas.errors import RecordingError, SettingsError
from schemas.frame import MAX_FRAME_S
from stream_app.pipeline.standard_features import (
    MAX_BANDS,
    MIN_N_FFT,
    SOUND_MAX_HZ,
    SOUND_RATE_HZ,
    WINDOW_S,
    SignalKind,
    signal_kind,
    spectrum_hop,
    spectrum_length,
)
from trainer.recording_set import RecordingSet
from trainer.train_options import FeatureOptions


@dataclass(frozen=True, slots=True)
class Choice:
    """Features, and one line that says why these."""

    features: FeatureConfig
    why: str


def choose_features(
    found: RecordingSet,
    options: FeatureOptions | None = None,
    frame_s: float | None = None,
    sound_rate_hz: int = SOUND_RATE_HZ,
    *,
    whole_frames: bool = False,
) -> Choice:
    """Return the features that suit the recordings, with the user's own choices respected.

    They follow the rule of :mod:`stream_app.pipeline.standard_features`; of sound, where a detector takes higher rates
    than 16 kHz, the recordings' own up to that, spectra of about 64 ms, bands up to half the rate. A window is 1 s long
    (0.1 s of a burst), or as long as the shortest recording or a frame if that is less.

    Args:
        found: The recordings.
        options: What the user fixed.
        frame_s: Length of the frames that will come, where it is known.
        sound_rate_hz: The highest rate of sound.
        whole_frames: Whether a frame of any length, from a window's on, is one window.

    Raises:
        SettingsError: The options contradict each other or the data.
        RecordingError: The recordings are too short for any spectrum.
    """
    options = options or FeatureOptions()
    data_hz = _prevailing(found.rates_hz)
    kind = signal_kind(data_hz, found.shortest_s)
    sound = kind == "sound"
    rate_hz = options.rate_hz or (min(data_hz, sound_rate_hz) if sound else data_hz)
    window_s = options.window_s or min(WINDOW_S[kind], found.shortest_s, frame_s or 1.0)
    samples = round(window_s * rate_hz)
    n_fft = options.n_fft or _n_fft(rate_hz, samples, kind)
    hop = options.hop or spectrum_hop(n_fft, kind)
    if n_fft > samples:
        raise SettingsError(f"n_fft {n_fft} at {rate_hz} Hz is longer than the window of {window_s:g} s")
    if hop > n_fft:
        raise SettingsError(f"hop {hop} is larger than n_fft {n_fft}")
    nyquist_hz = min(rate_hz, *found.rates_hz) / 2  # above it, some recordings are empty
    up_to_8_khz = sound and rate_hz <= SOUND_RATE_HZ
    features = FeatureConfig(
        sample_rate_hz=rate_hz,
        channels=_channels(found),
        n_fft=n_fft,
        hop=hop,
        bands=options.bands or (MAX_BANDS if sound else min(MAX_BANDS, n_fft // 2)),
        scale=options.scale or ("mel" if sound else "linear"),
        fmax_hz=min(SOUND_MAX_HZ, nyquist_hz) if up_to_8_khz else nyquist_hz,
        window_columns=1 + (samples - n_fft) // hop,
        time_axis="dynamic" if whole_frames else "fixed",
        max_columns=1 + (int(MAX_FRAME_S) * rate_hz - n_fft) // hop if whole_frames else None,
    )
    return Choice(features, _why(data_hz, found, kind))


def frame_length(found: RecordingSet, features: FeatureConfig, frame_s: float | None = None) -> float:
    """Return the length of a frame in seconds: as given, else 1 s or the shortest recording, at least a window.

    Raises:
        SettingsError: ``frame_s`` is shorter than a window.
    """
    length_s = frame_s or max(min(1.0, found.shortest_s), features.window_s)
    if length_s < features.window_s - 1e-9:
        raise SettingsError(f"frames of {length_s:g} s are shorter than a window of {features.window_s:g} s")
    return length_s


def _prevailing(rates_hz: Counter[int]) -> int:
    """Return the most frequent rate; of equally frequent ones the lowest, which invents nothing for the others."""
    return min(rates_hz, key=lambda rate_hz: (-rates_hz[rate_hz], rate_hz))


def _channels(found: RecordingSet) -> int:
    counts = {recording.channels for recording in found.recordings}
    return counts.pop() if len(counts) == 1 else 1


def _n_fft(rate_hz: int, samples: int, kind: SignalKind) -> int:
    n_fft = spectrum_length(rate_hz, samples, kind)
    if n_fft < MIN_N_FFT:
        raise RecordingError(
            f"the window has {samples} samples at {rate_hz} Hz; expected at least {MIN_N_FFT} for a spectrum"
        )
    return n_fft


def _why(data_hz: int, found: RecordingSet, kind: SignalKind) -> str:
    if kind == "sound":
        why = f"sound at {data_hz} Hz"
    elif kind == "burst":
        why = f"bursts of {found.shortest_s:g} s at {data_hz} Hz: native rate, for what lies above 8 kHz"
    else:
        why = f"a slow signal at {data_hz} Hz, as an accelerometer's: native rate, linear bands"
    if len({recording.channels for recording in found.recordings}) > 1:
        why += "; recordings differ in channels, so each channel is judged alone"
    return why
