"""Training that goes on: checkpoints, resuming, and stopping early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import run
from schemas.errors import ModelError, SettingsError
from stream_app.pipeline.model import Model
from tests.helpers import eventually
from tests.trainer.conftest import vibration, write
from trainer import LitAutoEncoder, Observer, TrainConfig, train_model
from trainer.detector import EpochLoss
from trainer.fit import stalled

pytestmark = pytest.mark.slow  # each trains a network

EPOCHS = 4


class Stopping(Observer):
    """Cuts the training off after an epoch, as a power cut would."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.epochs: list[int] = []

    def on_epoch(self, loss: EpochLoss) -> None:
        self.epochs.append(loss.epoch)
        if loss.epoch == self.after:
            raise InterruptedError


def order(normal: Path, folder: Path, **changes: Any) -> TrainConfig:
    given = TrainConfig(normal=normal, out=folder / "m.onnx", detector="conv_ae", epochs=EPOCHS, latent=4)
    return replace(given, accelerator="cpu", mlflow=False, **changes)


@pytest.fixture(scope="module")
def interrupted(plant: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A training of conv_ae that was cut off after two epochs."""
    folder = tmp_path_factory.mktemp("interrupted")
    config = order(plant, folder, checkpoints=folder / "run")
    with pytest.raises(InterruptedError):
        train_model(config, Stopping(2))
    return config


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(plant: Path, tmp_path: Path) -> None:
    straight = train_model(order(plant, tmp_path / "straight"))
    config = order(plant, tmp_path / "resumed", checkpoints=tmp_path / "run")
    with pytest.raises(InterruptedError):
        train_model(config, Stopping(2))
    observer = Stopping(99)
    resumed = train_model(replace(config, resume=True), observer)
    assert observer.epochs == [3, 4]
    assert resumed.history == straight.history
    assert resumed.best == straight.best
    assert resumed.metadata.version == straight.metadata.version  # a hash of the graph, weights and all
    assert resumed.metadata.thresholds == straight.metadata.thresholds
    assert resumed.metadata.golden == straight.metadata.golden


def test_a_finished_training_may_be_given_more_epochs_and_gives_the_same_without(plant: Path, tmp_path: Path) -> None:
    config = order(plant, tmp_path, epochs=2, checkpoints=tmp_path / "run")
    first = train_model(config)
    observer = Stopping(99)
    again = train_model(replace(config, resume=True), observer)
    assert observer.epochs == []
    assert again.metadata.version == first.metadata.version
    assert again.history == first.history
    longer = train_model(replace(config, resume=True, epochs=3), observer)
    assert observer.epochs == [3]
    assert longer.history[:2] == first.history
    with pytest.raises(SettingsError, match="epoch 3 and epochs is 2"):
        train_model(replace(config, resume=True))


def test_a_training_that_has_stalled_stops_and_stays_stopped(plant: Path, tmp_path: Path) -> None:
    config = order(plant, tmp_path, epochs=9, patience=2, min_delta=1e3, checkpoints=tmp_path / "run")
    result = train_model(config)
    assert [loss.epoch for loss in result.history] == [1, 2, 3]  # the first is better than none at all
    assert result.best == min(result.history, key=lambda loss: loss.held_out_loss)
    again = train_model(replace(config, resume=True))
    assert again.history == result.history
    assert again.metadata.version == result.metadata.version


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "expected"),
    [
        ([3, 2, 1], 1, 0, False),
        ([3, 2, 2], 1, 0, True),
        ([1, 2, 3], 3, 0, False),
        ([1, 2, 3, 1], 3, 0, True),
        ([3, 2.95, 2.9, 2.8], 3, 0.1, False),  # small steps count once they add up
        ([3, 2.95, 2.92, 2.91], 3, 0.1, True),
        ([1, 1, 1, 1, 1], 0, 0, False),
        ([], 1, 0, False),
    ],
)
def test_a_training_stalls_after_patience_epochs_without_a_better_one(
    losses: list[float], patience: int, min_delta: float, expected: bool
) -> None:
    history = [EpochLoss(number, 0.0, loss) for number, loss in enumerate(losses, start=1)]
    assert stalled(history, patience, min_delta) is expected


def test_checkpoints_say_what_they_are_of(interrupted: TrainConfig) -> None:
    assert interrupted.checkpoints is not None
    assert {path.name for path in interrupted.checkpoints.iterdir()} == {"last.ckpt", "best.ckpt", "train.yaml"}
    best = interrupted.checkpoints / "best.ckpt"
    about = torch.load(best, weights_only=True)["whirr"]
    assert about["options"]["learning_rate"] == interrupted.learning_rate
    assert len(about["origin"]["data_hash"]) == 64
    model = LitAutoEncoder.load_from_checkpoint(best, map_location="cpu")
    assert torch.isinf(model.threshold)  # thresholds are made when training has ended


def test_the_checkpoint_beside_the_model_says_it_too(plant: Path, tmp_path: Path) -> None:
    result = train_model(order(plant, tmp_path, epochs=1, seed=3))
    assert result.checkpoint is not None
    about = torch.load(result.checkpoint, weights_only=True)["whirr"]
    assert (about["options"]["seed"], about["origin"]["data_hash"]) == (3, result.metadata.data_hash)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate was 0.001 and is 0.5"),
        ({"seed": 1, "latent": 8}, "latent was 4 and is 8; seed was 0 and is 1"),
        ({"frame_s": 0.5}, r"features\.window_columns was 9 and is"),
    ],
    ids=str,
)
def test_another_training_may_not_go_on_from_a_checkpoint(
    interrupted: TrainConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        train_model(replace(interrupted, resume=True, **changes))


def test_other_recordings_may_not_go_on_from_a_checkpoint(interrupted: TrainConfig, tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / "pump-1" / f"{number}.wav", vibration(5, number))
    with pytest.raises(SettingsError, match="of another training: data_hash was"):
        train_model(replace(interrupted, resume=True, normal=tmp_path))


def test_thresholds_and_names_may_change_on_the_way(interrupted: TrainConfig, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"out": tmp_path / "other.onnx", "k": 2, "false_alerts": 9.0, "resume": True}
    result = train_model(replace(interrupted, **changes))
    assert result.metadata.calibration.k == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": True}, "no last.ckpt"),
        ({"checkpoints": None, "resume": True}, "needs the folder"),
        ({"detector": "pooled"}, "'pooled' has no epochs"),
    ],
    ids=str,
)
def test_what_cannot_be_resumed_is_told_before_any_work(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = order(tmp_path / "nothing", tmp_path, checkpoints=tmp_path / "run")
    with pytest.raises(SettingsError, match=message):
        train_model(replace(config, **changes))


def test_a_checkpoint_is_not_overwritten_by_a_beginning(interrupted: TrainConfig) -> None:
    with pytest.raises(SettingsError, match="holds checkpoints of a training: resume it"):
        train_model(interrupted)


@pytest.mark.parametrize("content", [b"", b"no checkpoint"], ids=["empty", "text"])
def test_a_file_that_is_no_checkpoint_is_named(plant: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(ModelError, match=r"last\.ckpt' is no checkpoint"):
        train_model(order(plant, tmp_path, checkpoints=tmp_path, resume=True))


def _interrupted(running: subprocess.Popen[str]) -> str:
    """Return what a program says on stderr when it is interrupted.

    Python drops the exception of an interrupt that falls into a destructor or a callback from C, and a person presses
    the keys once more.
    """
    for _ in range(3):
        os.kill(running.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return running.communicate(timeout=25)[1]
    raise TimeoutError("interrupted three times, and it goes on")


def test_ctrl_c_ends_the_command_and_it_goes_on_from_its_own_file(
    plant: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "m.onnx", tmp_path / "run"
    options = ["--normal", str(plant), "--out", str(out), "--detector", "conv_ae", "--no-mlflow"]
    options += ["--checkpoints", str(folder)]
    command = [sys.executable, "-c", "from commands import main; main()", "train", *options, "--epochs", "100000"]
    with subprocess.Popen(
        [*command, "--patience", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            eventually((folder / "last.ckpt").is_file, 60)
            message = _interrupted(running)
            assert running.returncode == 130, message
        finally:
            running.kill()
    assert "Traceback" not in message
    assert "interrupted; this goes on" in message
    done = len(torch.load(folder / "last.ckpt", weights_only=True)["callbacks"]["_Watch"]["history"])
    resumed = ["train", "--config", str(folder / "train.yaml"), "--resume", "--epochs", str(done + 1)]
    assert run(resumed) == 0, capfd.readouterr().err
    assert f"{done + 1} epochs" in capfd.readouterr().out
    assert Model.load(out).metadata.name == "m"
