"""Recording times and pace, on a clock that only sleeping moves."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest

from edge_agent.framer import FrameSamples
from edge_agent.timeline import LiveTimes, PlaybackTimes, Timeline
from recordings.samples import SignalFormat
from schemas.errors import SettingsError
from tests.edge_agent.fakes import START_US, FakeClock

SECOND = 1_000_000


def _frames(count: int) -> list[FrameSamples]:
    one_second = SignalFormat(100, 1, "pcm16")
    return [FrameSamples(np.zeros((1, 100), np.int16), one_second, n * SECOND) for n in range(count)]


async def test_real_time_sends_a_frame_when_its_recording_ends() -> None:
    clock = FakeClock()
    times = PlaybackTimes(clock, duration_s=3.0)
    for n, frame in enumerate(_frames(3)):
        assert await times.stamp(frame) == START_US + n * SECOND
        assert clock.us == START_US + (n + 1) * SECOND


async def test_faster_playback_ends_now_and_keeps_the_pace() -> None:
    clock = FakeClock()
    times = PlaybackTimes(clock, duration_s=60.0, speed=20)
    recorded = [await times.stamp(frame) for frame in _frames(60)]
    assert recorded == [START_US + (n - 60) * SECOND for n in range(60)]
    assert clock.us - START_US == pytest.approx(3 * SECOND, abs=60)


async def test_as_fast_as_possible_waits_for_nothing() -> None:
    clock = FakeClock()
    times = PlaybackTimes(clock, duration_s=600.0, speed=math.inf)
    recorded = [await times.stamp(frame) for frame in _frames(600)]
    assert recorded[-1] + SECOND == START_US
    assert clock.slept == []


async def test_playback_that_reaches_the_present_goes_on_in_real_time() -> None:
    clock = FakeClock()
    times = PlaybackTimes(clock, duration_s=5.0, speed=math.inf)
    for frame in _frames(20):
        recorded_us = await times.stamp(frame)
        assert recorded_us + SECOND <= clock.us
    assert clock.us == START_US + 15 * SECOND


async def test_a_given_start() -> None:
    clock = FakeClock()
    times = PlaybackTimes(clock, duration_s=None, speed=math.inf, start_us=START_US - 100 * SECOND)
    assert await times.stamp(_frames(1)[0]) == START_US - 100 * SECOND


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 0.0}, "speed is 0"),
        ({"start_us": START_US + 1}, "expected a past"),
        ({"speed": 2.0, "duration_s": None}, "only from a past start"),
    ],
)
def test_playback_that_makes_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        PlaybackTimes(FakeClock(), **{"duration_s": 1.0, **options})


async def test_live_frames_start_a_length_apart_though_they_come_unevenly() -> None:
    clock, times, recorded = FakeClock(), None, []
    times = LiveTimes(clock)
    for n, frame in enumerate(_frames(10)):
        clock.us = START_US + n * SECOND + (n % 3) * 100_000
        recorded.append(await times.stamp(frame))
    assert np.diff(recorded).tolist() == [SECOND] * 9
    assert recorded[0] == START_US - SECOND


async def test_a_fast_crystal_never_gets_ahead_of_the_clock() -> None:
    clock = FakeClock()
    times = LiveTimes(clock)
    arrives_us, previous = START_US, 0
    for frame in _frames(2000):
        arrives_us += SECOND - 50  # 50 parts in a million
        clock.us = max(clock.us, arrives_us)
        recorded_us = await times.stamp(frame)
        assert recorded_us > previous
        assert recorded_us + SECOND <= clock.us
        previous = recorded_us
    assert clock.us - arrives_us < 5_000  # what waiting has cost stays small
    assert times.gaps == 0


async def test_lost_signal_is_a_gap_in_time() -> None:
    clock = FakeClock()
    times = LiveTimes(clock)
    first, second, third = _frames(3)
    await times.stamp(first)
    clock.us += 30 * SECOND
    assert await times.stamp(second) == clock.us - SECOND
    clock.us += SECOND
    assert await times.stamp(third) == clock.us - SECOND
    assert times.gaps == 1


async def test_a_file_on_standard_input_is_held_back_to_real_time() -> None:
    clock = FakeClock()
    times = LiveTimes(clock)
    recorded = [await times.stamp(frame) for frame in _frames(100)]
    assert clock.us - START_US == pytest.approx(99 * SECOND, rel=2e-3)
    assert all(np.diff(recorded) > 0.99 * SECOND)


# A wall clock that is set while the agent runs


def _timelines(clock: FakeClock) -> list[Timeline]:
    return [LiveTimes(clock), PlaybackTimes(clock, duration_s=None)]


@pytest.mark.parametrize("kind", [0, 1], ids=["live", "playback"])
@pytest.mark.parametrize("back_s", [2, 3600, 10 * 365 * 86_400])
async def test_a_clock_that_is_set_back_stops_nothing(kind: int, back_s: int, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    times = _timelines(clock)[kind]
    recorded = []
    for n, frame in enumerate(_frames(10)):
        clock.set_by_us = 0 if n < 5 else -back_s * SECOND
        clock.us = max(clock.us, START_US + n * SECOND)
        recorded.append(await times.stamp(frame))
    assert all(np.diff(recorded) >= 0.99 * SECOND)
    assert clock.us - START_US <= 11 * SECOND
    assert max(clock.slept, default=0) <= 1
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"set back by {back_s}.0 s" in told.getMessage()


async def test_a_clock_that_is_right_again_is_followed_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    times = LiveTimes(clock)
    for n, frame in enumerate(_frames(30)):
        clock.us = START_US + n * SECOND
        clock.set_by_us = -60 * SECOND if n % 10 >= 5 else 0
        assert await times.stamp(frame) == clock.us - SECOND
    assert len(caplog.records) == 3
    clock.us += SECOND
    clock.set_by_us = 60 * SECOND
    assert await times.stamp(_frames(31)[30]) == clock.now_us() - SECOND
    assert times.gaps == 1


async def test_a_clock_that_is_nudged_back_is_followed() -> None:
    clock = FakeClock()
    times = LiveTimes(clock)
    for n, frame in enumerate(_frames(100)):
        clock.us = max(clock.us, START_US + n * SECOND)
        clock.set_by_us = -n * 10_000
        recorded_us = await times.stamp(frame)
        assert recorded_us + SECOND <= clock.now_us()  # never ahead of its record's timestamp
