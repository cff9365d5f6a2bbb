"""Random signals and filters that carry their state from one block to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from edge_agent.simulator.spec import Floats, Mode

HIGHEST = 0.45  # of the sample rate: lines and resonances above are lost to the sensor's anti-aliasing filter


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return the random numbers of one part of one machine: the same for the same seed and names, whatever else is."""
    return np.random.default_rng(np.random.SeedSequence([seed, *(crc32(name.encode()) for name in names)]))


class Wander:
    """A mean-reverting random walk (Ornstein-Uhlenbeck), one knot per block of 1 s, straight lines between.

    Args:
        random: Where its steps come from.
        std: Standard deviation about 0.
        tau_s: Correlation time.
    """

    def __init__(self, random: np.random.Generator, std: float, tau_s: float) -> None:
        self._random = random
        self._std = std
        self._keep = math.exp(-1 / tau_s)
        self._now = std * random.standard_normal()

    def block(self, samples: int) -> Floats:
        """Return the next block, ``[samples]``."""
        # Beyond 1.5 deviations the walk is held: a machine's operating range is bounded, and so can be learnt.
        step = self._std * math.sqrt(1 - self._keep**2) * self._random.standard_normal()
        following = float(np.clip(self._keep * self._now + step, -1.5 * self._std, 1.5 * self._std))
        between = np.linspace(self._now, following, samples, endpoint=False)
        self._now = following
        return between


class Fir:
    """Convolution with a finite response in blocks; what rings on is added to the next block.

    Args:
        response: ``[taps]``, or ``[channels, taps]``; at most a block long.
    """

    def __init__(self, response: Floats) -> None:
        self._response = response
        self._tail: Floats | None = None

    def block(self, signal: Floats) -> Floats:
        """Return the response to the next block, ``[channels, n]`` to ``[channels, n]``."""
        samples, taps = signal.shape[-1], self._response.shape[-1]
        size = fast_size(samples + taps - 1)
        spectrum = np.fft.rfft(signal, size) * np.fft.rfft(self._response, size)
        ringing = np.fft.irfft(spectrum, size)[..., : samples + taps - 1]
        if self._tail is not None:
            ringing[..., : taps - 1] += self._tail
        self._tail = ringing[..., samples:].copy()
        return ringing[..., :samples]


def fast_size(least: int) -> int:
    """Return the smallest length of at least ``least`` that has no prime factor above 5."""
    size = least
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def colouring(rate_hz: int, slope_db_per_octave: float, modes: Sequence[Mode]) -> Floats:
    """Return a filter ``[taps]`` of unit energy that colours white noise: a slope, and peaks at the modes.

    The slope begins at 20 Hz, below which the spectrum is flat. White noise of unit variance keeps its variance.
    """

    def gain(frequency_hz: Floats) -> Floats:
        sloped = (np.maximum(frequency_hz, 20.0) / 20.0) ** (slope_db_per_octave / 6.0206)
        peaks = [_amplification(frequency_hz, mode) for mode in modes]
        return sloped * np.sqrt(1 + sum((peak**2 for peak in peaks), np.zeros_like(sloped)))

    return _sampled(gain(_grid_hz(rate_hz)))


def high_band(rate_hz: int, from_hz: float) -> Floats:
    """Return a filter ``[taps]`` of unit energy that passes what lies above ``from_hz``, with a slope of one octave."""
    frequency_hz = _grid_hz(rate_hz)
    return _sampled(np.clip(frequency_hz / from_hz, 0.0, 1.0) ** 4)


def _grid_hz(rate_hz: int) -> Floats:
    taps = 2 * max(64, rate_hz // 32)  # a step of 16 Hz
    return np.asarray(np.fft.rfftfreq(taps, 1 / rate_hz), dtype=np.float64)


def _sampled(gain: Floats) -> Floats:
    """Return the windowed linear-phase filter of unit energy whose gain is ``gain`` on the grid."""
    response = np.fft.irfft(gain)
    response = np.roll(response, len(response) // 2) * np.hanning(len(response) + 1)[:-1]
    return np.asarray(response / np.sqrt(np.sum(response**2)), dtype=np.float64)


def _amplification(frequency_hz: Floats, mode: Mode) -> Floats:
    """Return how much a resonance adds, as a ratio: at most 8 (18 dB), however lightly it is damped."""
    ratio = frequency_hz / mode.frequency_hz
    height = min(8.0, 1 / (2 * mode.damping))
    return height / np.sqrt(1 + ((ratio - 1 / np.maximum(ratio, 1e-3)) / (2 * mode.damping)) ** 2)


def ringing(rate_hz: int, mode: Mode) -> Floats:
    """Return a resonance's response to an impact, ``[taps]``, of unit energy, down to -80 dB.

    It is h(t) = exp(-zeta w t) sin(w sqrt(1 - zeta^2) t), a damped oscillator's. A mode that the sensor cannot hear
    at this rate gives a response of zeros.
    """
    if mode.frequency_hz > HIGHEST * rate_hz:
        return np.zeros(1)
    omega = 2 * math.pi * mode.frequency_hz
    taps = min(rate_hz, math.ceil(math.log(1e4) / (mode.damping * omega) * rate_hz))
    time_s = np.arange(taps) / rate_hz
    response = np.exp(-mode.damping * omega * time_s) * np.sin(omega * math.sqrt(1 - mode.damping**2) * time_s)
    return np.asarray(response / np.sqrt(np.sum(response**2)), dtype=np.float64)
