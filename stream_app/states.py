"""The stream states of the partitions that this worker has, as their changelog says they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from stream_app.pipeline import StreamState, newest_of

log = logging.getLogger(__name__)


def state_key(stream: tuple[str, str]) -> bytes:
    """Return the changelog's key of a stream: machine id, NUL, source ('' for none)."""
    return f"{stream[0]}\0{stream[1]}".encode()


def stream_of(key: bytes) -> tuple[str, str]:
    """Return the machine id and source of a changelog key."""
    machine_id, _, source = key.decode().partition("\0")
    return machine_id, source


class StreamStates:
    """States by partition and stream. Only what the changelog has acknowledged, or was read from it, is in here.

    A partition's states go when the partition does: another worker may move them before it comes back.

    Attributes:
        on_put: Called with each stream and state that the changelog has acknowledged.
    """

    def __init__(self) -> None:
        self.on_put: Callable[[bytes, StreamState], object] = lambda _key, _state: None
        self._by_partition: dict[int, dict[bytes, StreamState | bytes]] = {}

    def get(self, partition: int, key: bytes) -> StreamState | None:
        """Return a stream's state, or None."""
        states = self._by_partition.get(partition)
        state = states.get(key) if states else None
        if states is None or not isinstance(state, bytes):
            return state  # type: ignore[return-value]
        # Read from the changelog as bytes; most streams of a large plant are unpacked when their next frame comes.
        unpacked = states[key] = StreamState.from_bytes(state)
        return unpacked

    def put(self, partition: int, key: bytes, state: StreamState) -> None:
        """Keep a state that the changelog has acknowledged."""
        self._by_partition.setdefault(partition, {})[key] = state
        self.on_put(key, state)

    def restore(self, partition: int, key: bytes, raw: bytes | None) -> None:
        """Apply one changelog record; of two for a stream the one with the newer recording time stays.

        A worker that wakes from a long pause may have written an old state last. With equal times the later
        record counts: an alert of silence moves a state without a frame.
        """
        states = self._by_partition.setdefault(partition, {})
        if raw is None:
            states.pop(key, None)
            return
        try:
            newest_us = newest_of(raw)
        except ValueError as error:
            # A state that can't be read must not keep the whole worker from starting.
            log.error("state of stream %r ignored: %s", stream_of(key), error)
            return
        known = states.get(key)
        if known is None or newest_us >= (newest_of(known) if isinstance(known, bytes) else known.newest_us):
            states[key] = raw

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget the states of ``partitions``."""
        for partition in partitions:
            self._by_partition.pop(partition, None)

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Forget the states of all other partitions."""
        self.drop(self._by_partition.keys() - set(partitions))

    def partitions(self) -> list[int]:
        """Return the partitions that have streams."""
        return sorted(self._by_partition)

    def items(self, partition: int) -> Iterator[tuple[bytes, StreamState]]:
        """Iterate over a partition's streams."""
        for key in list(self._by_partition.get(partition, ())):
            state = self.get(partition, key)
            if state is not None:
                yield key, state

    def __len__(self) -> int:
        return sum(map(len, self._by_partition.values()))
