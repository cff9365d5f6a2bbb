"""Windows of a frame's spectrogram: which columns each holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FrameRejected
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.features import windows


def numbered(columns: int, channels: int = 1, bands: int = 2) -> np.ndarray:
    """A spectrogram in which every cell holds the number of its column, plus 1000 per band and channel."""
    offset = 1000 * np.arange(channels * bands).reshape(channels, bands, 1)
    return (offset + np.arange(columns)).astype(np.float32)


def starts(columns: int, width: int) -> list[int]:
    cut = windows(numbered(columns), FeatureConfig(window_columns=width))
    return [int(window[0, 0, 0]) for window in cut]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (30, [0]),
        (44, [0]),
        (45, [0, 15]),
        (59, [0, 29]),
        (60, [0, 30]),
        (74, [0, 30]),
        (75, [0, 30, 45]),
        (311, list(range(0, 300, 30))),
    ],
)
def test_the_last_window_is_aligned_to_the_end_if_half_a_window_is_left(columns: int, expected: list[int]) -> None:
    assert starts(columns, 30) == expected


def test_odd_widths_count_half_exactly() -> None:
    assert starts(10 + 7, 10) == [0, 7]
    assert starts(9 + 4, 9) == [0]  # 4 of 9 is less than half
    assert starts(9 + 5, 9) == [0, 5]


def test_shorter_than_one_window_is_rejected_with_the_numbers() -> None:
    with pytest.raises(FrameRejected, match=r"29 columns.*30") as caught:
        windows(numbered(29), FeatureConfig(window_columns=30))
    assert caught.value.code == "too_short"


@given(columns=st.integers(1, 300), width=st.integers(1, 64), channels=st.integers(1, 3))
def test_windows_follow_the_rule(columns: int, width: int, channels: int) -> None:
    config = FeatureConfig(window_columns=width)
    log_mel = numbered(columns, channels)
    if columns < width:
        with pytest.raises(FrameRejected):
            windows(log_mel, config)
        return
    cut = windows(log_mel, config)
    assert cut.dtype == np.float32
    assert cut.flags.c_contiguous
    assert cut.shape[1:] == (channels, 2, width)
    first = [int(window[0, 0, 0]) for window in cut]
    for window, start in zip(cut, first, strict=True):
        np.testing.assert_array_equal(window, log_mel[..., start : start + width])
    whole, left = divmod(columns, width)
    assert first[:whole] == [index * width for index in range(whole)]
    assert first[whole:] == ([columns - width] if 2 * left >= width else [])


@given(columns=st.integers(1, 100), shortest=st.integers(1, 50), more=st.integers(0, 50))
def test_a_dynamic_time_axis_takes_the_whole_frame(columns: int, shortest: int, more: int) -> None:
    config = FeatureConfig(window_columns=shortest, time_axis="dynamic", max_columns=shortest + more)
    log_mel = numbered(columns)
    if shortest <= columns <= shortest + more:
        np.testing.assert_array_equal(windows(log_mel, config), log_mel[np.newaxis])
        return
    with pytest.raises(FrameRejected) as caught:
        windows(log_mel, config)
    assert caught.value.code == ("too_short" if columns < shortest else "too_long")
