"""Which frames come of a recording: the edge agent's, in every path that makes some, to the sample and the microsecond.

The reference is what the agent sends to a topic in memory. Each path is asked by its own functions.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backtest.evaluation.scored_set import Pace, _place
from backtest.replay.finding import Finder
from backtest.replay.frame_records import records
from backtest.replay.replay_options import START_US as PLAYED_US
from backtest.replay.replay_options import ReplayConfig
from backtest.score_store import ScoreStore, opened
from backtest.scoring import frame_ranges
from edge_agent import EdgeAgent, EdgeConfig, PlaybackTimes
from edge_agent.sources import FolderSource
from recordings import decode
from recordings.cut import frame_bounds, frame_count
from recordings.naming import Naming
from schemas import FrameRecord, ModelMetadata, parse_frame
from stream_app.pipeline import resample, windows
from stream_app.pipeline.features import Features
from tests.edge_agent.fakes import START_US, FakeSink
from tests.models import tiny_metadata
from trainer.backfill import _frames as history_frames
from trainer.backfill import recording_times
from trainer.extraction import PARQUET, Extracted, extract_features
from trainer.feature_choice import choose_features
from trainer.recording_set import Recording, RecordingSet, Segment, find_recordings
from trainer.screening import _scan
from trainer.spectrograms import Prepared, prepare
from trainer.train_options import ExtractConfig, FeatureOptions

BEGAN_US = START_US - 3_600_000_000
KINDS = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAV", "PCM_24"),
    "pcm32.wav": ("WAV", "PCM_32"),
    "float.wav": ("WAV", "FLOAT"),
    "pcm16.flac": ("FLAC", "PCM_16"),
    "pcm24.aiff": ("AIFF", "PCM_24"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "layer3.mp3": ("MP3", "MPEG_LAYER_III"),
    "table.csv": ("", ""),
}


@dataclass(frozen=True, eq=False)
class Cut:
    """One frame: where it begins in its recording, microseconds, and its samples [channel, n] as a worker has them."""

    offset_us: int
    samples: np.ndarray


def write(path: Path, samples: int, rate_hz: int, channels: int) -> Path:
    drawn = np.random.default_rng(samples).normal(0, 0.1, (samples, channels)).clip(-0.9, 0.9)
    if path.suffix == ".csv":
        lines = [f"# sample_rate_hz: {rate_hz}", ",".join("xyz"[:channels])]
        path.write_text("\n".join([*lines, *(",".join(f"{value:.6f}" for value in row) for row in drawn * 64)]))
    else:
        container, subtype = KINDS[path.name]
        soundfile.write(path, drawn, rate_hz, format=container, subtype=subtype)
    return path


def sent(path: Path, frame_s: float) -> list[Cut]:
    """What the agent publishes."""
    sink = FakeSink()
    source = FolderSource([path], on_error="fail")
    times = PlaybackTimes(sink.clock, duration_s=source.duration_s, speed=math.inf, start_us=BEGAN_US)
    config = EdgeConfig(machine_id="pump-1", bootstrap="nowhere:1", source="mic", frame_s=frame_s)
    asyncio.run(EdgeAgent(config, source, times, sink=sink, clock=sink.clock).run())
    return [_parsed(frame.record, BEGAN_US) for frame in sink.parsed()]


def _parsed(record: FrameRecord, began_us: int) -> Cut:
    frame = parse_frame(record)
    assert frame.machine_id == "pump-1"
    return Cut(frame.recorded_us - began_us, decode(record.value or b"").samples)


def router_of(metadata: ModelMetadata) -> Any:
    model = SimpleNamespace(metadata=metadata)
    return SimpleNamespace(find=lambda _: SimpleNamespace(model=model, loaded=model))


def stored(store: ScoreStore, folder: Path, began_us: int) -> list[Cut]:
    """What is scored of the recordings in a store."""
    cuts = [one for part in frame_ranges(store, str(folder)) for one in records(part)]
    assert [one.number for one in cuts] == list(range(len(cuts)))
    return [_parsed(one.record, began_us) for one in cuts if one.record is not None]


def replayed(path: Path, frame_s: float, metadata: ModelMetadata, out: Path) -> list[Cut]:
    config = ReplayConfig(
        folder=path.parent, out=out, frame_s=frame_s, machine="pump-1", source="mic", times="pace", start_us=BEGAN_US
    )
    with opened(out, {}) as store:
        Finder(config, store, router_of(metadata), lambda _: None).find()
        return stored(store, path.parent, BEGAN_US)


def evaluated(recording: Recording, frame_s: float, metadata: ModelMetadata, out: Path) -> list[Cut]:
    folder = recording.path.parent
    found = RecordingSet(folder, (recording,), ())
    champions: Any = SimpleNamespace(router=router_of(metadata))
    with opened(out, {}) as store:
        assert not _place(found, store, champions, Pace(frame_s))
        return stored(store, folder, PLAYED_US)


def assert_alike(found: list[Cut], expected: list[Cut]) -> None:
    assert [one.offset_us for one in found] == [one.offset_us for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def assert_screened_alike(heard: Any, expected: list[Cut], samples: int) -> None:
    bounds = [(frame.start, frame.stop) for frame in heard.frames]
    stops = np.cumsum([one.samples.shape[1] for one in expected]).tolist()
    assert bounds[: len(stops)] == list(zip([0, *stops[:-1]], stops, strict=True))
    assert bounds[len(stops) :] in ([], [(stops[-1], samples)])  # what makes no frame is trained on all the same


def assert_held_out_alike(prepared: Prepared, expected: list[Cut], features: Features, rate_hz: int) -> None:
    config = features.config
    frames = [resample(one.samples, rate_hz, config.sample_rate_hz) for one in expected]
    computed = [windows(features.log_mel(frame), config) for frame in frames]
    np.testing.assert_array_equal(prepared.held_out.windows, np.concatenate(computed))
    assert [frame.windows for frame in prepared.held_out.frames] == [len(own) for own in computed]


def assert_extracted_alike(extracted: Extracted, expected: list[Cut], features: Features, rate_hz: int) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(extracted.out / PARQUET).to_pylist()
    assert [row["frame"] for row in rows] == list(range(len(expected)))
    for row, one in zip(rows, expected, strict=True):
        assert row["start_s"] * 1e6 == pytest.approx(one.offset_us, abs=1)
        assert row["duration_s"] == one.samples.shape[1] / rate_hz
        samples = resample(one.samples, rate_hz, features.config.sample_rate_hz)
        assert list(row.values())[5:18] == features.log_mel_and_statistics(samples[np.newaxis])[1][0].tolist()
    times_us = recording_times(extracted.found.recordings, BEGAN_US)
    assert [one.recorded_us - BEGAN_US for one in history_frames(extracted, times_us)] == [
        one.offset_us for one in expected
    ]


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(list(KINDS)),
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100]) | st.integers(8_000, 20_000),
    channels=st.integers(1, 3),
    seconds=st.floats(0.12, 3.0),
    frame_s=st.sampled_from([0.1, 0.25, 0.5, 1.0]) | st.floats(0.1, 1.5),
    share=st.sampled_from([0.3, 0.6, 0.9, 1.0]),
    model_rate_hz=st.sampled_from([0, 8_000, 16_000]),
)
def test_every_path_makes_the_frames_that_the_agent_sends(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    rate_hz: int,
    channels: int,
    seconds: float,
    frame_s: float,
    share: float,
    model_rate_hz: int,
) -> None:
    if name.endswith((".mp3", ".ogg")):  # which know few rates, or few channels at odd ones
        rate_hz, channels = min((8_000, 11_025, 16_000, 22_050, 44_100), key=lambda known: abs(known - rate_hz)), 1
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "in").mkdir()
    path = write(folder / "in" / name, round(seconds * rate_hz), rate_hz, channels)
    frames = sent(path, frame_s)
    found = find_recordings(path.parent, Naming(machine="pump-1"))
    (recording,) = found.recordings
    options = FeatureOptions(
        rate_hz=model_rate_hz or None, n_fft=64, hop=32, bands=8, scale="linear", window_s=share * frame_s
    )
    features = Features(choose_features(found, options, frame_s).features)
    window_s = features.config.window_s
    # A worker refuses what is shorter than a window: whoever knows the model leaves out such an end.
    usable = [one for one in frames if one is frames[0] or one.samples.shape[1] >= window_s * rate_hz - 1e-6]
    assert len(usable) >= len(frames) - 1

    metadata = tiny_metadata(features.config)
    assert_alike(replayed(path, frame_s, metadata, folder / "out"), usable)
    assert_alike(evaluated(recording, frame_s, metadata, folder / "evaluated"), usable)
    part = Segment(recording, 0, recording.samples)
    assert_screened_alike(_scan(part, features.config, frame_s), frames, recording.samples)
    prepared = prepare([part], [part], features.config, frame_s, folder)
    if usable[0].samples.shape[1] < window_s * rate_hz - 1e-6:
        assert isinstance(prepared, list)  # as a worker refuses it
        return
    assert isinstance(prepared, Prepared)
    if len(frames[0].samples) == 1 or features.config.channels > 1:
        assert_held_out_alike(prepared, usable, features, rate_hz)
    extracted = extract_features(
        ExtractConfig(
            folder=path.parent,
            out=folder / "features",
            machine="pump-1",
            features=options,
            frame_s=frame_s,
        )
    )
    assert_extracted_alike(extracted, usable, features, rate_hz)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (300, [(0, 100), (100, 200), (200, 300)]),
        (350, [(0, 100), (100, 200), (200, 300), (300, 350)]),  # from half a frame on
        (349, [(0, 100), (100, 200), (200, 300)]),
        (100, [(0, 100)]),
        (30, [(0, 30)]),  # a recording shorter than half a frame
        (10, [(0, 10)]),
        (9, []),  # 0.1 s are the least
        (0, []),
    ],
)
def test_frames_lie_back_to_back(samples: int, expected: list[tuple[int, int]]) -> None:
    assert frame_bounds(samples, 100, 1.0) == expected
    assert frame_count(samples, 100, 1.0) == len(expected)


def test_a_fraction_of_a_sample_is_rounded_up() -> None:
    assert frame_bounds(3 * 5513, 11_025, 0.5) == [(0, 5513), (5513, 11_026), (11_026, 16_539)]


def test_an_end_shorter_than_what_is_asked_for_is_left_out() -> None:
    assert frame_bounds(160, 100, 1.0, 0.9) == [(0, 100)]
    assert frame_bounds(190, 100, 1.0, 0.9) == [(0, 100), (100, 190)]
    assert frame_bounds(60, 100, 1.0, 0.9) == [(0, 60)]  # who needs more refuses it, and says so
