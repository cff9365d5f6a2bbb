"""The agent with a spool: outages, kills, how fast a backlog is sent, and what the status says."""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from commands import run
from edge_agent import EdgeAgent, EdgeConfig, LiveTimes, PlaybackTimes
from edge_agent.outgoing import OutgoingFrame
from edge_agent.spool import SpoolBuffer, open_spool, read_status
from schemas import FrameRecord, parse_frame
from schemas.errors import ServiceUnavailable
from tests.edge_agent.fakes import FakeClock, FakeSink, ListSource, away, noise
from tests.helpers import KafkaUnderTest, eventually, eventually_async
from whirr import process


def _agent(folder: Path, sink: FakeSink, frames: int, *, live: bool = True, **options: Any) -> EdgeAgent:
    source = ListSource([noise(1000, seed=number) for number in range(frames)], live=live)
    config = EdgeConfig(**{"machine_id": "pump-1", "bootstrap": "nowhere:1", "spool_dir": folder, **options})
    times = LiveTimes(sink.clock) if live else PlaybackTimes(sink.clock, duration_s=frames, speed=math.inf)
    return EdgeAgent(config, source, times, sink=sink, clock=sink.clock)


async def _leave_waiting(folder: Path, frames: int) -> None:
    """Leave frames in the spool, as an agent does that finds no broker."""
    sink = FakeSink(FakeClock(), [away()] * 1000)
    with pytest.raises(ServiceUnavailable, match="given up"):
        await _agent(folder, sink, frames, give_up_s=60).run()


async def test_what_waits_is_sent_by_the_next_run_before_anything_new(tmp_path: Path) -> None:
    await _leave_waiting(tmp_path, 4)
    assert [(status.frames, status.running) for status in read_status(tmp_path, 0)] == [(4, False)]
    sink = FakeSink(FakeClock(1_750_000_100_000_000))
    summary = await _agent(tmp_path, sink, 2).run()
    assert (summary.frames_resumed, summary.frames_sent, summary.frames_unsent) == (4, 6, 0)
    assert [frame.sequence for frame in sink.parsed()] == [0, 1, 2, 3, 0, 1]
    times = [frame.recorded_us for frame in sink.frames]
    assert times == sorted(times)
    assert [status.frames for status in read_status(tmp_path, 0)] == [0]


async def test_stopping_without_a_broker_is_no_error_since_nothing_is_lost(tmp_path: Path) -> None:
    class Silent(FakeSink):
        async def send(self, frame: Any) -> None:
            await asyncio.Event().wait()

    stop = asyncio.Event()
    agent = _agent(tmp_path, Silent(), 3, flush_s=0.0)
    running = asyncio.create_task(agent.run(stop))
    await eventually_async(lambda: agent.summary().frames_unsent == 3)
    stop.set()
    summary = await asyncio.wait_for(running, 20)
    assert summary.frames_unsent == 3
    assert [status.frames for status in read_status(tmp_path, 0)] == [3]


@pytest.mark.parametrize(("bytes_per_s", "share_s"), [(20_000, 0.11), (100, 0.5), (None, 0.0)])
async def test_a_backlog_takes_its_share_of_the_link(tmp_path: Path, bytes_per_s: float | None, share_s: float) -> None:
    await _leave_waiting(tmp_path, 5)
    sink = FakeSink(FakeClock(1_750_000_100_000_000))
    await _agent(tmp_path, sink, 1, backlog_bytes_per_s=bytes_per_s).run()
    gaps_s = np.diff(sink.sent_at_us) / 1e6
    assert gaps_s == pytest.approx([share_s] * 5, abs=0.02)


@pytest.mark.parametrize("live", [True, False])
async def test_what_waits_when_the_broker_comes_back_is_a_backlog_unless_it_is_played(
    tmp_path: Path, live: bool
) -> None:
    spool = open_spool(tmp_path, "pump-1", None, limit_bytes=1_000_000, held_bytes=1000)
    buffer = SpoolBuffer(spool, drop_oldest=live)
    await buffer.put(OutgoingFrame(b"pump-1", b"first", (), 0, 1))
    buffer.connected()
    await buffer.put(OutgoingFrame(b"pump-1", b"second", (), 1, 2))
    found = []
    for _ in range(2):
        await buffer.next()
        found.append(buffer.backlog)
        await buffer.done()
    assert found == [live, False]
    await buffer.shut()


def _environment(kafka: KafkaUnderTest, bootstrap: str) -> dict[str, str]:
    settings = kafka.settings()
    return {
        **os.environ,
        "WHIRR_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "WHIRR_FRAMES_TOPIC": settings.frames_topic,
    }


def _started(kafka: KafkaUnderTest, folder: Path, bootstrap: str) -> subprocess.Popen[bytes]:
    options = ["--stdin", "--rate", "1000", "--machine", "fan-2", "--spool-dir", str(folder), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "commands", "edge", *options],
        env=_environment(kafka, bootstrap),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _feed(agent: subprocess.Popen[bytes], samples: np.ndarray) -> None:
    assert agent.stdin is not None
    agent.stdin.write(samples.astype("<i2").tobytes())
    agent.stdin.flush()


async def test_killed_without_a_broker_and_with_one_every_captured_frame_arrives(
    kafka: KafkaUnderTest, tmp_path: Path
) -> None:
    await kafka.create_topics()
    samples = np.random.default_rng(0).integers(-20_000, 20_000, 30_000)
    topic = kafka.settings().frames_topic
    agent = _started(kafka, tmp_path, f"127.0.0.1:{process.free_port()}")
    _feed(agent, samples[:6000])
    eventually(lambda: sum(s.frames for s in read_status(tmp_path, 0)) == 6, deadline_s=40)
    agent.kill()
    agent.communicate(timeout=20)

    agent = _started(kafka, tmp_path, kafka.bootstrap)
    _feed(agent, samples[6000:20_000])
    await kafka.consume(topic, 8)
    agent.kill()  # wherever it is
    agent.communicate(timeout=20)
    waiting = sum(s.frames for s in read_status(tmp_path, 0))
    before = {record.headers[2] for record in await kafka.drain(topic)}

    agent = _started(kafka, tmp_path, kafka.bootstrap)
    _feed(agent, samples[20_000:])
    out, err = agent.communicate(timeout=60)
    assert agent.returncode == 0, err
    summary = json.loads(out)
    assert (summary["frames_resumed"], summary["frames_sent"], summary["frames_unsent"]) == (waiting, waiting + 10, 0)

    records = await kafka.drain(topic)
    assert len({record.partition for record in records}) == 1
    frames = {
        f.frame_id: f for f in (parse_frame(FrameRecord(r.key, r.value, r.headers, r.timestamp)) for r in records)
    }
    assert len(frames) >= len(before) + 10
    heard = [soundfile.read(io.BytesIO(f.record.value or b""), dtype="int16")[0] for f in frames.values()]
    captured = len(heard) - 10  # of the first 20; what the second kill found unread in the pipe was never captured
    assert captured >= 8
    assert np.array_equal(np.concatenate(heard), np.concatenate([samples[: captured * 1000], samples[20_000:]]))
    assert [status.frames for status in read_status(tmp_path, 0)] == [0]


async def test_the_status_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["edge", "status", "--spool-dir", str(tmp_path / "none")]) == 0
    assert "no spool in" in capsys.readouterr().out
    await _leave_waiting(tmp_path, 3)
    assert run(["edge", "status", "--spool-dir", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["dropped_frames"], said["damaged_records"]) == (3, 0, 0)
    assert said["spools"][0]["machine_id"] == "pump-1"
    assert said["spools"][0]["oldest_age_s"] > 0
    assert run(["edge", "status", "--spool-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "pump-1" in shown
    assert "stopped" in shown
    assert run(["edge", "status", "--help"]) == 0
    assert "oldest's age" in " ".join(capsys.readouterr().out.split())


def test_a_second_agent_on_the_same_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _agent(tmp_path, FakeSink(), 1)
    options = ["--machine", "pump-1", "--rate", "1000", "--spool-dir", str(tmp_path)]
    assert run(["edge", "--stdin", *options]) == 2
    assert "in use by another agent" in capsys.readouterr().err
    asyncio.run(first.run())
