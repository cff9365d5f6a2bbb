"""The agent as a whole, with a topic in memory: what arrives, what is counted, how it ends."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_agent import EdgeAgent, EdgeConfig, LiveTimes, PlaybackTimes
from edge_agent.block import Block, Source
from edge_agent.outgoing import OutgoingFrame
from edge_agent.publisher import RetryableError
from edge_agent.simulator import make_plant
from edge_agent.sources import SimulatedSource
from edge_agent.timeline import Timeline
from recordings.samples import SignalFormat
from schemas.errors import ServiceUnavailable, SettingsError
from tests.edge_agent.fakes import START_US, FakeClock, FakeSink, ListSource, away, noise
from tests.helpers import eventually_async, validate_headers

SECOND = 1_000_000


def _agent(source: Source, sink: FakeSink, timeline: Timeline | None = None, /, **options: Any) -> EdgeAgent:
    config = EdgeConfig(**{"machine_id": "pump-1", "bootstrap": "nowhere:1", **options})
    clock = sink.clock
    times = timeline or PlaybackTimes(clock, duration_s=source.duration_s, speed=math.inf)
    return EdgeAgent(config, source, times, sink=sink, clock=clock)


async def test_every_frame_is_what_a_worker_expects() -> None:
    sink, machine = FakeSink(), make_plant(seconds=20).machine("motor-1")
    agent = _agent(SimulatedSource(machine, seconds=5.5), sink, source="drive end")
    summary = await agent.run()
    frames = sink.parsed()
    assert [frame.sequence for frame in frames] == list(range(6))
    assert {(frame.machine_id, frame.source) for frame in frames} == {("pump-1", "drive end")}
    assert np.diff([frame.recorded_us for frame in frames]).tolist() == [SECOND] * 5
    for frame in frames:
        assert validate_headers("frame", frame.record.headers)["content-type"] == "audio/flac"
    again = make_plant(seconds=20).machine("motor-1").read(88_000)
    heard = [soundfile.read(io.BytesIO(frame.record.value or b""), dtype="int16")[0] for frame in frames]
    assert np.array_equal(np.concatenate(heard), np.rint(again[0] * 32767))
    assert (summary.frames_sent, summary.bytes_sent) == (6, sum(len(frame.value) for frame in sink.frames))
    assert summary.recorded_from == "2025-06-15T15:06:34.500000Z"
    assert summary.recorded_until == "2025-06-15T15:06:40.000000Z"


async def test_a_frame_says_how_the_machine_ran_as_far_as_is_known() -> None:
    sink, machine = FakeSink(), make_plant(seconds=20).machine("motor-1")
    await _agent(SimulatedSource(machine, seconds=3), sink, load=55.5).run()
    conditions = [frame.condition for frame in sink.parsed()]
    assert [one.load for one in conditions] == [55.5] * 3  # what the user states counts
    assert all(one.rpm and abs(one.rpm / 60 / machine.spec.nominal_hz - 1) < 0.02 for one in conditions)
    assert len({one.rpm for one in conditions}) == 3
    sink = FakeSink()
    await _agent(ListSource([noise(1000)]), sink).run()
    assert [frame.condition for frame in sink.parsed()] == [(None, None)]
    with pytest.raises(SettingsError, match=r"rpm is '0'; expected a number above 0"):
        _agent(ListSource([noise(1000)]), sink, rpm=0)


async def test_the_same_signal_gives_the_same_identities() -> None:
    identities = []
    for _ in range(2):
        sink = FakeSink()
        await _agent(SimulatedSource(make_plant(seconds=20).machine("fan-1"), seconds=3), sink).run()
        identities.append([frame.frame_id for frame in sink.parsed()])
    assert identities[0] == identities[1]
    assert len(set(identities[0])) == 3


async def test_a_broker_that_is_away_costs_time_and_nothing_else(
    caplog: pytest.LogCaptureFixture, longest_waits: None
) -> None:
    failures = [away(), away(), None, None, away(), None, None, None, away(), away()]
    sink = FakeSink(failures=failures)
    summary = await _agent(ListSource([noise(5000)]), sink).run()
    assert [frame.sequence for frame in sink.parsed()] == [0, 1, 2, 3, 4]
    assert (summary.frames_sent, summary.frames_dropped, summary.frames_unsent, summary.retries) == (5, 0, 0, 5)
    assert sink.opened == 6  # anew after each failure
    assert sink.clock.slept == [0.5, 1.0, 0.5, 0.5, 1.0]  # longer and longer, and from the start after a success
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 5


async def test_backoff_has_a_limit_and_giving_up_is_an_error(longest_waits: None) -> None:
    sink = FakeSink(failures=[away()] * 1000)
    agent = _agent(ListSource([noise(3000)]), sink, give_up_s=100)
    with pytest.raises(ServiceUnavailable, match=r"no Kafka answers; 3 frames wait, given up after 1\d\d s"):
        await agent.run()
    assert max(sink.clock.slept) == 15.0
    assert agent.summary().frames_unsent == 3


async def test_a_refusal_is_not_tried_again() -> None:
    sink = FakeSink(failures=[None, ServiceUnavailable("not authorized")])
    with pytest.raises(ServiceUnavailable, match="not authorized"):
        await _agent(ListSource([noise(3000)]), sink).run()
    assert sink.frames == []
    assert sink.clock.slept == []


class Microphone:
    """A live source that gives what it has and then waits for ever."""

    live = True
    duration_s: float | None = None

    def __init__(self, *blocks: Block) -> None:
        self.blocks = blocks
        self.formats: tuple[SignalFormat, ...] = (blocks[0].format,)

    def counts(self) -> dict[str, int]:
        return {}

    async def __aiter__(self) -> AsyncIterator[Block]:
        for block in self.blocks:
            yield block
        await asyncio.Event().wait()


async def test_stopping_a_live_source_sends_what_was_recorded() -> None:
    sink, stop = FakeSink(), asyncio.Event()
    agent = _agent(Microphone(noise(1000), noise(700)), sink, LiveTimes(sink.clock))
    running = asyncio.create_task(agent.run(stop))
    await eventually_async(lambda: len(sink.frames) == 1)
    stop.set()
    summary = await asyncio.wait_for(running, 10)
    assert summary.frames_sent == 2  # 0.7 s is more than half a frame
    assert [soundfile.info(io.BytesIO(frame.value)).frames for frame in sink.frames] == [1000, 700]
    assert sink.closed == 1


async def test_stopping_a_folder_ends_at_the_frame_that_was_due() -> None:
    class Held(FakeClock):
        async def sleep(self, seconds: float) -> None:
            if self.us >= START_US + 3 * SECOND:
                await asyncio.Event().wait()
            await super().sleep(seconds)

    sink, stop = FakeSink(Held()), asyncio.Event()
    agent = _agent(ListSource([noise(10_000)]), sink, PlaybackTimes(sink.clock, duration_s=10))
    running = asyncio.create_task(agent.run(stop))
    await eventually_async(lambda: len(sink.frames) == 3)
    stop.set()
    summary = await asyncio.wait_for(running, 10)
    assert (summary.frames_sent, summary.frames_unsent) == (3, 0)


async def test_frames_that_can_not_be_sent_before_the_end_are_an_error() -> None:
    class Silent(FakeSink):
        async def send(self, frame: OutgoingFrame) -> None:
            await asyncio.Event().wait()

    sink, stop = Silent(), asyncio.Event()
    agent = _agent(ListSource([noise(3000)]), sink, flush_s=0.0)
    running = asyncio.create_task(agent.run(stop))
    await eventually_async(lambda: agent.summary().frames_unsent == 3)
    stop.set()
    with pytest.raises(ServiceUnavailable, match="stopped with 3 frames unsent"):
        await asyncio.wait_for(running, 10)
    assert sink.closed == 1


async def test_a_live_source_outlasts_a_broker_that_is_away() -> None:
    class Slow(FakeSink):
        async def open(self) -> None:
            self.opened += 1
            if len(agent._buffer) < 3 or agent.summary().frames_dropped == 0:
                await asyncio.sleep(0)
                raise RetryableError("away")

    sink, stop = Slow(), asyncio.Event()
    microphone = Microphone(*(noise(1000, seed=n) for n in range(10)))
    agent = _agent(microphone, sink, LiveTimes(FakeClock()), buffer_mb=0.007)
    running = asyncio.create_task(agent.run(stop))
    await eventually_async(lambda: agent.summary().frames_sent + agent.summary().frames_dropped == 10)
    stop.set()
    summary = await asyncio.wait_for(running, 10)
    sequences = [frame.sequence for frame in sink.parsed() if frame.sequence is not None]
    assert summary.frames_dropped > 0
    assert sequences == sorted(sequences)
    assert sequences[-1] == 9
    assert len(sequences) == 10 - summary.frames_dropped  # each one dropped is a gap in the sequence


def test_a_frame_that_might_be_too_large_is_refused_beforehand() -> None:
    with pytest.raises(SettingsError, match=r"a frame of 30 s at 48000 Hz with 2 channels of pcm16"):
        _agent(ListSource([noise(100, channels=2, rate_hz=48_000)]), FakeSink(), frame_s=30)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"machine_id": "pump 1"}, "machine id is 'pump 1'"),
        ({"machine_id": ""}, "machine id is ''"),
        ({"machine_id": "x" * 129}, "expected 1 to 128"),
        ({"source": ""}, "source is ''"),
        ({"source": "a\nb"}, "printable"),
    ],
)
def test_names_that_no_frame_can_carry(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        EdgeConfig(**{"machine_id": "pump-1", "bootstrap": "nowhere:1", **options})
