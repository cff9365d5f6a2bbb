"""What the agent's tests put in place of a clock, a broker and a sensor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np

from edge_agent.block import Block
from edge_agent.outgoing import OutgoingFrame
from edge_agent.publisher import RetryableError
from recordings.samples import SignalFormat
from schemas import Frame, FrameRecord, parse_frame

START_US = 1_750_000_000_000_000


class FakeClock:
    """A clock that sleeping moves. ``set_by_us`` is what the wall clock, and it alone, was set by."""

    def __init__(self, now_us: int = START_US) -> None:
        self.us = now_us
        self.set_by_us = 0
        self.slept: list[float] = []

    def now_us(self) -> int:
        return self.us + self.set_by_us

    def elapsed_s(self) -> float:
        return self.us / 1e6

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.us += round(seconds * 1e6)


class FakeSink:
    """A topic in memory. ``failures`` are raised in turn by ``open`` and ``send`` (None lets one pass)."""

    def __init__(self, clock: FakeClock | None = None, failures: Sequence[Exception | None] = ()) -> None:
        self.clock = clock or FakeClock()
        self.failures = list(failures)
        self.frames: list[OutgoingFrame] = []
        self.sent_at_us: list[int] = []
        self.opened = 0
        self.closed = 0

    def _fail(self) -> None:
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure

    async def open(self) -> None:
        self.opened += 1
        self._fail()

    async def send(self, frame: OutgoingFrame) -> None:
        self._fail()
        self.frames.append(frame)
        self.sent_at_us.append(self.clock.now_us())

    async def close(self) -> None:
        self.closed += 1

    def parsed(self) -> list[Frame]:
        """Return the frames as a worker sees them; each one's identity must be what its header says."""
        found = []
        for frame, at_us in zip(self.frames, self.sent_at_us, strict=True):
            record = FrameRecord(frame.key, frame.value, frame.headers, timestamp_ms=at_us // 1000)
            parsed = parse_frame(record)
            assert parsed.foreign_id == parsed.frame_id
            assert parsed.recorded_us == frame.recorded_us
            found.append(parsed)
        return found


class ListSource:
    """Blocks from a list."""

    def __init__(self, blocks: Sequence[Block], *, live: bool = False) -> None:
        self.blocks = blocks
        self.live = live
        self.formats = tuple({block.format: None for block in blocks})
        self.duration_s: float | None = sum(s.samples.shape[1] / s.format.rate_hz for s in blocks)

    def counts(self) -> dict[str, int]:
        return {}

    async def __aiter__(self) -> AsyncIterator[Block]:
        for block in self.blocks:
            yield block


def away() -> RetryableError:
    return RetryableError("no Kafka answers")


def noise(samples: int, channels: int = 1, rate_hz: int = 1000, seed: int = 0) -> Block:
    """Return noise of full scale, which no encoder makes smaller."""
    drawn = np.random.default_rng(seed).integers(-(2**15), 2**15, (channels, samples))
    return Block(drawn.astype(np.int16), SignalFormat(rate_hz, channels, "pcm16"))
