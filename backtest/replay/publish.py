"""Publishing a folder's frames to Kafka, in the order and with the spacing of the recordings."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from backtest.replay.frame_records import CutRecord, FrameRange, records
from backtest.score_store import ScoreStore
from backtest.scoring import all_frame_ranges
from edge_agent.memory_buffer import MemoryBuffer
from edge_agent.outgoing import OutgoingFrame
from edge_agent.publisher import KafkaSink, Publisher
from edge_agent.timeline import Clock, SystemClock
from recordings import container
from schemas.errors import SettingsError
from schemas.frame import frame_headers
from schemas.times import MICROSECONDS, format_rfc3339
from whirr.settings import Settings

_BUFFER_BYTES = 16 * 1024 * 1024
_AT_ONCE = 8  # frames read of a recording before it is closed: of many machines, many overlap
GIVE_UP_S = 60.0


class Published(NamedTuple):
    """What was sent: frames and bytes that the broker has acknowledged, and recordings' frames that can't be read."""

    frames: int
    bytes: int
    unreadable: int


class Due(NamedTuple):
    """A frame of a recording in the order of all recordings."""

    recorded_us: int
    order: int
    cut: CutRecord
    part: FrameRange


def in_time_order(store: ScoreStore, folder: str, columns: tuple[str, ...] = ()) -> Iterator[Due]:
    """Yield the frames of all recordings by the time at which they were recorded.

    Of recordings only those are open that lie at the same time; of frames recorded at the same moment, those of the
    recording whose name comes first are first, as the alert rule takes them.
    """
    waiting: list[tuple[int, int, int, Due, Iterator[Due]]] = []
    for order, part in enumerate(all_frame_ranges(store, folder, columns)):
        while waiting and waiting[0][0] < part.start_us:
            yield _next(waiting)
        _push(waiting, _frames(part, order))
    while waiting:
        yield _next(waiting)


def _next(waiting: list[tuple[int, int, int, Due, Iterator[Due]]]) -> Due:
    *_, due, frames = heapq.heappop(waiting)
    _push(waiting, frames)
    return due


def _push(waiting: list[tuple[int, int, int, Due, Iterator[Due]]], frames: Iterator[Due]) -> None:
    due = next(frames, None)
    if due is not None:
        heapq.heappush(waiting, (due.recorded_us, due.order, due.cut.number, due, frames))


def _frames(part: FrameRange, order: int) -> Iterator[Due]:
    at_once = part.many if part.kind in ("serial", "table") else _AT_ONCE
    for first in range(0, part.many, at_once):
        part = part._replace(first=first, many=min(at_once, part.many - first))
        # A list, so that the file is closed again; not of a whole long file.
        for cut in records(part) if part.many > _AT_ONCE else list(records(part)):
            yield Due(cut.recorded_us, order, cut, part)


async def publish(
    store: ScoreStore,
    folder: str,
    settings: Settings,
    speed: float,
    sent: Callable[[int], None] = lambda _frames: None,
    clock: Clock | None = None,
    *,
    columns: tuple[str, ...] = (),
) -> Published:
    """Publish all frames; return when the broker has acknowledged each.

    Args:
        store: The recordings.
        folder: Where they are.
        settings: Where Kafka is, and the topic.
        speed: Seconds of signal sent a second; ``inf`` for as fast as they can be sent.
        sent: Called with how many frames have been acknowledged.
        clock: The time.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.

    Raises:
        SettingsError: Recordings end in the future: the worker would refuse them.
        ServiceUnavailable: The broker refuses, or is away for a minute.
    """
    clock = clock or SystemClock()
    _check_past(store)
    buffer = MemoryBuffer(_BUFFER_BYTES, drop_oldest=False)
    sink = KafkaSink(settings.bootstrap, settings.frames_topic, settings)
    publisher = Publisher(sink, buffer, clock, give_up_s=GIVE_UP_S, acknowledged=lambda _frame: sent(publisher.frames))
    feeding = asyncio.create_task(_feed(in_time_order(store, folder, columns), buffer, clock, speed), name="feed")
    sending = asyncio.create_task(publisher.run(), name="publish")
    try:
        await asyncio.wait({feeding, sending}, return_when=asyncio.FIRST_EXCEPTION)
        for task in (sending, feeding):
            if task.done():
                task.result()
    finally:
        for task in (feeding, sending):
            task.cancel()
        await asyncio.gather(feeding, sending, return_exceptions=True)
    return Published(publisher.frames, publisher.bytes, feeding.result())


async def _feed(found: Iterator[Due], buffer: MemoryBuffer, clock: Clock, speed: float) -> int:
    """Put frames into the buffer when they are due; return how many could not be read."""
    unreadable, began_s, first_us = 0, clock.elapsed_s(), None
    try:
        while (due := await asyncio.to_thread(next, found, None)) is not None:
            if due.cut.record is None:
                unreadable += 1
                continue
            frame = _outgoing(due)
            first_us = due.recorded_us if first_us is None else first_us
            wait_s = began_s + (frame.end_us - first_us) / MICROSECONDS / speed - clock.elapsed_s()
            if wait_s > 0:
                await clock.sleep(wait_s)
            await buffer.put(frame)
    finally:
        await buffer.close()
    return unreadable


def _outgoing(due: Due) -> OutgoingFrame:
    part, record = due.part, due.cut.record
    assert record is not None
    value = record.value or b""
    kind = f"audio/{container(value)}"
    begin_us, end_us = part.span_us(due.cut.number)
    headers = frame_headers(part.machine, part.source or None, begin_us, value, None, kind, condition=part.condition)
    return OutgoingFrame(part.machine.encode(), value, tuple(headers), begin_us, end_us)


def _check_past(store: ScoreStore) -> None:
    query = "SELECT max(start_us + samples * 1000000 / rate_hz) FROM files WHERE problem IS NULL"
    until_us = store.db.execute(query).fetchone()[0] or 0
    now_us = time.time_ns() // 1000
    if until_us > now_us:
        raise SettingsError(
            f"recordings end at {format_rfc3339(until_us)}, now is {format_rfc3339(now_us)}: a worker refuses frames "
            "from the future; see --times, --zone and --start"
        )
