"""Resampling: length, level and content."""

from __future__ import annotations

import numpy as np
import pytest

from stream_app.pipeline.resample import resample


def tone(rate_hz: int, frequency_hz: float, channels: int = 1) -> np.ndarray:
    one = 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(rate_hz) / rate_hz)
    return np.tile(one.astype(np.float32), (channels, 1))


def test_equal_rates_return_the_same_array() -> None:
    samples = tone(16_000, 440)
    assert resample(samples, 16_000, 16_000) is samples


@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (192_000, 16_000), (200, 16_000), (25_600, 200)],
)
def test_a_second_stays_a_second(from_hz: int, to_hz: int) -> None:
    result = resample(tone(from_hz, from_hz / 40, channels=3), from_hz, to_hz)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result.shape == (3, pytest.approx(to_hz, abs=1))


def test_a_tone_keeps_its_frequency_and_level_in_every_channel() -> None:
    result = resample(tone(44_100, 1_000, channels=2), 44_100, 16_000)
    expected = tone(16_000, 1_000, channels=2)
    np.testing.assert_allclose(result[:, 200:-200], expected[:, 200:-200], atol=2e-4)


def test_what_the_lower_rate_cannot_carry_is_gone() -> None:
    assert np.abs(resample(tone(48_000, 12_000), 48_000, 16_000)[:, 200:-200]).max() < 1e-3
