"""Which features suit a folder of recordings, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import log2

from schemas import FeatureConfig
from schemas.errors import RecordingError, SettingsError
from schemas.frame import MAX_FRAME_S
from trainer.recording_set import RecordingSet
from trainer.train_options import FeatureOptions

SOUND_MIN_HZ = 8_000  # signals below are taken for an accelerometer's
SOUND_RATE_HZ = 16_000
SOUND_MAX_HZ = 8_000.0
SHORT_S = 0.5  # recordings shorter and faster than sound are taken for bursts of a fast accelerometer
SPECTRUM_S = 0.064  # a spectrum of sound: 1024 samples at 16 kHz


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

    - Sound (8 kHz and above): at most 16 kHz, spectra of 64 ms overlapping by half, 128 mel bands up to 8 kHz; where
      a detector takes higher rates, the recordings' own up to that, spectra of about 64 ms, bands up to half the rate.
    - Bursts (above 16 kHz, shorter than half a second, as from a bearing's accelerometer): native rate, linear bands up
      to half of it, since the news is in high bands that the mel scale lumps together.
    - Slow signals (below 8 kHz): native rate, linear bands, spectra that overlap by three quarters, of 64 samples or
      64 ms, whichever is longer.

    A window is 1 s long (0.1 s of a burst), or as long as the shortest recording or a frame if that is less.

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
    burst = data_hz > SOUND_RATE_HZ and found.shortest_s < SHORT_S
    slow = data_hz < SOUND_MIN_HZ
    sound = not (burst or slow)
    rate_hz = options.rate_hz or (min(data_hz, sound_rate_hz) if sound else data_hz)
    window_s = options.window_s or min(0.1 if burst else 1.0, found.shortest_s, frame_s or 1.0)
    samples = round(window_s * rate_hz)
    n_fft = options.n_fft or _n_fft(rate_hz, samples, sound=sound)
    hop = options.hop or max(1, n_fft // 2 if sound else n_fft // 4)
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
        bands=options.bands or (128 if sound else min(128, n_fft // 2)),
        scale=options.scale or ("mel" if sound else "linear"),
        fmax_hz=min(SOUND_MAX_HZ, nyquist_hz) if up_to_8_khz else nyquist_hz,
        window_columns=1 + (samples - n_fft) // hop,
        time_axis="dynamic" if whole_frames else "fixed",
        max_columns=1 + (int(MAX_FRAME_S) * rate_hz - n_fft) // hop if whole_frames else None,
    )
    return Choice(features, _why(data_hz, found, sound=sound, burst=burst))


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


def _n_fft(rate_hz: int, samples: int, *, sound: bool) -> int:
    """Return a power of two: 64 ms of sound; else 64 samples or 64 ms, at most a third of the window."""
    length = rate_hz * SPECTRUM_S if sound else max(64.0, rate_hz * SPECTRUM_S)
    room = samples if sound else max(samples / 3, 64)
    n_fft = int(min(2 ** round(log2(length)), 2 ** int(log2(min(room, samples)))))
    if n_fft < 16:
        raise RecordingError(f"the window has {samples} samples at {rate_hz} Hz; expected at least 16 for a spectrum")
    if sound:
        return min(n_fft, 1024 if rate_hz <= SOUND_RATE_HZ else 2048)
    return min(n_fft, 512)


def _why(data_hz: int, found: RecordingSet, *, sound: bool, burst: bool) -> str:
    if sound:
        why = f"sound at {data_hz} Hz"
    elif burst:
        why = f"bursts of {found.shortest_s:g} s at {data_hz} Hz: native rate, for what lies above 8 kHz"
    else:
        why = f"a slow signal at {data_hz} Hz, as an accelerometer's: native rate, linear bands"
    if len({recording.channels for recording in found.recordings}) > 1:
        why += "; recordings differ in channels, so each channel is judged alone"
    return why
