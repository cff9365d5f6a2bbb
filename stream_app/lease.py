"""Whose frames are these: what a rebalance leaves of a batch in flight."""

from __future__ import annotations

from collections.abc import Callable


class Lease:
    """Says whether frames fetched in one generation of the consumer group may still be worked on.

    Every rebalance makes a new generation, after which the consumer goes back to the committed offsets. So frames of
    an older one come again, here or elsewhere, and can be dropped.

    Args:
        generation: Returns the group's current generation as this worker knows it.
    """

    def __init__(self, generation: Callable[[], int]) -> None:
        self._generation = generation
        self._closed: int | None = None

    def close(self) -> None:
        """Begin nothing more of the current generation; what has begun may end."""
        self._closed = self._generation()

    def open(self) -> None:
        """Take frames again: partitions were assigned."""
        self._closed = None

    @property
    def generation(self) -> int:
        """The group's current generation."""
        return self._generation()

    def admits(self, generation: int) -> bool:
        """Whether work on a frame may begin."""
        return generation == self._generation() and generation != self._closed

    def holds(self, generation: int) -> bool:
        """Whether work on a frame that has begun may go on: no other worker has its partition yet."""
        return generation == self._generation()
