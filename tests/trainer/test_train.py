"""Training as a whole: from a folder to a model that the worker takes, through Python and the command line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
from pydantic import TypeAdapter

from commands import run
from commands._training import PrintingTrainingObserver
from schemas import ModelMetadata
from schemas.errors import RecordingError, ServiceUnavailable, SettingsError
from stream_app.pipeline.model import METADATA_KEY, Model
from stream_app.pipeline.windowing import windows
from tests.helpers import SHARED_DATA, needs_shared_data, validate_message
from tests.trainer.conftest import vibration, write
from trainer import Observer, TrainConfig, TrainResult, train_model
from trainer.detector import EpochLoss
from trainer.registry import Registry
from trainer.train_options import FeatureOptions
from whirr.settings import load_settings

pytestmark = pytest.mark.slow  # each trains, or looks at what was trained


QUIET = ("--no-mlflow", "--json")


def _config(normal: Path, out: Path, **changes: Any) -> TrainConfig:
    given = TrainConfig(normal=normal, out=out, detector="conv_ae", epochs=2, accelerator="cpu", mlflow=False)
    return replace(given, **changes)


def _score(model: Model, samples: np.ndarray) -> float:
    log_mel = model.features.log_mel(np.ascontiguousarray(samples.T))
    return float(model.score(windows(log_mel, model.metadata.features))[0].mean())


def test_the_worker_takes_the_model_and_a_fault_stands_out(trained: TrainResult) -> None:
    model = Model.load(trained.out)
    normal = [_score(model, vibration(1, 5000 + seed)) for seed in range(20)]
    faulty = [_score(model, vibration(1, 5000 + seed, fault=0.3)) for seed in range(20)]
    threshold = model.metadata.thresholds_for("pump-1").alert_threshold
    assert max(normal) < threshold < min(faulty)


def test_the_metadata_is_valid_and_says_what_was_done(trained: TrainResult) -> None:
    props = {entry.key: entry.value for entry in onnx.load(str(trained.out)).metadata_props}
    validate_message("model_metadata", props[METADATA_KEY].encode())
    metadata = TypeAdapter(ModelMetadata).validate_json(props[METADATA_KEY])
    assert metadata == trained.metadata
    assert (metadata.name, metadata.detector, metadata.run_id) == ("plant", "conv_ae", None)
    assert set(metadata.machine_thresholds) == set()  # ten held-out frames a machine are too few
    assert metadata.machines == ("pump-1", "pump-2")
    assert metadata.thresholds.normals == 20
    assert metadata.calibration.frame_s == 1.0
    assert len(metadata.golden) == 8
    assert np.shape(metadata.normal_band_error) == (3, 32)
    ordered = [metadata.score_percentiles[name] for name in ("1", "50", "95", "100")]
    assert ordered == sorted(ordered)
    assert metadata.thresholds.decision_threshold == pytest.approx(metadata.score_percentiles["95"])
    assert metadata.thresholds.alert_threshold > metadata.score_percentiles["100"]


def test_losses_fall_and_the_best_epoch_is_kept(trained: TrainResult) -> None:
    assert [loss.epoch for loss in trained.history] == [1, 2, 3, 4, 5, 6]
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert trained.best == min(trained.history, key=lambda loss: loss.held_out_loss)


def test_the_same_seed_gives_the_same_model_and_another_gives_another(plant: Path, tmp_path: Path) -> None:
    seeds = {"one": 1, "same": 1, "other": 2}
    results = {name: train_model(_config(plant, tmp_path / f"{name}.onnx", seed=seed)) for name, seed in seeds.items()}
    versions = {name: result.metadata.version for name, result in results.items()}
    assert versions["one"] == versions["same"] != versions["other"]
    assert results["one"].history == results["same"].history
    assert results["one"].metadata.thresholds == results["same"].metadata.thresholds


def test_machines_with_enough_held_out_frames_get_their_own_thresholds(plant: Path, tmp_path: Path) -> None:
    result = train_model(_config(plant, tmp_path / "m.onnx", frame_s=0.99, held_out_share=0.5, epochs=1))
    assert {machine: own.normals for machine, own in result.metadata.machine_thresholds.items()} == {
        "pump-1": 25,
        "pump-2": 25,
    }


def test_the_observer_hears_each_step(plant: Path, tmp_path: Path) -> None:
    class Listening(Observer):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_found(self, found: object) -> None:
            self.heard.append("found")

        def on_features(self, choice: object, frame_s: float) -> None:
            self.heard.append(f"features {frame_s:g}")

        def on_problems(self, problems: object) -> None:
            self.heard.append(f"problems {problems}")

        def on_windows(self, windows: int, held_out: int) -> None:
            self.heard.append(f"windows {windows} {held_out}")

        def on_epoch(self, loss: EpochLoss) -> None:
            self.heard.append(f"epoch {loss.epoch}")

        def on_saved(self, result: TrainResult) -> None:
            self.heard.append("saved" if result.out.is_file() else "not there")

    observer = Listening()
    train_model(_config(plant, tmp_path / "m.onnx"), observer)
    assert observer.heard == ["found", "features 1", "problems ()", "windows 96 20", "epoch 1", "epoch 2", "saved"]


@pytest.mark.parametrize(
    "changes",
    [
        {"k": 6},
        {"register": True},
        {"decision_percentile": 100.0},
        {"epochs": 0},
        {"name": "a/b"},
        {"on_error": "x"},
        {"alert_percentile": 95.0},
        {"threshold_method": "percentile", "alert_percentile": 89.0},
        {"threshold_level": "clip"},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_before_any_work(plant: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        train_model(_config(plant, tmp_path / "m.onnx", **changes))
    assert not (tmp_path / "m.onnx").exists()


def test_a_percentile_in_place_of_a_tail_is_told_in_the_model(plant: Path, tmp_path: Path) -> None:
    options = {"threshold_method": "percentile", "threshold_level": "frame", "epochs": 1}
    result = train_model(_config(plant, tmp_path / "m.onnx", **options))
    metadata = Model.load(result.out).metadata
    assert (metadata.calibration.threshold_method, metadata.calibration.alert_percentile) == ("percentile", 99.0)
    assert metadata.thresholds.alert_threshold == pytest.approx(metadata.score_percentiles["99"])
    assert result.check.target_per_day is None


def test_short_frames_shorten_the_window_unless_it_was_asked_for(plant: Path, tmp_path: Path) -> None:
    result = train_model(_config(plant, tmp_path / "m.onnx", frame_s=0.5, epochs=1))
    assert result.metadata.features.window_s <= result.metadata.calibration.frame_s == 0.5
    with pytest.raises(SettingsError, match="shorter than a window"):
        train_model(_config(plant, tmp_path / "m.onnx", frame_s=0.5, features=FeatureOptions(window_s=1.0)))


def test_broken_recordings_are_counted_or_fatal(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "in" / f"{number}.wav", vibration(2, number))
    write(tmp_path / "in" / "flat.wav", np.zeros((400, 3), np.float32))
    (tmp_path / "in" / "torn.flac").write_bytes(b"fLaC")
    result = train_model(_config(tmp_path / "in", tmp_path / "m.onnx"))
    assert {problem.name for problem in result.problems} == {"flat.wav", "torn.flac"}
    assert result.recordings == 4
    (tmp_path / "in" / "torn.flac").unlink()
    with pytest.raises(RecordingError, match=r"flat\.wav: flat"):
        train_model(_config(tmp_path / "in", tmp_path / "m.onnx", on_error="fail"))


def test_sound_of_mixed_rates_and_formats_in_stereo(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, (suffix, rate_hz) in enumerate([("wav", 16_000), ("flac", 22_050), ("ogg", 16_000), ("mp3", 16_000)]):
        write(tmp_path / "in" / f"{number}.{suffix}", rng.normal(0, 0.1, (2 * rate_hz, 2)), rate_hz)
    options = FeatureOptions(bands=16, n_fft=256, hop=256)
    result = train_model(_config(tmp_path / "in", tmp_path / "m.onnx", features=options, epochs=1))
    assert (result.metadata.features.sample_rate_hz, result.metadata.features.channels) == (16_000, 2)
    assert result.problems == ()


def test_a_run_is_logged_and_named_in_the_model(plant: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'track' / 'mlflow.db'}"
    settings = load_settings(mlflow_tracking_uri=uri, mlflow_experiment="pumps")
    result = train_model(_config(plant, tmp_path / "m.onnx", mlflow=True), settings=settings)
    assert "alembic" not in capfd.readouterr().err
    client = MlflowClient(tracking_uri=uri)
    logged = client.get_run(result.metadata.run_id)
    assert Model.load(result.out).metadata.run_id == logged.info.run_id
    assert logged.info.status == "FINISHED"
    assert logged.data.params["data_hash"] == result.metadata.data_hash
    assert logged.data.metrics["alert_threshold"] == pytest.approx(result.metadata.thresholds.alert_threshold)
    for name, value in result.check.figures().items():
        assert logged.data.metrics[name] == pytest.approx(value)
    history = client.get_metric_history(logged.info.run_id, "held_out_loss")
    assert [(entry.step, entry.value) for entry in history] == [
        (loss.epoch, pytest.approx(loss.held_out_loss)) for loss in result.history
    ]
    artifacts = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
    assert artifacts == {"m.onnx", "m.ckpt", "train.yaml", "environment.json", "plots"}
    plots = {artifact.path for artifact in client.list_artifacts(logged.info.run_id, "plots")}
    assert plots == {"plots/loss.png", "plots/held_out_scores.png"}
    environment = orjson.loads(Path(client.download_artifacts(logged.info.run_id, "environment.json")).read_bytes())
    assert environment["packages"]["torch"]
    assert 0 <= logged.data.metrics["held_out_false_alarm_rate"] <= 1
    assert result.registered is None
    assert (tmp_path / "track" / "mlruns").is_dir()


def test_a_model_is_registered_when_asked(plant: Path, tmp_path: Path) -> None:
    settings = load_settings(mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    result = train_model(_config(plant, tmp_path / "m.onnx", mlflow=True, register=True, name="pump.v"), None, settings)
    assert result.registered == 1
    champion = Registry(settings).version("pump.v")
    assert (champion.run_id, champion.model_version) == (result.metadata.run_id, result.metadata.version)
    assert champion.tags["sha256"] == Model.load(result.out).digest
    assert champion.false_alarms is not None
    assert champion.false_alarms.normals == result.metadata.thresholds.normals


@pytest.mark.parametrize("uri", ["http://user:secret@127.0.0.1:9", "sqlite:////proc/no/mlflow.db"])
def test_an_unreachable_tracking_server_is_noticed_before_training(plant: Path, tmp_path: Path, uri: str) -> None:
    settings = load_settings(mlflow_tracking_uri=uri)
    observer = Observer()
    observer.on_found = pytest.fail  # type: ignore[assignment,method-assign]
    with pytest.raises(ServiceUnavailable, match=r"MLflow at .*Nothing has been trained yet; --no-mlflow") as raised:
        train_model(_config(plant, tmp_path / "m.onnx", mlflow=True), observer, settings)
    assert "secret" not in str(raised.value)


def test_a_tracking_server_that_goes_away_meanwhile_costs_no_model(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.registration.check_registry", lambda *_: None)
    settings = load_settings(mlflow_tracking_uri="http://user:secret@127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match=r"MLflow at .*saved in .*m\.onnx") as raised:
        train_model(_config(plant, tmp_path / "m.onnx", mlflow=True, detector="pooled"), None, settings)
    assert "secret" not in str(raised.value)
    assert Model.load(tmp_path / "m.onnx").metadata.run_id is None


def test_importing_the_trainer_is_cheap() -> None:
    code = "import sys, trainer; assert 'LitAutoEncoder' in dir(trainer); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_the_command_prints_one_json_object(plant: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.onnx"
    code = run(["train", "--normal", str(plant), "--out", str(out), "--detector", "conv_ae", "--epochs", "2", *QUIET])
    printed = capfd.readouterr()
    assert code == 0, printed.err
    (line,) = printed.out.splitlines()
    summary = orjson.loads(line)
    assert printed.err == ""
    assert summary["out"] == str(out)
    assert summary["features"]["sample_rate_hz"] == 200
    assert (summary["windows"], summary["epochs"], summary["run_id"]) == (96, 2, None)
    assert summary["version"] == Model.load(out).metadata.version
    assert summary["thresholds"]["normals"] == 20
    alarms = summary["false_alarms"]
    assert alarms["target_per_day"] == pytest.approx(1 / 30)
    assert alarms["overall"]["hours"] == pytest.approx(20 / 3600)
    assert alarms["overall"]["openings"]["observed"] == 0
    assert [own["machine"] for own in alarms["machines"]] == ["pump-1", "pump-2"]


def test_the_command_tells_people_what_it_did(plant: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.onnx"
    assert run(["train", "--normal", str(plant), "--out", str(out), "--epochs", "1", "--no-mlflow"]) == 0
    printed = capfd.readouterr().out
    data = ("20 recordings of 2 machines", "200 Hz, 3 channels", "96 to train on")
    check = ("20 s of held-out normals", "3 of 5 frames: expected", "of 0.0333 allowed, observed 0")
    for expected in (*data, *check, "alert", str(out)):
        assert expected in printed


def test_the_commands_errors_are_messages_with_exit_codes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--normal", str(tmp_path), "--out", str(tmp_path / "m.onnx"), "--no-mlflow"]) == 2
    assert ".wav .flac .ogg .mp3" in capfd.readouterr().err
    assert run(["train", "--normal", str(tmp_path), "--out", str(tmp_path), "--no-mlflow"]) == 2
    assert "expected a file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--false-alerts", "1", "--false-alarms-per-day", "0.1"], "expected one of them"),
        (
            ["--false-alerts", "2", "--threshold-method", "percentile"],
            "false_alerts is 2 and threshold_",
        ),
        (
            ["--false-alarms-per-day", "2", "--threshold-method", "percentile"],
            "per_day is 2 and threshold_method is",
        ),
        (["--alert-percentile", "95"], "alert_percentile is 95"),
        (["--alert-percentile", "89", "--threshold-method", "percentile"], "90"),
    ],
)
def test_what_thresholds_may_not_say_together(
    plant: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(["train", "--normal", str(plant), "--out", str(tmp_path / "m.onnx"), "--no-mlflow", *options]) == 2
    assert message in capfd.readouterr().err


def test_false_alarms_may_be_allowed_by_the_day() -> None:
    def allowed(**options: float) -> float:
        return _config(Path("normal"), Path("m.onnx"), **options).false_alerts_per_30_days

    assert allowed() == 1
    assert allowed(false_alerts=3.0) == 3
    assert allowed(false_alarms_per_day=0.5) == 15


def test_a_misspelt_folder_is_told_first_and_nothing_is_left_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.train.find_spec", lambda _name: None)  # MLflow is not installed
    out = tmp_path / "new" / "a" / "m.onnx"
    assert run(["train", "--normal", str(tmp_path / "recordigns"), "--out", str(out), "--detector", "pooled"]) == 2
    assert "recordigns' is no folder" in capsys.readouterr().err
    assert run(["train", "--normal", str(tmp_path), "--out", str(out), "--detector", "pooled"]) == 2
    assert "logging the run in MLflow" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_bar_does_not_stand_at_nothing_of_the_recordings_while_a_detector_is_fitted(tmp_path: Path) -> None:
    observer = PrintingTrainingObserver(replace(_config(tmp_path, tmp_path / "m.onnx"), detector="pooled"))
    observer.on_recording(20, 20)
    observer.on_windows(96, 20)
    (task,) = observer._progress.tasks
    assert (task.description.strip(), task.total) == ("fitting", None)


@needs_shared_data
def test_a_real_motor_trains(tmp_path: Path) -> None:
    result = train_model(_config(SHARED_DATA / "motor", tmp_path / "motor.onnx"))
    assert result.metadata.features.sample_rate_hz == 16_000
    assert (result.recordings, result.problems) == (21, ())
    seconds = round(sum(one.stop_s - one.start_s for one in result.strays))  # unlike their neighbours
    assert result.windows == 102 - seconds < 102
    assert set(result.metadata.machine_thresholds) == {"motor"}
    assert result.history[-1].train_loss < 1.1
