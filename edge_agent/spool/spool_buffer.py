"""The spool between capture and the broker: what the agent awaits, with the disk's work in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from edge_agent.outgoing import OutgoingFrame
from edge_agent.spool.spool import Spool

Answer = TypeVar("Answer")


class SpoolBuffer:
    """A :class:`Spool` as the agent's :class:`~edge_agent.outgoing.FrameBuffer`.

    Args:
        spool: Where the frames are; closed by :meth:`shut`.
        drop_oldest: The source is live and can't wait: a full spool lets its oldest frames go; else :meth:`put` waits.
    """

    def __init__(self, spool: Spool, *, drop_oldest: bool) -> None:
        self._spool, self._drop_oldest = spool, drop_oldest
        self._closed = False
        self._changed = asyncio.Condition()
        # Of a recording that is played, only what an earlier run left is a backlog: the rest is as fast as asked for.
        self._backlog_until = spool.newest

    def __len__(self) -> int:
        return len(self._spool)

    @property
    def dropped_frames(self) -> int:
        """Frames let go since the agent started."""
        return self._spool.dropped_frames

    @property
    def dropped_bytes(self) -> int:
        """Their bytes."""
        return self._spool.dropped_bytes

    async def put(self, frame: OutgoingFrame) -> None:
        """Write a frame to disk; wait for room, or make some."""
        async with self._changed:
            if not self._drop_oldest:
                await self._changed.wait_for(lambda: self._spool.fits(len(frame.value) + 1024))
            await _in_thread(lambda: self._spool.append(frame))
            self._changed.notify_all()

    async def next(self) -> OutgoingFrame | None:
        """Return the oldest frame, which stays here until :meth:`done`; None when closed and empty."""
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: len(self._spool) or self._closed)
                head = await _in_thread(self._spool.head)
                if head is not None:
                    return head[1]
                if self._closed and not len(self._spool):
                    return None

    async def done(self) -> None:
        """Delete the frame that :meth:`next` returned: the broker has it."""
        async with self._changed:
            await _in_thread(self._spool.done)
            self._changed.notify_all()

    async def close(self) -> None:
        """Say that no frame follows."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def shut(self) -> None:
        """Close the files; what waits is there for the next run."""
        async with self._changed:
            await _in_thread(self._spool.close)

    def connected(self) -> None:
        """Say that the broker was just reached: what a live source has waiting is a backlog."""
        if self._drop_oldest:
            self._backlog_until = self._spool.newest

    @property
    def backlog(self) -> bool:
        """Whether the frame that :meth:`next` returned waited for the broker to come."""
        number = self._spool.head_number
        return number is not None and number <= self._backlog_until


async def _in_thread(work: Callable[[], Answer]) -> Answer:
    """Return what ``work`` does; even if cancelled, wait until it has ended: the files are one thread's at a time."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
