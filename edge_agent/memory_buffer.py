"""What waits between capture and the broker, in memory; see :mod:`edge_agent.spool` for what waits on disk."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from edge_agent.outgoing import OutgoingFrame

log = logging.getLogger(__name__)


class MemoryBuffer:
    """Frames in order, at most ``limit_bytes`` of them, and always room for one.

    A frame stays until :meth:`done` says that the broker has it. With ``drop_oldest`` (live sources can't wait), a full
    buffer lets the oldest frames go and counts them; otherwise :meth:`put` waits.

    Attributes:
        dropped_frames, dropped_bytes: What was let go.
    """

    def __init__(self, limit_bytes: int, *, drop_oldest: bool) -> None:
        self._limit_bytes = limit_bytes
        self._drop_oldest = drop_oldest
        self._frames: deque[OutgoingFrame] = deque()
        self._bytes = 0
        self._sending = False
        self._closed = False
        self._changed = asyncio.Condition()
        self.dropped_frames = 0
        self.dropped_bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    async def put(self, frame: OutgoingFrame) -> None:
        """Append a frame; wait for room, or make some."""
        async with self._changed:
            if self._drop_oldest:
                self._make_room(len(frame.value))
            else:
                await self._changed.wait_for(lambda: self._fits(len(frame.value)))
            self._frames.append(frame)
            self._bytes += len(frame.value)
            self._changed.notify_all()

    async def next(self) -> OutgoingFrame | None:
        """Return the oldest frame, which stays here until :meth:`done`; None when closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._frames or self._closed)
            self._sending = bool(self._frames)
            return self._frames[0] if self._frames else None

    async def done(self) -> None:
        """Remove the frame that :meth:`next` returned: the broker has it."""
        async with self._changed:
            self._bytes -= len(self._frames.popleft().value)
            self._sending = False
            self._changed.notify_all()

    async def close(self) -> None:
        """Say that no frame follows."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def connected(self) -> None:
        """Nothing follows from it: what is in memory is sent as fast as it can be."""

    @property
    def backlog(self) -> bool:
        """Never."""
        return False

    def _fits(self, size: int) -> bool:
        return not self._frames or self._bytes + size <= self._limit_bytes

    def _make_room(self, size: int) -> None:
        oldest = 1 if self._sending else 0  # the one being sent may be on the broker's disk already
        before = self.dropped_frames
        while not self._fits(size) and len(self._frames) > oldest:
            gone = self._frames[oldest]
            del self._frames[oldest]
            self._bytes -= len(gone.value)
            self.dropped_frames += 1
            self.dropped_bytes += len(gone.value)
        if before == 0 and self.dropped_frames:
            log.error("the buffer of %d bytes is full: the oldest frames are dropped and counted", self._limit_bytes)
