"""Framing: every sample once, in order, at the right time, in no frame that is too short."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.block import Block
from edge_agent.framer import Framer, FrameSamples
from recordings.cut import frame_samples
from recordings.samples import SignalFormat
from schemas.errors import SettingsError

RATES = st.sampled_from([100, 200, 333, 1000, 8000, 11_025, 44_100])


def _counting(samples: int, first: int, rate_hz: int, ends: bool = False) -> Block:
    numbers = np.arange(first, first + samples, dtype=np.int32)[np.newaxis]
    return Block(numbers, SignalFormat(rate_hz, 1, "pcm32"), ends_recording=ends)


def _frame(framer: Framer, lengths: list[int], rate_hz: int) -> list[FrameSamples]:
    frames, first = [], 0
    for length in lengths:
        frames += framer.push(_counting(length, first, rate_hz))
        first += length
    return frames + list(framer.flush())


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), RATES, st.floats(0.1, 3.0))
def test_samples_come_out_once_in_order_however_they_go_in(lengths: list[int], rate_hz: int, frame_s: float) -> None:
    framer = Framer(frame_s)
    frames = _frame(framer, lengths, rate_hz)
    came = np.concatenate([frame.samples[0] for frame in frames]) if frames else np.zeros(0)
    left_out = round(framer.left_out_s * rate_hz)
    assert np.array_equal(came, np.arange(sum(lengths) - left_out))
    at_once = _frame(Framer(frame_s), [sum(lengths)], rate_hz)
    assert [(c.offset_us, c.samples.tolist()) for c in frames] == [(c.offset_us, c.samples.tolist()) for c in at_once]


@given(st.integers(1, 20_000), RATES, st.floats(0.1, 3.0))
def test_lengths_and_what_is_left(samples: int, rate_hz: int, frame_s: float) -> None:
    framer = Framer(frame_s)
    frames = _frame(framer, [samples], rate_hz)
    length = frame_samples(frame_s, rate_hz)
    assert length >= frame_s * rate_hz - 1e-5
    assert all(frame.samples.shape[1] == length for frame in frames[:-1])
    assert all(frame.samples.shape[1] * 10 >= rate_hz for frame in frames)
    assert all(frame.samples.shape[1] * 2 >= length for frame in frames[1:])  # a recording shorter than a frame is one
    left = samples - sum(frame.samples.shape[1] for frame in frames)
    assert (frames and left * 2 < length) or left * 10 < rate_hz


@given(st.lists(st.tuples(st.integers(1, 3000), RATES), min_size=1, max_size=6), st.floats(0.1, 1.0))
def test_times_follow_the_signal_over_recordings_of_any_rate(recordings: list[tuple[int, int]], frame_s: float) -> None:
    framer, frames = Framer(frame_s), []
    for samples, rate_hz in recordings:
        frames += framer.push(_counting(samples, 0, rate_hz, ends=True))
    for one, following in pairwise(frames):
        assert following.offset_us >= one.end_us
    total_us = sum(samples / rate_hz for samples, rate_hz in recordings) * 1e6
    passed = sum(frame.samples.shape[1] / frame.format.rate_hz for frame in frames) + framer.left_out_s
    assert passed * 1e6 == pytest.approx(total_us)
    if frames:
        assert frames[-1].end_us <= total_us + 1


def test_frames_start_a_length_apart_to_the_microsecond() -> None:
    frames = _frame(Framer(0.1), [11_025 * 7], 11_025)
    # 1103 samples: 0.1 s, rounded up.
    assert [frame.offset_us for frame in frames[:4]] == [0, 100_045, 200_090, 300_136]


def test_a_change_of_format_ends_the_recording() -> None:
    framer = Framer(1.0)
    assert list(framer.push(_counting(700, 0, 1000))) == []
    (frame,) = framer.push(_counting(100, 0, 200))
    assert (frame.samples.shape[1], frame.format.rate_hz, frame.offset_us) == (700, 1000, 0)
    (last,) = framer.flush()
    assert (last.offset_us, last.format.rate_hz) == (700_000, 200)


@pytest.mark.parametrize("frame_s", [0.0, 0.09, 60.1, float("nan")])
def test_a_length_out_of_range(frame_s: float) -> None:
    with pytest.raises(SettingsError, match=r"expected 0.1 to 60"):
        Framer(frame_s)
