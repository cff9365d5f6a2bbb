"""What goes from capture to the broker, and what it waits in meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OutgoingFrame:
    """A frame as it goes onto the topic.

    Attributes:
        key, value, headers: Of the record.
        recorded_us: Start of the recording, microseconds since the epoch.
        end_us: End of the recording.
    """

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    recorded_us: int
    end_us: int


class FrameBuffer(Protocol):
    """Frames in order, each of which stays until the broker has it: in memory, or in a spool on disk."""

    @property
    def dropped_frames(self) -> int:
        """Frames let go for want of room."""
        ...

    @property
    def dropped_bytes(self) -> int:
        """Their bytes."""
        ...

    def __len__(self) -> int: ...

    async def put(self, frame: OutgoingFrame) -> None:
        """Append a frame; wait for room, or make some."""
        ...

    async def next(self) -> OutgoingFrame | None:
        """Return the oldest frame, which stays here until :meth:`done`; None when closed and empty."""
        ...

    async def done(self) -> None:
        """Remove the frame that :meth:`next` returned: the broker has it."""
        ...

    async def close(self) -> None:
        """Say that no frame follows."""
        ...

    def connected(self) -> None:
        """Say that the broker was just reached: what waits now is a backlog."""
        ...

    @property
    def backlog(self) -> bool:
        """Whether the frame that :meth:`next` returned waited for the broker to come, and is in no hurry."""
        ...
