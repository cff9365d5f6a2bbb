"""Which streams have fallen silent, and which are forgotten: looked at a few at a time, however many there are.

A look at each stream once a second would hold the event loop up for seconds where somebody made 100,000 of them up.
So a stream is looked at when it could be silent at the earliest, and then again only if it was heard meanwhile; states
that nobody needs stay bytes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from stream_app.pipeline import state_header
from stream_app.worker.states import StreamKey, StreamStates, stream_of

WINDOW_US = 60_000_000
LOOKS = 500  # in one go; then others get their turn
SWEPT = 500  # streams in one look for those to be forgotten
YOUNG_FRAMES = 10
YOUNG_SILENT_US = 3_600_000_000


class Timing(Protocol):
    """What the engine says of times."""

    def silence_due_us(self, machine_id: str, seen_us: int, watched_since_us: int) -> int | None:
        """Return when a stream last heard at ``seen_us`` is to be reported silent; None for never."""

    def forget_due_us(self, machine_id: str, seen_us: int) -> int | None:
        """Return when a stream last heard at ``seen_us`` is to be forgotten; None for never."""


class _Schedule:
    """A partition's streams by the second at which each is to be looked at; a stream that is silent is not in it."""

    def __init__(self, epoch: int, keys: Iterable[bytes]) -> None:
        self.epoch = epoch
        self.unplanned: deque[bytes] = deque(keys)
        self._by_second: dict[int, list[bytes]] = {}
        self._seconds: list[int] = []

    def add(self, key: bytes, due_us: int) -> None:
        second = due_us // 1_000_000 + 1
        keys = self._by_second.get(second)
        if keys is None:
            self._by_second[second] = [key]
            heapq.heappush(self._seconds, second)
        else:
            keys.append(key)

    def take(self, now_us: int) -> Iterator[bytes]:
        """Yield the streams that are to be looked at, those first of which nothing is known yet."""
        while self.unplanned:
            yield self.unplanned.popleft()
        while self._seconds and self._seconds[0] * 1_000_000 <= now_us:
            keys = self._by_second[self._seconds[0]]
            while keys:
                yield keys.pop()
            del self._by_second[heapq.heappop(self._seconds)]


class SilentStreams:
    """Finds silent streams and remembers what was reported of them together.

    Args:
        timing: Says when a stream is silent or forgotten.
        states: All streams of this worker's partitions.
        summary_from: So many that fall silent within a minute are reported by one alert.
    """

    def __init__(self, timing: Timing, states: StreamStates, summary_from: int) -> None:
        self._timing = timing
        self._states = states
        self._summary_from = summary_from
        self.few = max(1, summary_from // 10)
        self._schedules: dict[int, _Schedule] = {}
        self._to_sweep: dict[int, list[bytes]] = {}
        self._reported: deque[tuple[int, int]] = deque()
        self._joined_us: dict[str, int] = {}
        self._closed: set[str] = set()
        self._open: str | None = None

    def heard(self, stream: StreamKey) -> None:
        """Note a stream that is new, or was silent until now."""
        schedule = self._schedules.get(stream.partition)
        if schedule is not None:
            schedule.unplanned.append(stream.key)

    async def overdue(self, watched_since_us: Mapping[int, int], silent_after_us: int, now_us: int) -> list[StreamKey]:
        """Return the streams that have fallen silent and are not reported yet.

        Args:
            watched_since_us: By partition: since when (wall clock) no frame has waited unread.
            silent_after_us: The shortest silence that any route calls a fault.
            now_us: Wall clock.
        """
        self._schedules = {p: schedule for p, schedule in self._schedules.items() if p in watched_since_us}
        found: list[StreamKey] = []
        looks = 0
        for partition, since_us in watched_since_us.items():
            schedule = self._schedules.get(partition)
            if schedule is None or schedule.epoch != self._states.epoch(partition):
                epoch = self._states.epoch(partition)
                schedule = self._schedules[partition] = _Schedule(epoch, self._states.keys(partition))
            for key in schedule.take(now_us):
                stream = StreamKey(partition, key)
                due_us = self._due_us(stream, since_us, silent_after_us, now_us)
                if due_us is not None:
                    if due_us <= now_us:
                        found.append(stream)
                    schedule.add(key, max(due_us, now_us))
                looks += 1
                if looks % LOOKS == 0:
                    await asyncio.sleep(0)
        return found

    def _due_us(self, stream: StreamKey, since_us: int, silent_after_us: int, now_us: int) -> int | None:
        """Return when a stream is to be looked at again; None if only a frame of its can change anything."""
        state = self._states.peek(*stream)
        if state is None:
            return None
        seen = state_header(state)
        if seen.silent_id or not seen.frames:
            return None
        if now_us < seen.seen_us + silent_after_us:
            return seen.seen_us + silent_after_us
        return self._timing.silence_due_us(stream_of(stream.key)[0], seen.seen_us, since_us)

    def is_still_overdue(self, stream: StreamKey, since_us: int, now_us: int) -> bool:
        """Return whether a stream that was found overdue is so still: others had their turn meanwhile."""
        due_us = self._due_us(stream, since_us, 0, now_us)
        return due_us is not None and due_us <= now_us

    def needs_summary(self, count: int, now_us: int) -> bool:
        """Return whether ``count`` streams that have fallen silent are to be reported together."""
        while self._reported and now_us - self._reported[0][0] > WINDOW_US:
            self._reported.popleft()
        if count <= self.few:
            return False
        return self.open_summary(now_us) is not None or count + sum(n for _, n in self._reported) >= self._summary_from

    def note_alerts(self, count: int, now_us: int) -> None:
        """Note that so many streams were reported one by one."""
        self._reported.append((now_us, count))

    def open_summary(self, now_us: int) -> str | None:
        """Return the incident of many streams that others may still join, or None."""
        if self._open is None or now_us - self._joined_us.get(self._open, 0) > WINDOW_US:
            return None
        return self._open if self._open not in self._closed else None

    def joined(self, incident_id: str, now_us: int) -> None:
        """Note that streams have joined an incident."""
        self._open = incident_id
        self._joined_us[incident_id] = now_us

    def streams_of(self, incident_id: str) -> list[StreamKey]:
        """Return the streams of an incident that are silent still."""
        by_partition = self._states.summarised().get(incident_id, {})
        return [StreamKey(partition, key) for partition, keys in by_partition.items() for key in keys]

    def ended(self, left: Mapping[str, set[StreamKey]]) -> dict[str, list[StreamKey]]:
        """Return the incidents that end since their streams are heard again, with the few that are silent still.

        Args:
            left: By incident, streams that leave it.
        """
        ended: dict[str, list[StreamKey]] = {}
        counts = self._states.summarised() if left else {}
        for incident_id, gone in left.items():
            if incident_id in self._closed or incident_id not in counts:
                continue
            if sum(map(len, counts[incident_id].values())) - len(gone) <= self.few:
                ended[incident_id] = [one for one in self.streams_of(incident_id) if one not in gone]
        return ended

    def close(self, incident_id: str) -> None:
        """Note that the end of an incident was reported."""
        self._closed.add(incident_id)

    def leftovers(self, now_us: int) -> dict[str, list[StreamKey]]:
        """Return, by incident, the few streams that were reported together and are to be reported one by one now."""
        incidents = self._states.summarised()
        self._closed &= incidents.keys()
        self._joined_us = {
            one: at_us for one, at_us in self._joined_us.items() if one in incidents or now_us - at_us < WINDOW_US
        }
        few = {}
        for incident_id, by_partition in incidents.items():
            joined_us = self._joined_us.setdefault(incident_id, now_us)  # first met after a restart, or a rebalance
            if now_us - joined_us > WINDOW_US and sum(map(len, by_partition.values())) <= self.few:
                few[incident_id] = self.streams_of(incident_id)
        return few

    def to_forget(self, watched_since_us: Mapping[int, int], full: bool, now_us: int) -> list[tuple[StreamKey, str]]:
        """Look at the next few streams; return those to be forgotten, and why.

        ``silent``: nothing came for long. ``full``: there are as many streams as may be, and this one sent few frames
        and has been silent for an hour.
        """
        found: list[tuple[StreamKey, str]] = []
        swept = 0
        self._to_sweep = {p: keys for p, keys in self._to_sweep.items() if p in watched_since_us}
        for partition, since_us in watched_since_us.items():
            if since_us >= now_us:
                continue  # frames may wait in Kafka
            keys = self._to_sweep.get(partition)
            if not keys:
                keys = self._to_sweep[partition] = self._states.keys(partition)
            while keys and swept < SWEPT:
                swept += 1
                stream = StreamKey(partition, keys.pop())
                reason = self.why_forgotten(stream, full, now_us)
                if reason is not None:
                    found.append((stream, reason))
        return found

    def why_forgotten(self, stream: StreamKey, full: bool, now_us: int) -> str | None:
        """Return why a stream is to be forgotten, or None."""
        state = self._states.peek(*stream)
        if state is None:
            return None
        seen = state_header(state)
        due_us = self._timing.forget_due_us(stream_of(stream.key)[0], seen.seen_us)
        if due_us is not None and now_us >= due_us:
            return "silent"
        young = seen.frames < YOUNG_FRAMES and now_us - seen.seen_us > YOUNG_SILENT_US
        return "full" if full and young else None
