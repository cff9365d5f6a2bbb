"""The spool: order, bounds, what a power cut, a full disk or a second agent does to it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.outgoing import OutgoingFrame
from edge_agent.spool import Spool, SpoolBuffer, open_spool, read_status
from edge_agent.spool.files import segments, stream_folder
from schemas.errors import SettingsError
from tests.edge_agent.fakes import START_US

SECOND = 1_000_000


def frame(number: int, size: int = 100) -> OutgoingFrame:
    start_us = START_US + number * SECOND
    return OutgoingFrame(b"pump-1", os.urandom(size), (("ce_sequence", str(number).encode()),), start_us, start_us + 1)


def opened(root: Path, *, limit_bytes: int = 1_000_000, held_bytes: int = 1_000_000) -> Spool:
    return open_spool(root, "pump-1", "drive end", limit_bytes=limit_bytes, held_bytes=held_bytes)


def drained(spool: Spool) -> list[OutgoingFrame]:
    found = []
    while (head := spool.head()) is not None:
        found.append(head[1])
        spool.done()
    return found


def the_folder(root: Path) -> Path:
    return stream_folder(root, "pump-1", "drive end")


def killed(spool: Spool) -> None:
    """Let go of the lock and nothing else, as the kernel does for a process that is killed."""
    os.close(spool._lock)


def test_frames_come_back_as_they_went_in_and_leave_no_file(tmp_path: Path) -> None:
    spool, wanted = opened(tmp_path), [frame(number) for number in range(20)]
    for one in wanted:
        spool.append(one)
    assert drained(spool) == wanted
    spool.close()
    assert segments(the_folder(tmp_path)) == []
    assert (len(spool), spool.dropped_frames, spool.counts.damaged_records) == (0, 0, 0)


def test_a_killed_agent_goes_on_where_it_was(tmp_path: Path) -> None:
    spool, wanted = opened(tmp_path), [frame(number) for number in range(10)]
    for one in wanted:
        spool.append(one)
    for _ in range(4):
        spool.head()
        spool.done()
    spool.head()  # under way when it is killed
    killed(spool)
    again = opened(tmp_path)
    assert again.resumed == 6
    again.append(late := frame(10))
    assert drained(again) == [*wanted[4:], late]
    again.close()


@pytest.mark.slow
def test_a_power_cut_at_any_byte_costs_the_torn_frame_only(tmp_path: Path) -> None:
    spool, wanted = opened(tmp_path / "a"), [frame(number, 40) for number in range(3)]
    for one in wanted:
        spool.append(one)
    killed(spool)
    (path,) = segments(the_folder(tmp_path / "a"))
    whole = path.read_bytes()
    third = len(whole) // 3
    for cut in range(2 * third, len(whole) + 1):
        for tail in (b"", bytes(len(whole) - cut)):  # cut short, or as long as it was and zeros
            torn = whole[:cut] + tail
            path.write_bytes(torn)
            (path.parent / "acknowledged").unlink(missing_ok=True)
            shutil.rmtree(path.parent / "damaged", ignore_errors=True)
            again = opened(tmp_path / "a")
            before = again.counts.damaged_records
            assert drained(again) == (wanted if torn == whole else wanted[:2]), cut
            kept = list((path.parent / "damaged").glob("*"))
            assert len(kept) == (len(torn) not in (2 * third, len(whole)) or (bool(tail) and torn != whole)), cut
            assert again.counts.damaged_records == before
            again.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_flipped_byte_costs_one_frame_and_the_others_arrive_in_order(tmp_path: Path, at: int, flip: int) -> None:
    root = tmp_path / "spool"
    shutil.rmtree(root, ignore_errors=True)
    spool, wanted = opened(root), [frame(number, 40) for number in range(5)]
    for one in wanted:
        spool.append(one)
    killed(spool)
    (path,) = segments(the_folder(root))
    raw = bytearray(path.read_bytes())
    hit = at % len(raw)
    raw[hit] ^= flip
    path.write_bytes(raw)
    again = opened(root)
    lost = hit // (len(raw) // 5)
    assert drained(again) == wanted[:lost] + wanted[lost + 1 :]
    assert again.counts.damaged_records == 1
    again.close()
    assert len(list((the_folder(root) / "damaged").iterdir())) == 1


def test_a_torn_mark_means_frames_sent_again_and_none_lost(tmp_path: Path) -> None:
    spool, wanted = opened(tmp_path), [frame(number) for number in range(3)]
    for one in wanted:
        spool.append(one)
    spool.head()
    spool.done()
    killed(spool)
    (the_folder(tmp_path) / "acknowledged").write_bytes(b"\1\2\3")
    again = opened(tmp_path)
    assert drained(again) == wanted
    again.close()


STEPS = st.lists(
    st.one_of(st.tuples(st.just("put"), st.integers(1, 60_000)), st.sampled_from([("send", 0), ("kill", 0)])),
    max_size=40,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_order_and_bounds_hold_and_all_is_accounted_for(tmp_path: Path, steps: list[Any]) -> None:
    root, limit_bytes = tmp_path / "spool", 300_000
    shutil.rmtree(root, ignore_errors=True)
    spool = opened(root, limit_bytes=limit_bytes)
    put, sent = 0, []
    for step, size in steps:
        if step == "put":
            spool.append(frame(put, size))
            put += 1
        elif step == "kill":
            killed(spool)
            spool = opened(root, limit_bytes=limit_bytes)
        elif (head := spool.head()) is not None:
            sent.append(head[1].recorded_us)
            spool.done()
        on_disk = sum(path.stat().st_size for path in segments(the_folder(root)))
        assert on_disk == spool.disk_bytes <= limit_bytes
        assert put == len(sent) + len(spool) + spool.counts.dropped_frames
    sent += [one.recorded_us for one in drained(spool)]
    assert sent == sorted(set(sent))
    assert len(sent) + spool.counts.dropped_frames == put
    assert not put or spool.counts.dropped_frames == put or sent
    spool.close()


def test_the_oldest_go_first_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = opened(tmp_path, limit_bytes=500_000)
    for number in range(40):
        spool.append(frame(number, 30_000))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    dropped = spool.dropped_frames
    assert [one.recorded_us for one in drained(spool)] == [START_US + n * SECOND for n in range(dropped, 40)]
    assert 40 - dropped >= 500_000 // 30_000 - 3  # a segment at a time
    spool.close()
    (status,) = read_status(tmp_path, START_US)
    assert status.dropped_frames == dropped


def test_the_frame_being_sent_does_not_count_as_dropped(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=200_000)
    spool.append(frame(0, 60_000))
    head = spool.head()
    for number in range(1, 10):
        spool.append(frame(number, 60_000))
    assert spool.head() == head
    spool.done()
    assert spool.dropped_frames + len(spool) == 9
    spool.close()


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(SettingsError, match=rf"in use by another agent \(process {os.getpid()}\)"):
        opened(tmp_path)
    other = open_spool(tmp_path, "pump-1", "fan end", limit_bytes=10, held_bytes=10)  # another source is another spool
    assert [status.running for status in read_status(tmp_path, 0)] == [True, True]
    other.close()
    spool.close()
    opened(tmp_path).close()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tmpfs"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_on_a_full_disk_frames_wait_in_memory_and_none_is_lost(
    full_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(full_disk, limit_bytes=100_000_000, held_bytes=2_000_000)
    wanted = [frame(number, 50_000) for number in range(40)]
    for one in wanted:
        spool.append(one)
    assert "No space left on device" in caplog.text
    assert len(caplog.records) == 1
    assert drained(spool) == wanted
    assert (spool.dropped_frames, spool.counts.damaged_records) == (0, 0)
    spool.append(last := frame(99, 50_000))
    assert "can write to its disk again" in caplog.text
    killed(spool)
    again = opened(full_disk)
    assert drained(again) == [last]
    again.close()


def test_when_memory_is_full_too_the_oldest_go_first(full_disk: Path) -> None:
    spool = opened(full_disk, limit_bytes=100_000_000, held_bytes=300_000)
    for number in range(60):
        spool.append(frame(number, 50_000))
    sent = [one.recorded_us for one in drained(spool)]
    assert sent == [START_US + n * SECOND for n in range(60 - len(sent), 60)]
    assert spool.dropped_frames == 60 - len(sent)
    assert len(sent) >= 5
    spool.close()


def test_a_disk_that_fails_takes_back_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, real = opened(tmp_path), os.write
    spool.append(first := frame(0))

    def failing(descriptor: int, data: bytes) -> int:
        if len(data) > 60:
            return real(descriptor, data[:60])
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("edge_agent.spool.spool.os.write", failing)
    spool.append(second := frame(1))
    assert len(spool) == 2
    monkeypatch.undo()
    spool.append(third := frame(2))
    killed(spool)
    again = opened(tmp_path)
    assert drained(again) == [first, second, third]
    assert again.counts.damaged_records == 0
    again.close()


async def test_a_folder_waits_for_room_and_then_goes_on(tmp_path: Path) -> None:
    import asyncio

    buffer = SpoolBuffer(opened(tmp_path, limit_bytes=100_000), drop_oldest=False)
    wanted = [frame(number, 30_000) for number in range(12)]

    async def fill() -> None:
        for one in wanted:
            await buffer.put(one)
        await buffer.close()

    filling, found = asyncio.create_task(fill()), []
    while (one := await asyncio.wait_for(buffer.next(), 10)) is not None:
        found.append(one)
        await buffer.done()
    await filling
    await buffer.shut()
    assert (found, buffer.dropped_frames) == (wanted, 0)


def test_the_status_tells_what_waits(tmp_path: Path) -> None:
    assert read_status(tmp_path / "nowhere", 0) == []
    spool = opened(tmp_path)
    for number in range(3):
        spool.append(frame(number))
    spool.head()
    spool.done()
    (status,) = read_status(tmp_path, START_US + 11 * SECOND)
    assert (status.machine_id, status.source, status.running) == ("pump-1", "drive end", True)
    assert (status.frames, status.oldest_age_s) == (2, 10.0)
    assert status.oldest_recorded == "2025-06-15T15:06:41.000000Z"
    assert 200 < status.bytes < 600
    spool.close()
    assert [(s.running, s.frames) for s in read_status(tmp_path, 0)] == [(False, 2)]
