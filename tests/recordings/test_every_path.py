"""A recording is read alike by all that read recordings, or refused by all for the same reason."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.retained import record
from backtest.replay.frame_records import FrameRange, kind_of, records
from edge_agent.block import Block
from edge_agent.sources import FolderSource
from recordings import decode, read_recording, recording_info
from recordings.cut import frame_bounds, frame_count
from recordings.encode import encode, encoded_frames
from recordings.find import Problem
from recordings.naming import RecordingMetadata
from schemas.errors import FrameRejected, RecordingError
from schemas.frame import FrameRecord
from tests.recordings.audio_files import (
    AS_16,
    FILES_OF,
    FRAMES,
    FRAMES_OF,
    I16,
    I24,
    REFUSED,
    chunk,
    fmt,
    pcm16,
    riff,
    with_total,
    written,
)
from tests.recordings.audio_files import FLAC as FLAC_BYTES
from trainer.reading import samples_of
from trainer.recording_set import Segment, describe, find_recordings

FRAME_S = 0.2


def _known(name: str) -> RecordingMetadata:
    nothing = dict.fromkeys(("machine", "source", "label", "unclear", "onset_s", "split", "unplaced"))
    return RecordingMetadata(name=name, start=0, **nothing)  # type: ignore[arg-type]


def as_read(path: Path) -> np.ndarray:
    return read_recording(path).samples


def as_trained_on(path: Path) -> np.ndarray:
    (found,) = describe(path.parent, [_known(path.name)])
    if isinstance(found, Problem):
        raise RecordingError(found.reason)
    return np.concatenate(
        [samples_of(Segment(found, 0, 3_000)), samples_of(Segment(found, 3_000, found.samples))], axis=1
    )


def as_evaluated(path: Path) -> np.ndarray:
    """In frames, whose last may be left out, and as one."""
    info, found = recording_info(path), []
    for frame_s in (FRAME_S, 60.0):
        bounds = frame_bounds(info.samples, info.rate_hz, frame_s, 0.1)
        found.append(np.concatenate([decode(one).samples for one in encoded_frames(path, bounds)], axis=1))
    np.testing.assert_array_equal(found[0], found[1][:, : found[0].shape[1]])
    return found[1]


def as_replayed(path: Path) -> np.ndarray:
    """In frames, and as one frame, which a short file is as it is."""
    info, found = recording_info(path), []
    kind = kind_of(path, path.stat().st_size, info)
    for frame_s in (FRAME_S, 60.0):
        frames = frame_count(info.samples, info.rate_hz, frame_s)
        part = FrameRange(
            1, str(path.parent), path.name, kind, 1, "pump-1", "mic", 0, info.rate_hz, info.channels, info.samples,
            frame_s, frames, 0, frames,
        )  # fmt: skip
        cuts = list(records(part))
        problems = {one.problem for one in cuts if one.record is None}
        if problems:
            raise RecordingError(str(problems))
        found.append(np.concatenate([decode(one.record.value or b"").samples for one in cuts if one.record], axis=1))
    np.testing.assert_array_equal(found[0], found[1][:, : found[0].shape[1]])
    return found[1]


def as_published(path: Path) -> np.ndarray:
    async def heard() -> list[Block]:
        return [block async for block in FolderSource([path], on_error="fail")]

    frames = [encode(one.samples, one.format, "flac").value for one in asyncio.run(heard())]
    return np.concatenate([decode(frame).samples for frame in frames], axis=1)


FILE_PATHS = [as_read, as_trained_on, as_evaluated, as_replayed, as_published]
Reader = Callable[[Path], np.ndarray]


def _written(tmp_path: Path, name: str, value: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(value)
    return path


@pytest.mark.parametrize("name", FRAMES_OF)
def test_what_a_worker_takes_is_read_alike_by_all(tmp_path: Path, name: str) -> None:
    value, expected = FRAMES_OF[name]
    path = _written(tmp_path, name, value)
    np.testing.assert_array_equal(decode(value).samples, expected[np.newaxis])
    for reader in FILE_PATHS:
        np.testing.assert_array_equal(reader(path), expected[np.newaxis], err_msg=reader.__name__)
    assert find_recordings(tmp_path).recordings[0].info.unfit is None


@pytest.mark.parametrize("name", FILES_OF)
def test_what_a_worker_does_not_take_is_read_alike_by_all_others(tmp_path: Path, name: str) -> None:
    value, expected = FILES_OF[name]
    path = _written(tmp_path, name, value)
    for reader in FILE_PATHS:
        np.testing.assert_array_equal(reader(path), expected[np.newaxis], err_msg=reader.__name__)
    with pytest.raises(FrameRejected):
        decode(value)
    notes = find_recordings(tmp_path).notes
    assert any(name in line and "A worker refuses such a file" in line for line in notes), notes


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_refused_by_all_for_the_same_reason(tmp_path: Path, name: str) -> None:
    value, reason = REFUSED[name]
    path = _written(tmp_path, name, value)
    with pytest.raises(FrameRejected, match=reason):
        decode(value)
    for reader in FILE_PATHS:
        with pytest.raises((RecordingError, FrameRejected), match=reason):
            reader(path)


def test_a_bad_file_does_not_hurt_its_neighbours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, (value, _) in REFUSED.items():
        _written(tmp_path, name, value)
    _written(tmp_path, "fine.flac", FLAC_BYTES)
    found = find_recordings(tmp_path)
    assert {one.name for one in found.recordings} == {"fine.flac", "nan.wav"}  # which is found when it is read
    with caplog.at_level(logging.WARNING):
        source = FolderSource([tmp_path])
    assert {file.path.name for file in source.files} == {"fine.flac", "nan.wav"}
    assert source.counts()["files_damaged"] == len(REFUSED) - 1


@pytest.mark.parametrize("total", [0, 8_000])
def test_what_was_recorded_from_a_topic_is_read_as_the_worker_read_it(tmp_path: Path, total: int) -> None:
    value = with_total(FLAC_BYTES, total)

    async def retained() -> AsyncIterator[FrameRecord]:
        yield FrameRecord(b"pump-1", value, (), 1_767_225_600_000)

    asyncio.run(record(retained(), tmp_path, None))
    (path,) = tmp_path.rglob("*.flac")
    for reader in FILE_PATHS:
        np.testing.assert_array_equal(reader(path), decode(value).samples, err_msg=reader.__name__)


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from([*FRAMES_OF, *FILES_OF]),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4),
    cut_bytes=st.integers(0, 300),
)
def test_whatever_a_header_says_all_agree(
    tmp_path_factory: pytest.TempPathFactory, name: str, changes: list[tuple[int, int]], cut_bytes: int
) -> None:
    value = bytearray((FRAMES_OF.get(name) or FILES_OF[name])[0])
    for place, byte in changes:
        value[place] = byte
    value = value[: len(value) - cut_bytes]
    path = _written(tmp_path_factory.mktemp("kinds"), name.rpartition(".")[0][:1] + Path(name).suffix, bytes(value))
    answers = [_answer(reader, path) for reader in (as_read, as_evaluated, as_published)]
    reasons = {answer for answer in answers if isinstance(answer, str)}
    if any(reason.startswith("too_") for reason in reasons):
        return  # a recording may be shorter and longer than a frame
    assert not reasons or all(isinstance(answer, str) for answer in answers), answers
    for answer in answers[1:]:
        if not isinstance(answer, str):
            np.testing.assert_array_equal(answer, answers[0])
    live = _answer(lambda _: decode(bytes(value)).samples, path)
    if not isinstance(live, str) and not isinstance(answers[0], str):
        np.testing.assert_array_equal(live, answers[0])


def _answer(reader: Reader, path: Path) -> np.ndarray | str:
    try:
        return reader(path)
    except (RecordingError, FrameRejected) as error:
        return str(error)


@pytest.mark.parametrize("kind", ["missing", "pipe", "zero"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.wav"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    for reader in FILE_PATHS:
        with pytest.raises(RecordingError, match=r"no such file|no regular file|does not exist"):
            reader(path)


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    for suffix, value in (
        (b".wav", FRAMES_OF["plain.wav"][0]),
        (b".flac", FLAC_BYTES),
        (b".mp3", FILES_OF["mp3.mp3"][0]),
    ):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe" + suffix))
        path.write_bytes(value)
        for reader in FILE_PATHS:
            assert reader(path).shape[1] > 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("float at the scale of integers.wav", "floats of up to .*, where full scale is 1"),
        ("lower.wav", "32 bit samples that use the lower 24 bits alone"),
    ],
)
def test_what_looks_wrong_is_said(tmp_path: Path, name: str, words: str) -> None:
    lower = riff(fmt(bits=32) + chunk(b"data", I24.tobytes()))  # as `arecord -t wav -f S24_LE` writes it
    _written(tmp_path, name, FRAMES_OF[name][0] if name in FRAMES_OF else lower)
    _written(tmp_path, "fine.wav", FRAMES_OF["float32.wav"][0])
    (note,) = find_recordings(tmp_path).notes
    assert re.search(words, note)
    assert note.startswith(f"{name}: ")


_PART = 4000
LONG_FLAC = written("FLAC", "PCM_16", np.random.default_rng(2).normal(0, 0.1, 32_000))
_LIST = chunk(b"LIST", b"INFOISFT\x04\0\0\0whir")


@pytest.mark.parametrize(
    ("name", "value", "unread"),
    [
        ("early.wav", pcm16(_PART, 36 + _PART), 2 * FRAMES - _PART),
        ("early alone.wav", pcm16(_PART), 2 * FRAMES - _PART),
        ("second data.wav", pcm16(after=_LIST + chunk(b"data", bytes(4000))), 4008),
        ("two.wav", pcm16() + pcm16(), len(pcm16())),
        ("half.flac", with_total(LONG_FLAC, 16_000), None),
        ("two.flac", FLAC_BYTES + FLAC_BYTES, len(FLAC_BYTES)),
        ("list.wav", pcm16(after=_LIST + chunk(b"bext", bytes(700)) + chunk(b"id3 ", bytes(33))), 0),
        ("odd.wav", pcm16(after=_LIST + b"\0"), 0),
        ("tag.wav", pcm16() + b"TAG".ljust(128, b"\0"), 0),
        ("ape.wav", pcm16() + b"APETAGEX".ljust(128, b"\1"), 0),
        ("whole.flac", FLAC_BYTES, 0),
        ("tag.flac", FLAC_BYTES + b"TAG".ljust(128, b"\0"), 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_of_a_file_is_not_read_is_said(tmp_path: Path, name: str, value: bytes, unread: int | None) -> None:
    path = _written(tmp_path, name, value)
    warning = recording_info(path).warning
    if unread == 0:
        assert warning is None
    else:
        said = re.match(r"(\d+) bytes after the data that the header states are not read", warning or "")
        assert said is not None
        assert int(said[1]) == unread if unread else len(LONG_FLAC) // 3 < int(said[1]) < len(LONG_FLAC) // 2
    np.testing.assert_array_equal(as_read(path), decode(value).samples)


def _early(container: str, at: bytes, offset: int, form: str, stated: int) -> bytes:
    """A file whose header was last written when so many bytes of samples were there."""
    value = bytearray(written(container, "PCM_16", I16))
    struct.pack_into(form, value, value.index(at) + offset, stated)
    return bytes(value)


@pytest.mark.parametrize(
    ("name", "value", "samples", "unread"),
    [
        ("early.aiff", _early("AIFF", b"SSND", 4, ">I", 8 + _PART), _PART // 2, 2 * FRAMES - _PART),
        ("early.au", _early("AU", b".snd", 8, ">I", _PART), _PART // 2, 2 * FRAMES - _PART),
        ("early.caf", _early("CAF", b"data\0", 4, ">q", 4 + _PART), _PART // 2, 2 * FRAMES - _PART),
        ("placeholder.aiff", _early("AIFF", b"SSND", 4, ">I", 0), FRAMES, 0),
        ("placeholder.au", _early("AU", b".snd", 8, ">I", 0xFFFFFFFF), FRAMES, 0),
        ("early.w64", _early("W64", b"data\xf3", 16, "<Q", 24 + _PART), FRAMES, 0),  # read to the end all the same
        ("tagged.aiff", written("AIFF", "PCM_16", I16) + b"ANNO\0\0\0\x04whir", FRAMES, 0),
        ("tagged.caf", written("CAF", "PCM_16", I16) + b"info" + struct.pack(">q", 4) + bytes(4), FRAMES, 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_of_other_files_is_not_read_is_said(
    tmp_path: Path, name: str, value: bytes, samples: int, unread: int
) -> None:
    path = _written(tmp_path, name, value)
    info = recording_info(path)
    assert info.samples == samples
    np.testing.assert_array_equal(as_read(path)[0], AS_16[:samples])
    assert (info.warning or "").startswith(f"{unread} bytes after the data" if unread else "")
    assert bool(info.warning) is bool(unread)


def test_a_header_that_claims_gigabytes_costs_no_memory(tmp_path: Path) -> None:
    value = bytearray(FRAMES_OF["rf64.wav"][0])
    value[28:36] = struct.pack("<Q", 1 << 62)
    path = _written(tmp_path, "x.wav", bytes(value))
    tracemalloc.start()
    with contextlib.suppress(RecordingError):
        read_recording(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
