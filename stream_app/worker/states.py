"""The stream states of the partitions that this worker has, as their changelog says they are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from stream_app.pipeline import StreamState, is_learning, newest_of, state_header

log = logging.getLogger(__name__)

# A state that is used often is kept unpacked; in the first frames of a stream it is not worth its four times as
# much memory: most ids that somebody makes up never send more.
_KEPT_UNPACKED_FROM = 8


def state_key(stream: tuple[str, str]) -> bytes:
    """Return the changelog's key of a stream: machine id, NUL, source ('' for none)."""
    return f"{stream[0]}\0{stream[1]}".encode()


def stream_of(key: bytes) -> tuple[str, str]:
    """Return the machine id and source of a changelog key."""
    machine_id, _, source = key.decode().partition("\0")
    return machine_id, source


class StreamKey(NamedTuple):
    """A stream, by the partition of its frames and its key in the changelog."""

    partition: int
    key: bytes


class StreamStates:
    """States by partition and stream. Only what the changelog has acknowledged, or was read from it, is in here.

    A partition's states go when the partition does: another worker may move them before it comes back.

    Attributes:
        on_put: Called with each stream and state that the changelog has acknowledged.
        on_forget: Called with each stream that is forgotten.
    """

    def __init__(self) -> None:
        self.on_put: Callable[[bytes, StreamState], object] = lambda _key, _state: None
        self.on_forget: Callable[[bytes], object] = lambda _key: None
        self._by_partition: dict[int, dict[bytes, StreamState | bytes]] = {}
        self._summaries: dict[int, dict[str, set[bytes]]] = {}
        self._learning: dict[int, Counter[bytes]] = {}
        self._epochs: dict[int, int] = {}

    def get(self, partition: int, key: bytes) -> StreamState | None:
        """Return a stream's state, or None."""
        states = self._by_partition.get(partition)
        state = states.get(key) if states else None
        if states is None or not isinstance(state, bytes):
            return state  # type: ignore[return-value]
        # Read from the changelog as bytes; most streams of a large plant are unpacked when their next frame comes.
        unpacked = StreamState.from_bytes(state)
        if unpacked.frames >= _KEPT_UNPACKED_FROM:
            states[key] = unpacked
        return unpacked

    def peek(self, partition: int, key: bytes) -> StreamState | bytes | None:
        """Return a stream's state as it is kept, unpacked or as bytes, or None."""
        return self._by_partition.get(partition, {}).get(key)

    def put(self, partition: int, key: bytes, state: StreamState) -> None:
        """Keep a state that the changelog has acknowledged."""
        self._set(partition, key, state if state.frames >= _KEPT_UNPACKED_FROM else state.to_bytes())
        self.on_put(key, state)

    def put_silent(self, partition: int, key: bytes, raw: bytes) -> None:
        """Keep a state that the changelog has acknowledged, as bytes: no frame moved it, and none is expected soon."""
        self._set(partition, key, raw)

    def forget(self, partition: int, key: bytes) -> None:
        """Forget a stream; the changelog has acknowledged its tombstone."""
        self._set(partition, key, None)
        self.on_forget(key)

    def restore(self, partition: int, key: bytes, raw: bytes | None) -> None:
        """Apply one changelog record; of two for a stream the one with the newer recording time stays.

        A worker that wakes from a long pause may have written an old state last. With equal times the later
        record counts: an alert of silence moves a state without a frame.
        """
        if raw is None:
            self._set(partition, key, None)
            return
        try:
            newest_us = newest_of(raw)
        except ValueError as error:
            # A state that can't be read must not keep the whole worker from starting.
            log.error("state of stream %r ignored: %s", key, error)
            return
        known = self.peek(partition, key)
        if known is None or newest_us >= newest_of(known):
            self._set(partition, key, raw)

    def _set(self, partition: int, key: bytes, state: StreamState | bytes | None) -> None:
        states = self._by_partition.setdefault(partition, {})
        before = states.get(key)
        if state is None:
            states.pop(key, None)
        else:
            states[key] = state
        self._note(partition, key, before, state)

    def _note(
        self, partition: int, key: bytes, before: StreamState | bytes | None, after: StreamState | bytes | None
    ) -> None:
        """Keep the index of streams whose silence is reported together with others'."""
        self._note_learning(partition, key, before, after)
        was, is_now = _summary_of(before), _summary_of(after)
        if was == is_now:
            return
        index = self._summaries.setdefault(partition, {})
        if was:
            index[was].discard(key)
            if not index[was]:
                del index[was]
        if is_now:
            index.setdefault(is_now, set()).add(key)

    def _note_learning(
        self, partition: int, key: bytes, before: StreamState | bytes | None, after: StreamState | bytes | None
    ) -> None:
        """Keep count of the machines that are learning, by how many of their streams say so."""
        change = (after is not None and is_learning(after)) - (before is not None and is_learning(before))
        if change:
            machine, counts = key.partition(b"\0")[0], self._learning.setdefault(partition, Counter())
            counts[machine] += change
            if not counts[machine]:
                del counts[machine]

    @property
    def learning_machines(self) -> int:
        """How many machines are learning, of those whose streams are here."""
        return sum(map(len, self._learning.values()))

    def summarised(self) -> dict[str, dict[int, set[bytes]]]:
        """Return, by incident of many streams' silence, the streams by partition that are silent still."""
        found: dict[str, dict[int, set[bytes]]] = {}
        for partition, incidents in self._summaries.items():
            for incident_id, keys in incidents.items():
                found.setdefault(incident_id, {})[partition] = keys
        return found

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget the states of ``partitions``."""
        for partition in partitions:
            self._by_partition.pop(partition, None)
            self._summaries.pop(partition, None)
            self._learning.pop(partition, None)
            self._epochs[partition] = self.epoch(partition) + 1

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Forget the states of all other partitions."""
        self.drop(self._by_partition.keys() - set(partitions))

    def epoch(self, partition: int) -> int:
        """Return a number that changes when a partition's states are dropped: what was planned of them is void."""
        return self._epochs.get(partition, 0)

    def partitions(self) -> list[int]:
        """Return the partitions that have streams."""
        return sorted(self._by_partition)

    def keys(self, partition: int) -> list[bytes]:
        """Return a partition's streams as they are now."""
        return list(self._by_partition.get(partition, ()))

    def items(self, partition: int) -> Iterator[tuple[bytes, StreamState | bytes]]:
        """Iterate over a partition's streams and their states as they are kept; they may move meanwhile."""
        for key in self.keys(partition):
            state = self.peek(partition, key)
            if state is not None:
                yield key, state

    def __len__(self) -> int:
        return sum(map(len, self._by_partition.values()))


def _summary_of(state: StreamState | bytes | None) -> str:
    """Return the incident of many streams' silence that a state belongs to, '' for none."""
    if state is None:
        return ""
    seen = state_header(state)
    return seen.silent_id if seen.in_summary else ""
