"""Sensor faults and level, on signals whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stream_app.pipeline.sensor import level_dbfs, sensor_fault

N = 16_000


def sine(amplitude: float, offset: float = 0.0) -> np.ndarray:
    return (offset + amplitude * np.sin(2 * np.pi * 440 * np.arange(N) / 16_000)).astype(np.float32)[np.newaxis]


def test_level_of_a_full_scale_sine() -> None:
    assert level_dbfs(sine(1.0)) == pytest.approx(-3.0103, abs=1e-3)


def test_level_ignores_each_channels_own_offset() -> None:
    tilted = np.concatenate([sine(0.01, offset=0.9), sine(0.01, offset=-0.5)])
    assert level_dbfs(tilted) == pytest.approx(level_dbfs(sine(0.01)), abs=1e-3)


def test_level_is_over_all_channels() -> None:
    one_silent = np.concatenate([sine(0.5), np.zeros((1, N), np.float32)])
    assert level_dbfs(one_silent) == pytest.approx(level_dbfs(sine(0.5)) - 10 * math.log10(2), abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.25, -1.0])
def test_a_constant_is_silent_and_flat(value: float) -> None:
    constant = np.full((1, N), value, np.float32)
    assert level_dbfs(constant) == -200
    assert sensor_fault(constant) == "flat"


def test_flat_up_to_a_peak_to_peak_of_two_to_the_minus_20() -> None:
    step = np.zeros((1, N), np.float32)
    step[0, ::2] = 2.0**-20
    assert sensor_fault(step) == "flat"
    step[0, ::2] = 2.0**-19
    assert sensor_fault(step) is None


def test_one_flat_channel_is_enough_and_wins_over_a_clipped_one() -> None:
    clipped = np.clip(sine(2.0), -1, 1)
    assert sensor_fault(np.concatenate([clipped, np.zeros((1, N), np.float32)])) == "flat"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("runs", "length", "fault"), [(6, 3, "clipped"), (5, 3, None), (400, 2, None), (1, 16, "clipped")]
)
def test_clipped_from_a_share_of_0_1_percent_in_runs_of_three(
    runs: int, length: int, fault: str | None, sign: int
) -> None:
    signal = np.random.default_rng(0).normal(0, 0.1, (1, N)).clip(-0.9, 0.9).astype(np.float32)
    for run in range(runs):
        signal[0, 30 * run : 30 * run + length] = sign
    assert sensor_fault(signal) == fault


def test_equal_samples_below_full_scale_are_not_clipped() -> None:
    signal = sine(0.5)
    signal[0, :8000] = 0.998
    assert sensor_fault(signal) is None
    signal[0, :8000] = 0.999
    assert sensor_fault(signal) == "clipped"


def test_a_loud_sine_is_not_clipped_and_an_overdriven_one_is() -> None:
    assert sensor_fault(sine(0.99)) is None
    assert sensor_fault(np.clip(sine(1.2), -1, 1)) == "clipped"
    assert sensor_fault(np.concatenate([sine(0.1), np.clip(sine(1.2), -1, 32767 / 32768)])) == "clipped"


def _clipped_by_loop(channel: np.ndarray) -> bool:
    total, run = 0, 1
    for previous, sample in zip(channel, [*channel[1:], None], strict=True):
        if sample == previous:
            run += 1
            continue
        if run >= 3 and abs(previous) >= np.float32(0.999):
            total += run
        run = 1
    return total >= 0.001 * len(channel)


@given(hnp.arrays(np.float32, st.integers(3, 60), elements=st.sampled_from([0.0, 0.5, 0.999, 1.0, -1.0])))
def test_clipping_equals_a_plain_loop(channel: np.ndarray) -> None:
    fault = sensor_fault(channel[np.newaxis])
    if fault != "flat":
        assert (fault == "clipped") == _clipped_by_loop(channel)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=50),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_level_is_finite_for_every_finite_signal(samples: np.ndarray) -> None:
    assert math.isfinite(level_dbfs(samples))
    assert level_dbfs(samples) >= -200
