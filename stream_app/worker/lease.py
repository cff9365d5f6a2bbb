"""Whose frames are these: what a rebalance leaves of a batch in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Lease:
    """Says which fetched frames may be worked on: those of the group's current generation and of this worker's share.

    Every rebalance makes a new generation, after which the consumer goes back to the committed offsets. So frames of
    an older one come again, here or elsewhere, and can be dropped. So can those that slip in before the states of
    their streams are here, or that were on their way while their partition went elsewhere.

    Args:
        generation: Returns the group's current generation as this worker knows it.
    """

    def __init__(self, generation: Callable[[], int]) -> None:
        self._generation = generation
        self._opened: int | None = None
        self._partitions: frozenset[int] = frozenset()

    def close(self) -> None:
        """Begin nothing more of the current generation; what has begun may end."""
        self._opened = None

    def open(self, generation: int, partitions: Iterable[int]) -> None:
        """Take frames of ``partitions`` in this generation: their states are here."""
        self._opened, self._partitions = generation, frozenset(partitions)

    @property
    def generation(self) -> int:
        """The group's current generation."""
        return self._generation()

    def admits(self, generation: int, partition: int) -> bool:
        """Whether work on a frame may begin."""
        return generation == self._generation() == self._opened and partition in self._partitions

    def holds(self, generation: int) -> bool:
        """Whether work on a frame that has begun may go on: no other worker has its partition yet."""
        return generation == self._generation()
