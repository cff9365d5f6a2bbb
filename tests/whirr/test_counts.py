"""How many of what, in messages."""

from __future__ import annotations

from whirr.counts import counted


def test_a_count_and_what_is_counted_agree() -> None:
    assert [counted(number, "frame") for number in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert [counted(number, "frame is", "frames are") for number in (1, 2)] == ["1 frame is", "2 frames are"]
    assert counted(1234, "retry", "retries", spec=",") == "1,234 retries"
