"""When frames were recorded, and when they are sent.

Two rules hold for every source. Recording times grow from frame to frame by the frame's length, so that what the
worker computes by recording time is what a backtest over the same frames computes. And no frame is sent before its
recording has ended by the clock, so none is ever ahead of its record's timestamp, however fast a folder is played.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Protocol

from edge_agent.framer import FrameSamples
from schemas.errors import SettingsError
from schemas.frame import MAX_AHEAD_US
from schemas.times import MICROSECONDS, format_rfc3339

log = logging.getLogger(__name__)
GAP_US = 1 * MICROSECONDS
MAX_SLEW = 1000  # a frame's time is shortened by at most one part in so many


class Clock(Protocol):
    """The time, and waiting for it; tests have one of their own."""

    def now_us(self) -> int:
        """Return microseconds since the epoch."""
        ...

    def elapsed_s(self) -> float:
        """Return seconds since some moment, never set back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Return microseconds since the epoch."""
        return time.time_ns() // 1000

    def elapsed_s(self) -> float:
        """Return seconds since the machine started."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without holding up the event loop."""
        await asyncio.sleep(seconds)


class _Present:
    """The wall clock, as long as it is not set back.

    It may run a little slower or jump forward. Once it is behind by more than ``GAP_US``, time goes on from where it
    was by the clock that is never set back, until the wall clock has caught up: waiting for it would stop the source.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us = clock.now_us() - self._steady_us()
        self._set_back = False

    def now_us(self) -> int:
        """Return microseconds since the epoch, never more than ``GAP_US`` less than before."""
        wall_us, expected_us = self._clock.now_us(), self._steady_us() + self._offset_us
        behind_us = expected_us - wall_us
        if behind_us <= GAP_US:
            self._offset_us += wall_us - expected_us
            self._set_back = False
            return wall_us
        if not self._set_back:
            self._set_back = True
            log.error(
                "the clock was set back by %.1f s to %s; recording times go on from %s. The worker refuses frames that "
                "are more than %d minutes ahead: if this was no mistake, start the agent anew",
                behind_us / MICROSECONDS,
                format_rfc3339(wall_us),
                format_rfc3339(expected_us),
                MAX_AHEAD_US // (60 * MICROSECONDS),
            )
        return expected_us

    def _steady_us(self) -> int:
        return round(self._clock.elapsed_s() * MICROSECONDS)


class Timeline(Protocol):
    """Gives each frame its recording time."""

    async def stamp(self, frame: FrameSamples) -> int:
        """Wait until the frame may be sent; return its recording time in microseconds since the epoch."""
        ...


class PlaybackTimes:
    """Times for what was recorded before: a folder, the simulator.

    Args:
        clock: The time.
        duration_s: How long one round of the source lasts, or None for without end.
        speed: Seconds of signal sent a second; ``inf`` for as fast as they can be sent.
        start_us: When the signal was recorded. By default now at the speed of real time; played faster, so long ago
            that it ends now. A source that goes on beyond the present is sent at the speed of real time from there.

    Raises:
        SettingsError: The speed or the start makes no sense.
    """

    def __init__(
        self, clock: Clock, *, duration_s: float | None, speed: float = 1.0, start_us: int | None = None
    ) -> None:
        if not speed > 0:
            raise SettingsError(f"speed is {speed:g}; expected more than 0, or max")
        self._present = _Present(clock)
        now_us = self._present.now_us()
        if start_us is not None and start_us > now_us:
            raise SettingsError(
                f"start is {format_rfc3339(start_us)}, now is {format_rfc3339(now_us)}; expected a past"
            )
        if start_us is None and speed > 1:
            if duration_s is None:
                raise SettingsError("signal without end can be played faster than real time only from a past start")
            start_us = now_us - math.ceil(duration_s * MICROSECONDS)
        self._clock = clock
        self._speed = speed
        self._start_us = now_us if start_us is None else start_us
        self._began_s: float | None = None

    async def stamp(self, frame: FrameSamples) -> int:
        """Wait until the frame's end is due at the speed and has passed by the clock; return its recording time."""
        if self._began_s is None:
            self._began_s = self._clock.elapsed_s()
        due_s = self._began_s + frame.end_us / MICROSECONDS / self._speed
        await self._wait(due_s - self._clock.elapsed_s())
        await self._wait((self._start_us + frame.end_us - self._present.now_us()) / MICROSECONDS)
        return self._start_us + frame.offset_us

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await self._clock.sleep(seconds)


class LiveTimes:
    """Times for what is recorded now: samples are counted, and held against the clock.

    A converter's crystal and the machine's clock drift apart by seconds a day. Where the count falls behind by more
    than 1 s (samples were lost, or the crystal is slow), the next frame's time jumps forward. Where it runs ahead,
    each frame takes up to a thousandth less until the two agree. Signal that comes much faster than real time, such as
    a file on standard input, is held back to real time. A clock that is set back stops nothing: see the log.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._present = _Present(clock)
        self._next_us: int | None = None
        self.gaps = 0

    async def stamp(self, frame: FrameSamples) -> int:
        """Return the frame's recording time, after a wait if it lies ahead of the clock."""
        length_us = frame.end_us - frame.offset_us
        if self._next_us is None:
            self._next_us = self._present.now_us() - length_us
        late_us = self._present.now_us() - (self._next_us + length_us)
        if late_us > GAP_US:
            self.gaps += 1
            log.warning("recording times jump forward by %.1f s: signal was lost, or came late", late_us / MICROSECONDS)
            self._next_us += late_us
        elif late_us < 0:
            await self._clock.sleep(-late_us / MICROSECONDS)
        recorded_us = self._next_us
        self._next_us += length_us - min(max(0, -late_us), length_us // MAX_SLEW)
        return recorded_us
