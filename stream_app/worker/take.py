"""How frames are taken from Faust in batches: at once when some come, and without a timer while none do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import faust
from faust.types import EventT

_TURNS = 8  # of the event loop without another event, which takes it a few: what has come is a batch


class FrameStream(faust.Stream):  # type: ignore[misc]
    """Faust's stream, whose ``noack_take`` sleeps until a frame comes.

    Faust's own looks every ``within`` seconds whether there is one: 200 times a second here, all day, in a plant that
    sends one frame a second.
    """

    enable_acks: bool

    async def noack_take(self, max_: int, within: float) -> AsyncIterator[Sequence[EventT]]:
        """Yield events in batches, not acknowledged; the next ones wait until the caller is done with a batch.

        Args:
            max_: Most events in a batch.
            within: Longest wait, in seconds, for others after the first.
        """
        events: list[EventT] = []
        came, room = asyncio.Event(), asyncio.Event()
        room.set()

        async def keep(value: Any) -> Any:
            await room.wait()
            events.append(self.current_event)
            came.set()
            if len(events) >= max_:
                room.clear()
            return value

        enable_acks = self.enable_acks
        self.enable_acks = False
        self.add_processor(keep)
        self._enable_passive(aiter(self.channel))
        try:
            while not self.should_stop:
                await self.wait_for_stopped(came)
                await self._more(events, max_, within)
                if events:
                    room.clear()
                    yield tuple(events)
                    events.clear()
                    room.set()
                came.clear()
        finally:
            self.enable_acks = enable_acks
            self._processors.remove(keep)

    async def _more(self, events: Sequence[EventT], most: int, within_s: float) -> None:
        """Wait for other events while they come one after the other, as those of a fetch do; but not for the next."""
        loop = asyncio.get_running_loop()
        until_s, count = loop.time() + within_s, 0
        while count < len(events) < most and loop.time() < until_s:
            count = len(events)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
