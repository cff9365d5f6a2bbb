"""The queue between the consumer and the agent, bounded by bytes as well as by frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mode.utils.queues import ThrowableQueue

MAX_BYTES = 32 * 1024 * 1024
HIGH, LOW = 0.8, 0.4


class FrameQueue(ThrowableQueue[Any]):  # type: ignore[misc]
    """A queue of events that knows how many bytes they hold.

    Frames have 1 kB to 1 MB. So many frames as keep the worker busy until the next fetch has returned would, at the
    large end, fill the memory.
    """

    _bytes = 0

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._bytes += _size(item)

    def _get(self) -> Any:
        item = super()._get()
        self._bytes -= _size(item)
        return item

    def clear(self) -> None:
        """Drop everything."""
        super().clear()
        self._bytes = 0

    def full(self) -> bool:
        """Whether nothing more should be put in."""
        return super().full() or self._bytes >= MAX_BYTES

    def level(self) -> float:
        """Return how full it is: of frames or of bytes, whichever is more."""
        frames = self.qsize() / self.maxsize if self.maxsize else 0.0
        return float(max(frames, self._bytes / MAX_BYTES))

    def in_pressure_high_state(self, callback: Callable[[], None]) -> bool:
        """Note that a partition is to be held back (``callback`` lets it go) once the queue is nearly full."""
        if callback in self._pending_pressure_drop_callbacks or self.level() < HIGH:
            return False
        self._pending_pressure_drop_callbacks.add(callback)
        return True

    def maybe_endorse_pressure_drop(self) -> None:
        """Let all partitions go that were held back, once there is room again."""
        pending = self._pending_pressure_drop_callbacks
        if pending and self.level() <= LOW:
            for let_go in pending:
                let_go()
            pending.clear()


def _size(item: Any) -> int:
    message = getattr(item, "message", None)
    return len(message.value) if message is not None and message.value is not None else 0
