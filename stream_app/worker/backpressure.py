"""Back-pressure: what waits in memory is bounded, from the fetch of a frame until its answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from mode.utils.queues import ThrowableQueue

from stream_app.worker.offset_tracker import MAX_AHEAD

MAX_BYTES = 32 * 1024 * 1024
MAX_FRAMES = 4096
HIGH, LOW = 0.8, 0.4
SHARE = 0.5  # of all room, that one partition may fill


class Backpressure:
    """Counts what waits, by partition, and holds back the partitions that have no more room.

    Kafka gives a partition's records in their order, so what waits of it must be held to reach what is behind it. A
    partition whose frames wait long is held back alone: the others go on. All are held back when the memory is full.

    Attributes:
        ahead: Returns how many of a partition's frames are taken and not acknowledged.
    """

    def __init__(self) -> None:
        self.ahead: Callable[[int], int] = lambda _: 0
        self.bytes = 0
        self.frames = 0
        self._bytes: dict[int, int] = defaultdict(int)
        self._frames: dict[int, int] = defaultdict(int)
        self._paused: dict[int, Callable[[], None]] = {}

    def enter(self, partition: int, size: int, frames: int = 1) -> None:
        """Count frames of ``size`` bytes together."""
        self._add(partition, size, frames)

    def leave(self, partition: int, size: int, frames: int = 1) -> None:
        """Count them no longer."""
        self._add(partition, -size, -frames)

    def pause(self, partition: int, resume: Callable[[], None]) -> bool:
        """Return whether a partition is to be paused from now on; ``resume`` is called once it need not."""
        if partition in self._paused or self._level(partition) < HIGH:
            return False
        self._paused[partition] = resume
        return True

    def resume_ready(self) -> None:
        """Resume the partitions that have room again."""
        for partition in [p for p in self._paused if self._level(p) <= LOW]:
            self._paused.pop(partition)()

    def forget_paused(self) -> None:
        """Forget what is paused; after a rebalance nothing is."""
        self._paused.clear()

    def level(self) -> float:
        """Return how full all of it is: of frames or of bytes, whichever is more."""
        return max(self.frames / MAX_FRAMES, self.bytes / MAX_BYTES)

    def _level(self, partition: int) -> float:
        own = max(self._frames[partition] / MAX_FRAMES, self._bytes[partition] / MAX_BYTES) / SHARE
        return max(self.level(), own, HIGH * self.ahead(partition) / MAX_AHEAD)

    def _add(self, partition: int, size: int, frames: int) -> None:
        self.bytes += size
        self.frames += frames
        self._bytes[partition] += size
        self._frames[partition] += frames


class FrameQueue(ThrowableQueue[Any]):  # type: ignore[misc]
    """A queue of events, each of which has some frames of a partition, that counts the frames.

    Frames have 1 kB to 1 MB. So many frames as keep the worker busy until the next fetch has returned would, at the
    large end, fill the memory.
    """

    def __init__(self, *args: Any, backpressure: Backpressure | None = None, **options: Any) -> None:
        self.backpressure = backpressure or Backpressure()
        self._frames = self._bytes = 0
        super().__init__(*args, **options)

    def _put(self, item: Any) -> None:
        super()._put(item)
        partition, size, frames = _contents(item)
        self._bytes += size
        self._frames += frames
        self.backpressure.enter(partition, size, frames)

    def _get(self) -> Any:
        item = super()._get()
        partition, size, frames = _contents(item)
        self._bytes -= size
        self._frames -= frames
        self.backpressure.leave(partition, size, frames)
        return item

    def clear(self) -> None:
        """Drop everything."""
        for item in self._queue:
            self.backpressure.leave(*_contents(item))
        super().clear()
        self._frames = self._bytes = 0
        self.backpressure.forget_paused()

    def full(self) -> bool:
        """Whether nothing more should be put in."""
        # By itself alone: whoever waits to put something in is woken when something is taken out.
        return 0 < self.maxsize <= self._frames or self._bytes >= MAX_BYTES

    def put_nowait_enhanced(
        self, value: Any, *, on_pressure_high: Callable[[], None], on_pressure_drop: Callable[[], None]
    ) -> bool:
        """Put an event in; hold its partition back when that has no more room."""
        held = self.backpressure.pause(_contents(value)[0], on_pressure_drop)
        if held:
            on_pressure_high()
        self.force_put_nowait(value)
        return held

    def maybe_endorse_pressure_drop(self) -> None:
        """Let partitions go that were held back, once there is room again."""
        self.backpressure.resume_ready()


def _contents(item: Any) -> tuple[int, int, int]:
    """Return an event's partition, and the bytes and the number of its frames; of the changelog, its record is one."""
    message = getattr(item, "message", None)
    if message is None:
        return -1, 0, 1
    frames = message.frames
    if frames is None:
        return message.partition, size_of(message), 1
    return message.partition, sum(taken.size for taken in frames), len(frames)


def size_of(one: Any) -> int:
    """Return the bytes of a record: any part of it may be the large one."""
    size = len(one.key or b"") + len(one.value or b"")
    for name, raw in one.headers or ():
        size += len(name) + len(raw or b"")
    return size
