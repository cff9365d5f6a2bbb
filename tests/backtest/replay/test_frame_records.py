"""Recordings as a gateway's frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backtest.replay.frame_records import FrameRange, kind_of, records
from recordings import recording_info
from recordings.cut import frame_count
from schemas import Condition, parse_frame
from stream_app.pipeline import decode
from tests.models import START_US, encoded, noise


def range_of(path: Path, frame_s: float = 1.0) -> FrameRange:
    info = recording_info(path)
    kind = kind_of(path, path.stat().st_size, info)
    frames = frame_count(info.samples, info.rate_hz, frame_s)
    place = (1, str(path.parent), path.name, kind, 1, "pump-1", "mic", START_US)
    return FrameRange(*place, info.rate_hz, info.channels, info.samples, frame_s, frames, 0, frames)


def samples_of(part: FrameRange) -> np.ndarray:
    cuts = list(records(part))
    return np.concatenate([decode(cut.record.value or b"").samples for cut in cuts if cut.record], axis=1)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("WAV", "PCM_U8"), ("FLAC", "PCM_24")],
)
def test_nothing_of_a_lossless_recording_is_lost(tmp_path: Path, kind: str, subtype: str):
    import soundfile

    path = tmp_path / f"long.{kind.lower()}"
    path.write_bytes(encoded(noise(5.6, channels=2), kind=kind, subtype=subtype))
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    np.testing.assert_array_equal(samples_of(range_of(path)), whole)


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_a_lossy_recording_is_the_same_in_pieces(tmp_path: Path, kind: str, subtype: str):
    path = tmp_path / f"long.{kind.lower()}"
    path.write_bytes(encoded(noise(6.0), kind=kind, subtype=subtype))
    part = range_of(path)
    together = samples_of(part)
    apart = [samples_of(part._replace(first=first, many=1)) for first in range(part.frames)]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))


def test_each_frame_says_how_the_machine_ran(tmp_path: Path):
    path = tmp_path / "long.wav"
    path.write_bytes(encoded(noise(3.0)))
    part = range_of(path)._replace(condition=Condition(1478.5, -20))
    frames = [parse_frame(cut.record) for cut in records(part) if cut.record]
    assert [frame.condition for frame in frames] == [(1478.5, -20.0)] * 3


def test_frames_follow_each_other_in_time(tmp_path: Path):
    path = tmp_path / "long.wav"
    path.write_bytes(encoded(noise(3.6)))
    found = [parse_frame(cut.record) for cut in records(range_of(path)) if cut.record]
    assert [frame.recorded_us - START_US for frame in found] == [0, 1_000_000, 2_000_000, 3_000_000]
    assert {frame.stream for frame in found} == {("pump-1", "mic")}
    assert found[-1].record.timestamp_ms == START_US // 1000 + 3600


def test_a_recording_of_one_frame_is_sent_as_it_is(tmp_path: Path):
    path = tmp_path / "one.flac"
    path.write_bytes(encoded(noise(1.0), kind="FLAC"))
    assert [cut.record.value for cut in records(range_of(path)) if cut.record] == [path.read_bytes()]


def test_a_recording_that_ends_early_says_so_for_the_frames_that_lack(tmp_path: Path):
    path = tmp_path / "long.wav"
    path.write_bytes(encoded(noise(4.0)))
    part = range_of(path)
    path.write_bytes(encoded(noise(2.0)))  # replaced since its header was read
    found = list(records(part))
    assert [cut.record is None for cut in found] == [False, False, True, True]
    assert "ends before" in (found[-1].problem or "")
