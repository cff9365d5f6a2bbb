"""How many frames the machines may have recorded by now: a steady rate, held up where a fault is to come first."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.gateways import Gateways

TICK_S = 0.2


class Traffic:
    """Lets the gateways publish.

    Args:
        gateways: All of them.
        frames: Of each machine.
        rate: Frames of each machine a second.

    Attributes:
        number: How many frames each machine may have recorded by now.
        limit: Where to wait; raise it to go on.
    """

    def __init__(self, gateways: Gateways, frames: int, rate: float) -> None:
        self._gateways = gateways
        self._frames = frames
        self._rate = rate
        self.number = 0.0
        self.limit = 0.0

    async def run(self) -> None:
        """Let frames out until all are out.

        Raises:
            ServiceUnavailable: A gateway failed.
        """
        before_s = time.monotonic()
        while self.number < self._frames:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            self.number = min(self.number + (now_s - before_s) * self._rate, self.limit, float(self._frames))
            before_s = now_s
            self._gateways.allow(int(self.number))
            self._gateways.check()

    async def reach(self, number: float) -> None:
        """Return when each machine may have recorded ``number`` frames."""
        self.limit = max(self.limit, number)
        while self.number < min(number, self._frames):
            await asyncio.sleep(TICK_S)
