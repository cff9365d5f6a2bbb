"""What a detector must not learn from is found frame by frame, told, and left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import soundfile

from commands import run
from schemas.errors import RecordingError
from stream_app.pipeline import Model
from trainer.feature_choice import choose_features
from trainer.recording_set import find_recordings
from trainer.screening import Screened, screen
from trainer.train import train_model
from trainer.train_options import FeatureOptions, TrainConfig

RATE_HZ = 16_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve normal recordings of 3 s."""
    (tmp_path / "normals").mkdir()
    for number in range(12):
        put(tmp_path / "normals" / f"{number:02d}.wav", normal(number))
    return tmp_path / "normals"


def normal(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Return a hum in noise, float32 [sample]."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hum = 0.1 * np.sin(2 * np.pi * 100 * times_s + rng.uniform(0, 6))
    return (hum + 0.02 * rng.standard_normal(len(times_s))).astype(np.float32)


def put(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> None:
    soundfile.write(path, samples, rate_hz, subtype=subtype)


def screened(folder: Path, on_error: Any = "skip") -> Screened:
    found = find_recordings(folder)
    features = choose_features(found).features
    return screen(found, features, 1.0, on_error)


def stopped(samples: np.ndarray) -> np.ndarray:
    samples[RATE_HZ // 2 :] = 0
    return samples


def dropout(samples: np.ndarray) -> np.ndarray:
    samples[20_000:21_000] = samples[20_000]
    return samples


def clipped(samples: np.ndarray) -> np.ndarray:
    samples[RATE_HZ : 2 * RATE_HZ] = np.clip(20 * samples[RATE_HZ : 2 * RATE_HZ], -1, 1)
    return samples


@pytest.mark.parametrize(
    ("damage", "reason", "left_out_s"),
    [
        (dropout, "flat in part", [(1, 2)]),
        (clipped, "clipped", [(1, 2)]),
    ],
)
def test_frames_with_a_sensor_fault_are_left_out_and_told(
    folder: Path, damage: Callable, reason: str, left_out_s: list[tuple[float, float]]
):
    put(folder / "20.wav", damage(normal(20)))
    found = screened(folder)
    assert [(one.name, one.start_s, one.stop_s, one.reason) for one in found.left_out] == [
        ("20.wav", start_s, stop_s, reason) for start_s, stop_s in left_out_s
    ]
    assert found.good["20.wav"] == [(0, RATE_HZ), (2 * RATE_HZ, 3 * RATE_HZ)]
    assert not found.found.problems


def test_a_recording_of_which_nothing_is_left_is_a_file_that_cannot_be_used(folder: Path):
    put(folder / "20.wav", stopped(normal(20)))
    found = screened(folder)
    assert [(one.name, one.reason) for one in found.found.problems] == [("20.wav", "flat, flat in part")]
    assert "20.wav" not in {one.name for one in found.found.recordings}


def test_a_folder_of_mostly_faulty_frames_is_refused(folder: Path):
    for number in range(20, 33):
        put(folder / f"{number}.wav", stopped(normal(number)))
    with pytest.raises(
        RecordingError, match=r"39 of 75 frames have a sensor fault \(26 flat, 13 flat in part\), in '20"
    ):
        screened(folder)


def test_a_faulty_frame_ends_the_command_where_that_was_asked_for(folder: Path):
    put(folder / "20.wav", dropout(normal(20)))
    with pytest.raises(RecordingError, match=r"20\.wav: flat in part, from 1 s on"):
        screened(folder, "fail")


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(lambda samples: samples, id="the same"),
        pytest.param(lambda samples: 0.5 * samples, id="quieter"),
        pytest.param(lambda samples: -samples, id="inverted"),
        pytest.param(lambda samples: samples[: 2 * RATE_HZ], id="cut short"),
        pytest.param(lambda samples: samples + 0.2, id="with an offset"),
    ],
)
def test_a_copy_counts_once(folder: Path, copy: Callable):
    put(folder / "90.wav", copy(normal(3)))
    found = screened(folder)
    assert [(one.name, one.reason) for one in found.found.problems] == [("90.wav", "a copy of 03.wav")]


def test_a_copy_in_another_format_counts_once(folder: Path):
    put(folder / "90.flac", normal(3), subtype="PCM_24")
    assert [(one.name, one.reason) for one in screened(folder).found.problems] == [("90.flac", "a copy of 03.wav")]


def test_what_is_repeated_within_a_recording_counts_once(folder: Path):
    put(folder / "90.wav", np.tile(normal(90, 1.0), 3))
    assert [(one.start_s, one.stop_s, one.reason) for one in screened(folder).left_out] == [
        (1.0, 2.0, "a copy of a part of 90.wav"),
        (2.0, 3.0, "a copy of a part of 90.wav"),
    ]


def test_recordings_that_only_resemble_each_other_are_all_used(folder: Path):
    times_s = np.arange(3 * RATE_HZ) / RATE_HZ
    for number in range(20, 24):  # locked to the shaft, as a trigger does it
        hiss = 0.01 * np.random.default_rng(number).standard_normal(len(times_s))
        put(folder / f"{number}.wav", 0.2 * np.sin(2 * np.pi * 50 * times_s) + hiss)
    assert not screened(folder).found.problems


def test_what_sets_recordings_apart_is_told(folder: Path):
    put(folder / "90.wav", normal(90), 22_050)
    put(folder / "91.wav", np.stack([normal(91), normal(92)], axis=1))
    put(folder / "92.wav", normal(93) + 0.3)
    told = screened(folder).remarks
    assert [(one.name, one.reason.partition("; most")[0]) for one in told] == [
        ("90.wav", "22050 Hz, where most have 16000 Hz"),
        ("91.wav", "2 channels, where most have 1"),
        ("92.wav", "an offset of 0.3 of full scale"),
    ]


CONFIG = TrainConfig(
    normal=Path(),
    out=Path("m.onnx"),
    detector="pooled",
    mlflow=False,
    features=FeatureOptions(bands=24, n_fft=512, hop=256),
)


def test_faulty_recordings_among_the_normals_move_no_threshold(folder: Path, tmp_path: Path):
    config = replace(CONFIG, normal=folder)
    before = train_model(replace(config, out=tmp_path / "before.onnx")).metadata
    for number, damage in ((20, stopped), (21, lambda samples: 0 * samples)):
        put(folder / f"{number}.wav", damage(normal(number)))
    after = train_model(replace(config, out=tmp_path / "after.onnx"))
    assert after.metadata.thresholds == before.thresholds
    assert after.metadata.data_hash == before.data_hash
    assert {problem.name for problem in after.problems} == {"20.wav", "21.wav"}


@pytest.mark.parametrize("detector", ["pooled", "conv_ae"])
@pytest.mark.parametrize("seeds", [(1, 2), (1,) * 12], ids=["two", "twelve of one"])
def test_too_few_different_recordings_are_refused_with_the_number_needed(
    tmp_path: Path, detector: str, seeds: tuple[int, ...]
):
    for number, seed in enumerate(seeds):
        put(tmp_path / f"{number:02d}.wav", normal(seed, 2.0))
    with pytest.raises(RecordingError, match=rf"{len(set(seeds))} different .* at least 4 and 2: some 6 s of normal"):
        train_model(replace(CONFIG, normal=tmp_path, out=tmp_path / "m.onnx", detector=detector))
    assert not (tmp_path / "m.onnx").exists()


def test_too_little_left_names_the_share_or_the_copies(tmp_path: Path):
    (tmp_path / "one").mkdir()
    put(tmp_path / "one" / "a.wav", normal(0, 30.0))
    config = TrainConfig(normal=tmp_path / "one", out=tmp_path / "m.onnx", mlflow=False, held_out_share=0.99)
    with pytest.raises(RecordingError, match=r"^held_out_share is 0\.99: it leaves too little of 1 recording of 30 s"):
        train_model(config)
    (tmp_path / "same").mkdir()
    hum = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    for number in range(20):
        put(tmp_path / "same" / f"{number:02d}.wav", hum)
    with pytest.raises(RecordingError, match=r"^too few: 1 different recording \(19 copies of them count once\)"):
        train_model(replace(config, normal=tmp_path / "same", held_out_share=0.2))


def test_a_threshold_that_rests_on_one_odd_recording_is_told(folder: Path, tmp_path: Path):
    loud = np.random.default_rng(0).standard_normal(3 * RATE_HZ).astype(np.float32)
    put(folder / "99.wav", 0.2 * loud)
    result = train_model(replace(CONFIG, normal=folder, out=tmp_path / "m.onnx"))
    assert len(result.warnings) == 1
    assert "times the normals' median score" in result.warnings[0]
    assert result.warnings[0].endswith("99.wav score unlike the others")


@pytest.mark.slow
def test_the_command_tells_all_of_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    put(folder / "20.wav", dropout(normal(20)))
    put(folder / "21.wav", normal(4))
    args = ["train", "--normal", str(folder), "--out", str(tmp_path / "m.onnx"), "--detector", "pooled", "--no-mlflow"]
    assert run(args) == 0
    told = capsys.readouterr().err
    assert "warning: 21.wav: a copy of 04.wav; not used\n" in told
    assert "warning: 20.wav: flat in part from 1 to 2 s; that is left out\n" in told
    assert run([*args, "--json"]) == 0
    printed = orjson.loads(capsys.readouterr().out)
    assert printed["segments_left_out"] == [{"name": "20.wav", "start_s": 1.0, "stop_s": 2.0, "reason": "flat in part"}]
    assert printed["warnings"] == []
    assert Model.load(tmp_path / "m.onnx").metadata.data_hash == printed["data_hash"]
