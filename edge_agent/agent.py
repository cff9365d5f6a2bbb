"""The agent: one source of one machine, from its signal to acknowledged frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from edge_agent.block import Block, Source
from edge_agent.framer import Framer, FrameSamples
from edge_agent.memory_buffer import MemoryBuffer
from edge_agent.outgoing import FrameBuffer, OutgoingFrame
from edge_agent.publisher import KafkaSink, Publisher, Sink
from edge_agent.spool import Spool, SpoolBuffer, open_spool
from edge_agent.timeline import Clock, SystemClock, Timeline
from recordings.encode import FileFormat, check_fits, encode
from recordings.samples import SignalFormat
from schemas.condition import Condition
from schemas.errors import ServiceUnavailable
from schemas.frame import MAX_FRAME_S, MIN_FRAME_S, check_stated, check_stream, frame_headers
from schemas.times import format_rfc3339
from whirr.counts import counted
from whirr.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOptions:
    """How a signal becomes frames, and how hard they are sent."""

    source: Annotated[str | None, option("name of the sensor, if the machine has several", "Frames")] = None
    rpm: Annotated[
        float | None, option("speed of the machine's shaft, revolutions a minute, if it is known and stays", "Frames")
    ] = None
    load: Annotated[
        float | None,
        option("its load, in per cent or any unit that is always used, if it is known and stays", "Frames"),
    ] = None
    frame_s: Annotated[float, option("length of a frame in seconds", "Frames", ge=MIN_FRAME_S, le=MAX_FRAME_S)] = 1.0
    file_format: Annotated[
        FileFormat, option("encoding of frames; 32 bit and float are always WAV", "Frames", name="format")
    ] = "flac"
    buffer_mb: Annotated[float, option("most megabytes that wait in memory", "Frames", ge=1)] = 64.0
    flush_s: Annotated[float, option("after Ctrl-C or SIGTERM, seconds to send what waits", "Frames", ge=0)] = 10.0
    give_up_s: Annotated[
        float | None, option("fail after so many seconds without an answer; default: try for ever", "Frames", ge=0)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig(FrameOptions):
    """What an agent does, besides its options.

    Attributes:
        machine_id: Key of its frames.
        bootstrap, topic: Where they go.
        spool_dir: Where frames wait on disk, a folder for each machine and source; None to keep them in memory.
        spool_bytes: Most that waits there.
        backlog_bytes_per_s: Most that what waited in the spool may take of the link; None for no limit.
    """

    machine_id: str
    bootstrap: str
    topic: str = "vibration-frames"
    spool_dir: Path | None = None
    spool_bytes: int = 1_000_000_000
    backlog_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        check_stream(self.machine_id, self.source)
        check_stated(Condition(self.rpm, self.load))

    @property
    def buffer_bytes(self) -> int:
        """Most that waits in memory: for the broker, or with a spool for a disk that takes nothing."""
        return int(self.buffer_mb * 1_000_000)


@dataclass(slots=True, kw_only=True)
class Summary:
    """What an agent did.

    Attributes:
        frames_sent, bytes_sent: Acknowledged by the broker.
        frames_dropped, bytes_dropped: Let go from a full buffer or spool.
        frames_unsent: Still waiting when the agent stopped; with a spool, the next run sends them.
        frames_resumed: Of an earlier run, waiting in the spool when this one started.
        retries: How often a frame had to be sent anew.
        left_out_s: Seconds of signal too short for a frame, at the ends of recordings.
        recorded_from, recorded_until: Of the frames sent, RFC 3339; None without any.
        source_counts: What the source counted (files, lost blocks …).
    """

    machine_id: str
    source: str | None
    topic: str
    frames_sent: int = 0
    bytes_sent: int = 0
    frames_dropped: int = 0
    bytes_dropped: int = 0
    frames_unsent: int = 0
    frames_resumed: int = 0
    retries: int = 0
    left_out_s: float = 0.0
    recorded_from: str | None = None
    recorded_until: str | None = None
    source_counts: dict[str, int] = field(default_factory=dict)


class EdgeAgent:
    """Captures, frames, encodes and publishes one source.

    Args:
        config: What to do.
        source: Where the signal comes from.
        timeline: When it was recorded, and when it is sent.
        sink: Where frames go; by default the topic that ``config`` names.
        clock: For waiting between tries.

    Raises:
        SettingsError: A frame of a format that the source is known to have would be too large.
    """

    def __init__(
        self,
        config: EdgeConfig,
        source: Source,
        timeline: Timeline,
        *,
        sink: Sink | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config, self._source, self._timeline = config, source, timeline
        self._framer = Framer(config.frame_s)
        self._checked: set[SignalFormat] = set()
        for signal_format in source.formats:
            self._check(signal_format)
        self._spool = _open_spool(config)
        self._buffer: FrameBuffer = (
            MemoryBuffer(config.buffer_bytes, drop_oldest=source.live)
            if self._spool is None
            else SpoolBuffer(self._spool, drop_oldest=source.live)
        )
        self._publisher = Publisher(
            sink or KafkaSink(config.bootstrap, config.topic),
            self._buffer,
            clock or SystemClock(),
            backlog_bytes_per_s=config.backlog_bytes_per_s,
            give_up_s=config.give_up_s,
            acknowledged=self._note,
        )
        self._sequence = 0
        self._recorded_from_us: int | None = None
        self._recorded_until_us = 0

    async def run(self, stop: asyncio.Event | None = None) -> Summary:
        """Publish until the source ends or ``stop`` is set; then send what waits, for at most ``flush_s`` if stopped.

        Raises:
            RecordingError: The source can't be used; what it gave before has been sent.
            ServiceUnavailable: The broker refuses for good or was away for too long, or frames that no spool keeps are
                left unsent.
        """
        stop, ended = stop or asyncio.Event(), asyncio.Event()
        capture = asyncio.create_task(self._capture(ended), name="capture")
        publish = asyncio.create_task(self._publisher.run(), name="publish")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({capture, publish, stopped}, return_when=asyncio.FIRST_COMPLETED)
            ended.set()
            if not self._source.live:
                capture.cancel()
            await asyncio.wait({capture}, timeout=self._config.flush_s)
            await asyncio.wait({publish, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({publish}, timeout=self._config.flush_s)
        finally:
            await _end(capture, publish, stopped)
            if isinstance(self._buffer, SpoolBuffer):
                await self._buffer.shut()
        self._raise_what_failed(capture, publish)
        return self.summary()

    def summary(self) -> Summary:
        """Return what was done so far."""
        config, publisher, buffer = self._config, self._publisher, self._buffer
        began_us = self._recorded_from_us
        return Summary(
            machine_id=config.machine_id,
            source=config.source,
            topic=config.topic,
            frames_sent=publisher.frames,
            bytes_sent=publisher.bytes,
            frames_dropped=buffer.dropped_frames,
            bytes_dropped=buffer.dropped_bytes,
            frames_unsent=len(buffer),
            frames_resumed=0 if self._spool is None else self._spool.resumed,
            retries=publisher.retries,
            left_out_s=round(self._framer.left_out_s, 6),
            recorded_from=None if began_us is None else format_rfc3339(began_us),
            recorded_until=None if began_us is None else format_rfc3339(self._recorded_until_us),
            source_counts=self._source.counts(),
        )

    async def _capture(self, ended: asyncio.Event) -> None:
        """Move signal from the source into the buffer until it ends, or until ``ended`` is set.

        What a live source has recorded by then is sent; the rest of a folder is not yet due, and the task is cancelled.
        """
        try:
            async for block in _until(ended, self._source):
                self._check(block.format)
                for frame in self._framer.push(block):
                    await self._put(frame)
            for frame in self._framer.flush():
                await self._put(frame)
        finally:
            await self._buffer.close()

    async def _put(self, frame: FrameSamples) -> None:
        recorded_us = await self._timeline.stamp(frame)
        config = self._config
        encoded = encode(frame.samples, frame.format, config.file_format)
        known = frame.condition
        condition = Condition(
            known.rpm if config.rpm is None else config.rpm, known.load if config.load is None else config.load
        )
        headers = frame_headers(
            config.machine_id,
            config.source,
            recorded_us,
            encoded.value,
            self._sequence,
            encoded.content_type,
            condition=condition,
        )
        # Counted at capture: a frame that the buffer lets go leaves a gap that the worker reports.
        self._sequence += 1
        end_us = recorded_us + frame.end_us - frame.offset_us
        await self._buffer.put(
            OutgoingFrame(config.machine_id.encode(), encoded.value, tuple(headers), recorded_us, end_us)
        )

    def _check(self, signal_format: SignalFormat) -> None:
        if signal_format not in self._checked:
            check_fits(self._config.frame_s, signal_format)
            self._checked.add(signal_format)

    def _note(self, frame: OutgoingFrame) -> None:
        if self._recorded_from_us is None:
            self._recorded_from_us = frame.recorded_us
        self._recorded_until_us = frame.end_us

    def _raise_what_failed(self, capture: asyncio.Task[None], publish: asyncio.Task[None]) -> None:
        for task in (publish, capture):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if len(self._buffer) and self._spool is None:
            raise ServiceUnavailable(
                f"stopped with {counted(len(self._buffer), 'frame')} unsent: no acknowledgement from "
                f"{self._config.bootstrap} within {self._config.flush_s:g} s"
            )


def _open_spool(config: EdgeConfig) -> Spool | None:
    if config.spool_dir is None:
        return None
    return open_spool(
        config.spool_dir,
        config.machine_id,
        config.source,
        limit_bytes=config.spool_bytes,
        held_bytes=config.buffer_bytes,
    )


async def _until(ended: asyncio.Event, source: Source) -> AsyncIterator[Block]:
    """Yield a source's blocks until ``ended`` is set; don't wait for a block that may never come."""
    waiting = asyncio.ensure_future(ended.wait())
    blocks = aiter(source)
    try:
        while True:
            following = asyncio.ensure_future(anext(blocks, None))
            await asyncio.wait({following, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                return
            block = following.result()
            if block is None:
                return
            yield block
    finally:
        waiting.cancel()


async def _end(*tasks: asyncio.Task[object]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def run_edge(
    config: EdgeConfig, source: Source, timeline: Timeline, *, stop: asyncio.Event | None = None
) -> Summary:
    """Publish a source's frames until it ends or ``stop`` is set; see :meth:`EdgeAgent.run`."""
    return await EdgeAgent(config, source, timeline).run(stop)
