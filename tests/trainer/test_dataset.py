"""Windows: the worker's own, drawn reproducibly, and nothing held out among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from schemas import FeatureConfig
from schemas.errors import RecordingError
from stream_app.pipeline.features import Features
from stream_app.pipeline.windowing import windows
from tests.trainer.conftest import vibration, write
from trainer.dataset import HeldOutFrame, HeldOutSet, TrainingSet
from trainer.loaders import WindowLoader
from trainer.recording_set import find_recordings, split
from trainer.spectrograms import prepare

CONFIG = FeatureConfig(
    sample_rate_hz=200, channels=3, n_fft=64, hop=16, bands=32, scale="linear", fmax_hz=100, window_columns=9
)


def _prepared(folder: Path, work: Path, config: FeatureConfig = CONFIG, frame_s: float = 1.0):
    work.mkdir()
    return prepare(*split(find_recordings(folder).recordings, frame_s), config, frame_s, work)


def test_spectrograms_and_held_out_frames_are_the_cores(tmp_path: Path) -> None:
    paths = [write(tmp_path / "in" / f"{number}.wav", vibration(5.5, number)) for number in range(3)]
    prepared = _prepared(tmp_path / "in", tmp_path / "work")
    features = Features(CONFIG)
    signals = [np.ascontiguousarray(soundfile.read(path, dtype="float32")[0].T) for path in paths]
    whole = np.concatenate([features.log_mel(signal).transpose(2, 0, 1) for signal in signals[:2]])
    np.testing.assert_array_equal(prepared.train.columns, whole)
    frames = [windows(features.log_mel(signals[2][:, 200 * i : 200 * i + 200]), CONFIG) for i in range(5)]
    np.testing.assert_array_equal(prepared.held_out.windows, np.concatenate(frames))
    assert [(frame.first, frame.signals, frame.windows) for frame in prepared.held_out.frames] == [
        (i, 1, 1) for i in range(5)
    ]


def test_each_segment_that_is_trained_on_knows_its_machine(plant: Path, tmp_path: Path) -> None:
    prepared = _prepared(plant, tmp_path / "work")
    assert prepared.train.machines == ("pump-1",) * 8 + ("pump-2",) * 8
    assert {frame.machine for frame in prepared.held_out.frames} == {"pump-1", "pump-2"}


def test_another_rate_is_resampled_and_channels_are_judged_alone_where_the_model_has_one(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "in" / f"{number}.wav", vibration(2, number, rate_hz=400, channels=2), 400)
    config = FeatureConfig(**{**_as_dict(CONFIG), "channels": 1})
    prepared = _prepared(tmp_path / "in", tmp_path / "work", config)
    assert prepared.held_out.windows.shape == (4, 1, 32, 9)
    assert [(frame.signals, frame.windows) for frame in prepared.held_out.frames] == [(2, 1), (2, 1)]
    assert len(prepared.train.segments) == 4


def test_flat_and_undecodable_recordings_are_problems(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "in" / f"{number}.wav", vibration(2, number))
    write(tmp_path / "in" / "1.wav", np.full((400, 3), 0.25, np.float32))
    cut = tmp_path / "in" / "2.flac"
    (tmp_path / "in" / "2.wav").unlink()
    raw = write(cut, vibration(2, 9)).read_bytes()
    cut.write_bytes(raw[: len(raw) // 2])
    found = find_recordings(tmp_path / "in").problems
    assert [(problem.name, "can't be decoded" in problem.reason) for problem in found] == [("2.flac", True)]
    computed = _prepared(tmp_path / "in", tmp_path / "work")
    assert [(problem.name, "flat" in problem.reason) for problem in computed] == [("1.wav", True)]


def test_nothing_held_out_is_an_error_that_says_what_is_needed(tmp_path: Path) -> None:
    write(tmp_path / "in" / "only.wav", vibration(1.2, 0))
    with pytest.raises(RecordingError, match="at least two recordings"):
        _prepared(tmp_path / "in", tmp_path / "work")


def test_moments_are_those_of_all_columns() -> None:
    columns = (np.random.default_rng(0).normal(-8, 2, (70_000, 2, 3))).astype(np.float32)
    mean, std = TrainingSet(columns, ((0, 70_000),), 9).moments()
    np.testing.assert_allclose(mean, columns.mean(axis=0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(std, columns.std(axis=0, dtype=np.float64), rtol=1e-7)


def test_batches_depend_on_seed_and_epoch_alone_and_stay_within_a_segment() -> None:
    segments = ((0, 20), (20, 9), (29, 31))
    columns = np.zeros((60, 1, 2), np.float32)
    columns[:, 0, 0] = np.arange(60)
    data = TrainingSet(columns, segments, width=9)

    def epochs(seed: int) -> list[torch.Tensor]:
        loader = WindowLoader(data, batch=4, seed=seed)
        return [torch.cat(list(loader)) for _ in range(3)]

    assert len(WindowLoader(data, batch=4, seed=0)) == len(list(WindowLoader(data, batch=4, seed=0))) == 2
    first, again, other = epochs(1), epochs(1), epochs(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    for epoch in first:
        assert epoch.shape == (6, 1, 2, 9)
        starts = sorted(epoch[:, 0, 0, 0].int().tolist())
        assert (epoch[:, 0, 0].diff(dim=1) == 1).all()  # columns in order, no seam inside
        homes = [next(i for i, (s, n) in enumerate(segments) if s <= start <= s + n - 9) for start in starts]
        assert homes == [0, 0, 1, 2, 2, 2]


def test_a_frames_score_is_the_mean_over_windows_of_the_worst_signal() -> None:
    frames = (HeldOutFrame("a", "1", 0, 2, 2), HeldOutFrame("a", "1", 4, 1, 1), HeldOutFrame(None, "2", 5, 1, 2))
    runs = HeldOutSet(np.zeros((7, 1, 1, 1), np.float32), frames).frame_scores(
        np.array([1, 2, 5, 3, 7, 1, 3], np.float32)
    )
    assert {machine: [run.tolist() for run in own] for machine, own in runs.items()} == {
        "a": [[4.0, 7.0]],
        None: [[2.0]],
    }


def test_a_frames_score_may_be_the_median_over_windows_of_the_worst_signal() -> None:
    frames = (HeldOutFrame("a", "1", 0, 2, 3),)
    held_out = HeldOutSet(np.zeros((6, 1, 1, 1), np.float32), frames, "median")
    assert held_out.frame_scores(np.array([1, 9, 2, 3, 2, 4], np.float32))["a"][0].tolist() == [3.0]


def _as_dict(config: FeatureConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}
