"""Trimming: what is unlike its neighbours in time is not learnt, and what else is rare stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands import run
from schemas import FeatureConfig
from stream_app.pipeline.model import Model
from stream_app.pipeline.windowing import windows
from tests.trainer.conftest import vibration, write
from tests.trainer.test_detectors import normals
from trainer import TrainConfig, train_model
from trainer.dataset import HeldOutFrame, HeldOutSet, Place, TrainingSet
from trainer.frame_spectrum.detector import FrameSpectrumDetector
from trainer.normals import all_normals
from trainer.spectrograms import Prepared
from trainer.trimming import CLEAR, STRAY, trim

SHAPE = (1, 24, 12)
FEATURES = FeatureConfig(sample_rate_hz=12_000, n_fft=1_000, hop=1_000)  # a column a twelfth of a second


def of(clips: np.ndarray, unseen: np.ndarray, machine: str | None = None) -> Prepared:
    """Return clips, float32 [recording, channel, band, column], to train on and held out, named by number."""
    count, _, _, length = clips.shape
    columns = np.ascontiguousarray(clips.transpose(0, 3, 1, 2)).reshape(-1, *SHAPE[:2])
    segments = tuple((number * length, length) for number in range(count))
    places = tuple(Place(f"{number}.wav", 0.0) for number in range(count))
    frames = tuple(HeldOutFrame(machine, f"{count + i}.wav", i, 1, 1) for i in range(len(unseen)))
    train = TrainingSet(columns, segments, SHAPE[2], (machine,) * count, places=places)
    return Prepared(train, HeldOutSet(unseen, frames), FEATURES)


def faulty(clips: np.ndarray, numbers: list[int], by: float = 3) -> np.ndarray:
    """Return clips of which some have more in a few bands, all alike."""
    found = clips.copy()
    found[numbers, :, 5:9] += by
    return found


def trained_on(data: Prepared) -> list[str]:
    return [place.recording for place in data.train.places]


def test_strays_that_are_alike_are_left_out_and_named(tmp_path: Path) -> None:
    strays = [9, 29, 49, 69]
    data = of(faulty(normals(SHAPE, 80, 0), strays), normals(SHAPE, 20, 1))
    found = trim(data, 0.1, tmp_path)
    names = {stray.name for stray in found.strays}
    assert {f"{number}.wav" for number in strays} <= names
    assert len(names) <= 0.1 * 100
    assert not names & set(trained_on(found.prepared))
    surprises = [stray.surprise for stray in found.strays]
    assert surprises == sorted(surprises, reverse=True)
    assert {stray.name for stray in found.strays[:4]} == {f"{number}.wav" for number in strays}
    assert found.strays[0].start_s == 0
    assert found.strays[0].stop_s == pytest.approx(1)


def test_a_state_that_lasts_and_a_drift_are_kept(tmp_path: Path) -> None:
    clips = faulty(normals(SHAPE, 80, 0), list(range(30, 40)))
    clips += np.linspace(0, 3, 80, dtype=np.float32)[:, None, None, None]
    found = trim(of(clips, normals(SHAPE, 20, 1) + 3), 0.1, tmp_path)
    inside = {f"{number}.wav" for number in range(32, 38)}
    assert len(inside & set(trained_on(found.prepared))) >= 5


def test_the_first_and_the_last_recording_are_kept(tmp_path: Path) -> None:
    unseen = faulty(normals(SHAPE, 20, 1), [19])
    found = trim(of(faulty(normals(SHAPE, 80, 0), [0, 40]), unseen), 0.1, tmp_path)
    names = {stray.name for stray in found.strays}
    assert "40.wav" in names
    assert not names & {"0.wav", "99.wav"}


def test_at_most_the_stated_share_is_left_out_and_none_where_it_is_0(tmp_path: Path) -> None:
    data = of(faulty(normals(SHAPE, 80, 0), list(range(5, 80, 5))), normals(SHAPE, 20, 1))
    assert len(trim(data, 0.1, tmp_path).strays) == 10
    assert len(trim(data, 0.04, tmp_path).strays) == 4
    untouched = trim(data, 0.0, tmp_path)
    assert untouched.prepared is data
    assert untouched.strays == ()


def test_few_recordings_are_not_judged(tmp_path: Path) -> None:
    found = trim(of(faulty(normals(SHAPE, 14, 0), [7]), normals(SHAPE, 4, 1)), 0.2, tmp_path)
    assert (found.strays, found.judged) == ((), 0)


def test_each_machine_is_judged_by_itself(tmp_path: Path) -> None:
    """Of one whose recordings differ much, no more are left out than of one whose recordings are alike."""
    calm, restless = normals(SHAPE, 60, 0), 4 * normals(SHAPE, 60, 2)
    parts = [of(clips, normals(SHAPE, 1, 1)) for clips in (calm, restless)]
    columns = np.concatenate([part.train.columns for part in parts])
    segments = tuple((number * SHAPE[2], SHAPE[2]) for number in range(120))
    places = tuple(Place(f"{number // 60}/{number % 60}.wav", 0.0) for number in range(120))
    train = TrainingSet(columns, segments, SHAPE[2], ("calm",) * 60 + ("restless",) * 60, places=places)
    found = trim(replace(parts[0], train=train), 0.1, tmp_path)
    of_machine = [sum(stray.name.startswith(f"{number}/") for stray in found.strays) for number in range(2)]
    assert found.judged == 120  # the held-out one's machine is unknown, and has too few
    assert max(of_machine) <= 6
    assert abs(of_machine[0] - of_machine[1]) <= 4


def test_a_part_of_a_long_recording_is_cut_out(tmp_path: Path) -> None:
    """Of 60 pieces of ten windows each, one is of something else."""
    pieces = normals((1, 24, 120), 60, 0)
    pieces[24, :, 5:9] += 3
    columns = np.ascontiguousarray(pieces.transpose(0, 3, 1, 2)).reshape(-1, 1, 24)
    train = TrainingSet(columns, ((0, 7_200),), 12, (None,), places=(Place("long.wav", 100.0),))
    frames = tuple(HeldOutFrame(None, "long.wav", i, 1, 1, start_s=700.0 + i) for i in range(20))
    held_out = HeldOutSet(np.concatenate(np.split(normals((1, 24, 120), 2, 1), 10, axis=3)), frames)
    found = trim(Prepared(train, held_out, FEATURES), 0.02, tmp_path)
    assert [(stray.start_s, stray.stop_s) for stray in found.strays] == [pytest.approx((340, 350))]
    assert found.prepared.train.segments == ((0, 2_880), (2_880, 4_200))
    np.testing.assert_array_equal(found.prepared.train.columns, np.delete(columns, slice(2_880, 3_000), axis=0))
    assert [place.start_s for place in found.prepared.train.places] == pytest.approx([100, 350])


def test_thresholds_lose_only_what_strays_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surprise = np.zeros(40)
    surprise[[10, 33, 35, 36]] = STRAY + 1, CLEAR + 1, CLEAR - 0.1, STRAY + 0.1
    monkeypatch.setattr("trainer.trimming.surprises", lambda _: surprise.copy())
    data = of(normals(SHAPE, 30, 0), normals(SHAPE, 10, 1))
    found = trim(data, 0.1, tmp_path)
    held_out = found.prepared.held_out
    assert [stray.name for stray in found.strays] == ["33.wav", "35.wav", "10.wav", "36.wav"]
    assert [stray.for_thresholds for stray in found.strays] == [False, True, False, True]
    kept = [number for number in range(30, 40) if number != 33]
    assert [frame.recording for frame in held_out.frames] == [f"{number}.wav" for number in kept]
    for frame, number in zip(held_out.frames, kept, strict=True):
        np.testing.assert_array_equal(held_out.windows[frame.first], data.held_out.windows[number - 30])
    learnt = all_normals(found.prepared.train, held_out)
    assert len(learnt.recordings) == 29 + 7
    fitted = FrameSpectrumDetector().fit(found.prepared, TrainConfig(normal=Path(), out=Path("m.onnx")), lambda _: None)
    assert fitted.judge is not None
    assert fitted.judge.score(held_out.windows)[0].shape == (9,)


def test_what_may_not_be_left_out_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surprise = np.zeros(40)
    surprise[10:18] = CLEAR + 1
    monkeypatch.setattr("trainer.trimming.surprises", lambda _: surprise.copy())
    data = of(normals(SHAPE, 37, 0), normals(SHAPE, 3, 1))
    found = trim(data, 0.1, tmp_path)
    assert (len(found.strays), found.learnt) == (4, 4)
    assert trim(data, 0.01, tmp_path).learnt == 8


def _folder(tmp_path: Path) -> Path:
    """40 recordings; two of those that train have a fault, and one of the last fifth, which is held out."""
    for number in range(40):
        samples = vibration(1, number, fault=0.05 if number in {10, 20, 36} else 0.0)
        write(tmp_path / "pump-1" / f"{number:02d}.wav", samples)
    return tmp_path


@pytest.mark.slow
def test_a_fault_among_the_normals_is_told_and_is_still_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, out = _folder(tmp_path / "normals"), tmp_path / "m.onnx"
    arguments = ["train", "--normal", str(folder), "--out", str(out), "--detector", "frame_spectrum", "--no-mlflow"]
    assert run(arguments) == 0
    printed = capfd.readouterr().out
    assert "pump-1/20.wav from 0 to 0.96 s" in printed
    assert "--trim 0 learns them too" in printed
    model = Model.load(out)
    assert {"pump-1/10.wav", "pump-1/20.wav", "pump-1/36.wav"} <= {one.recording for one in model.metadata.not_learnt}
    untrimmed = train_model(
        TrainConfig(normal=folder, out=tmp_path / "u.onnx", detector="frame_spectrum", trim=0.0, mlflow=False)
    )
    assert untrimmed.metadata.not_learnt == []
    faults = [vibration(1, 900 + seed, fault=0.05) for seed in range(10)]
    found = [
        np.mean([_score(one, fault) > one.metadata.thresholds.decision_threshold for fault in faults])
        for one in (model, Model.load(untrimmed.out))
    ]
    assert found[0] > 0.8
    assert found[1] < 0.2


def _score(model: Model, samples: np.ndarray) -> float:
    log_mel = model.features.log_mel(np.ascontiguousarray(samples.T))
    return float(model.score(windows(log_mel, model.metadata.features))[0].mean())
