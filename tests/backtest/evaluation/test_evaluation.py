"""The evaluation as a whole: from a folder and a model to figures, through Python and the command line."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import soundfile

from backtest.evaluation.evaluate import EvaluationObserver, evaluate
from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.recording_metrics import NAMES
from commands import load_command, run
from recordings import decode
from recordings.cut import frame_bounds
from recordings.encode import encoded_frames
from schemas import Thresholds
from schemas.errors import RecordingError, SettingsError
from stream_app.pipeline import Model, read_recording
from stream_app.pipeline.windowing import windows
from tests.helpers import REPOSITORY, SHARED_DATA, needs_shared_data
from tests.models import NORMAL_RMS, conditioned_model, noise, tiny_metadata, tiny_model
from tests.trainer.conftest import vibration, write
from trainer import TrainConfig, train_model
from trainer.recording_set import data_hash, find_recordings
from whirr.settings import load_settings


def _write(path: Path, level: float, seconds: float = 4.0, rate_hz: int = 16_000, seed: int = 0) -> Path:
    return write(path, noise(seconds, NORMAL_RMS * level, rate_hz, seed=seed).T, rate_hz)


def _set(folder: Path, machine: str = "pump-1") -> Path:
    """Eight normals, of which one is loud enough to be flagged, and four anomalies, of which one is too quiet."""
    for number, level in enumerate((1.0, 1, 1, 1, 1, 1, 1, 3)):
        _write(folder / machine / "test" / f"normal_{number}.wav", level, seed=number)
    for number, level in enumerate((10.0, 10, 10, 1.01)):
        _write(folder / machine / "test" / f"anomaly_{number}.wav", level, seed=50 + number)
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _set(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def _config(folder: Path, model: Path, **changes: Any) -> EvaluateConfig:
    return replace(EvaluateConfig(folder=folder, model=model, resamples=50), **changes)


# Frames


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_32"), ("wav", "FLOAT"), ("wav", "PCM_U8"), ("flac", "PCM_24")],
)
def test_frames_hold_the_recording_without_loss(tmp_path: Path, suffix: str, subtype: str) -> None:
    path = tmp_path / f"one.{suffix}"
    soundfile.write(path, noise(2.5, channels=2).T, 16_000, subtype=subtype)
    frames = [decode(value).samples for value in encoded_frames(path, frame_bounds(40_000, 16_000, 1.0, 0.5))]
    assert np.array_equal(np.concatenate(frames, axis=1), read_recording(path).samples)


def test_a_frame_too_large_for_a_wav_goes_as_flac(tmp_path: Path) -> None:
    path = write(tmp_path / "long.wav", noise(35).T, 16_000)
    (value,) = encoded_frames(path, [(0, 35 * 16_000)])
    assert value[:4] == b"fLaC"
    assert np.array_equal(decode(value).samples, read_recording(path).samples)


# Figures


def test_the_figures_are_those_of_the_stored_thresholds(labelled: Path, tiny: Path) -> None:
    result = evaluate(_config(labelled, tiny))
    found = result.overall.confusion
    assert (found.true_positives, found.false_positives) == (3, 1)
    assert (found.false_negatives, found.true_negatives) == (1, 7)
    assert result.overall.values["recall"] == result.overall.values["precision"] == 0.75
    assert result.overall.values["accuracy"] == pytest.approx(10 / 12)
    assert set(result.overall.intervals) == {"auc", "pauc", "f1"}
    assert result.machines["pump-1"].metrics == result.overall
    assert result.arithmetic == pytest.approx(result.overall.values)
    figures = result.machines["pump-1"].figures
    # The loud normal comes last, so its false alert is still open when the fault begins.
    assert (figures.false_alerts, figures.normal_s, figures.found, figures.already_open) == (1, 32.0, 0, 1)
    assert result.optimistic == ()
    assert any("pauc rests on less than one" in note for note in result.notes)


def test_a_recordings_score_is_the_mean_of_what_the_worker_gives_its_frames(labelled: Path, tiny: Path) -> None:
    model = Model.load(tiny)
    scored = evaluate(_config(labelled, tiny)).machines["pump-1"].recordings[0]
    samples = read_recording(scored.recording.path).samples
    scores = []
    for start in range(0, 64_000, 16_000):
        log_mel = model.features.log_mel(samples[:, start : start + 16_000])
        scores.append(model.score(windows(log_mel[np.newaxis, 0], model.metadata.features))[0].astype(float).mean())
    assert scored.frames == 4
    assert scored.score == pytest.approx(np.mean(scores), abs=1e-12)


def test_each_machine_is_judged_by_its_own_thresholds(tmp_path: Path) -> None:
    own = Thresholds(decision_threshold=1.5, alert_threshold=9.0, normals=30)
    model = tiny_model(tmp_path / "m.onnx", tiny_metadata(machine_thresholds={"pump-2": own}))
    folder = _set(_set(tmp_path / "set"), "pump-2")
    result = evaluate(_config(folder, model))
    first, second = (result.machines[name] for name in ("pump-1", "pump-2"))
    assert first.metrics.confusion.false_positives == 1
    assert second.recordings[0].threshold == 1.5
    assert (first.stream.threshold, second.stream.threshold) == (1.0, 9.0)
    assert (second.figures.found, second.figures.false_alerts) == (0, 0)
    flagged = first.metrics.confusion.false_positives + second.metrics.confusion.false_positives
    assert result.overall.confusion.false_positives == flagged
    assert (result.figures.faults, result.figures.normal_s) == (2, 64.0)
    assert any("compare scores of different machines" in note for note in result.notes)


def test_mixed_rates_and_channels_are_what_the_worker_makes_of_them(tmp_path: Path, tiny: Path) -> None:
    _write(tmp_path / "normal_1.wav", 1)
    _write(tmp_path / "normal_2.flac", 1, rate_hz=16_000)
    write(tmp_path / "normal_3.wav", noise(4, rate_hz=48_000, rms=0.087, channels=2).T, 48_000)
    _write(tmp_path / "anomaly_1.wav", 10, rate_hz=44_100)
    result = evaluate(_config(tmp_path, tiny))
    assert result.problems == ()
    assert result.overall.values["auc"] == 1.0


def test_broken_recordings_move_nothing(tmp_path: Path, tiny: Path, labelled: Path) -> None:
    folder = _set(tmp_path / "set")
    whole = evaluate(_config(folder, tiny))
    torn = _write(folder / "pump-1" / "test" / "normal_99.flac", 10)
    torn.write_bytes(torn.read_bytes()[:20_000])
    nan = noise(4).T
    nan[50_000] = np.nan
    soundfile.write(folder / "pump-1" / "test" / "anomaly_99.wav", nan, 16_000, subtype="FLOAT")
    _write(folder / "pump-1" / "test" / "normal_98.wav", 1, seconds=0.5)
    result = evaluate(_config(folder, tiny))
    reasons = {problem.name.rpartition("/")[2]: problem.reason for problem in result.problems}
    assert set(reasons) == {"normal_99.flac", "anomaly_99.wav", "normal_98.wav"}
    assert "frame 4: " in reasons["anomaly_99.wav"]
    assert "too_short" in reasons["normal_98.wav"]
    assert result.overall == whole.overall
    assert result.machines["pump-1"].figures == whole.machines["pump-1"].figures
    assert result.data_hash == whole.data_hash
    with pytest.raises(RecordingError, match=r"1 of the files.*normal_99\.flac"):  # before anything is scored
        evaluate(_config(folder, tiny, on_error="fail"))
    (folder / "pump-1" / "test" / "normal_99.flac").unlink()
    with pytest.raises(RecordingError, match="2 of the files"):
        evaluate(_config(folder, tiny, on_error="fail"))


def test_a_machine_of_broken_recordings_is_left_out(tmp_path: Path, tiny: Path) -> None:
    folder = _set(tmp_path)
    _write(folder / "pump-2" / "normal_1.wav", 1, seconds=0.5)
    assert set(evaluate(_config(folder, tiny)).machines) == {"pump-1"}
    with pytest.raises(RecordingError, match="no usable recording; "):
        evaluate(_config(folder / "pump-2", tiny))


def test_one_class_alone_gives_none_with_a_reason(tmp_path: Path, tiny: Path) -> None:
    _write(tmp_path / "m" / "normal_1.wav", 1)
    result = evaluate(_config(tmp_path, tiny))
    assert result.overall.values["auc"] is None
    assert result.overall.reasons["auc"] == "no anomalous recording"
    assert result.harmonic["auc"] is None
    assert result.figures.faults == 0
    orjson.dumps(result.as_dict())


def test_training_data_is_called_optimistic(tmp_path: Path) -> None:
    _write(tmp_path / "m" / "normal_1.wav", 1)
    digest = data_hash(find_recordings(tmp_path).recordings)
    model = tiny_model(tmp_path / "m.onnx", tiny_metadata(data_hash=digest))
    (reason,) = evaluate(_config(tmp_path, model)).optimistic
    assert "the very recordings that the model was trained on" in reason
    _write(tmp_path / "train" / "normal_1.wav", 1)
    (reason,) = evaluate(_config(tmp_path / "train", model)).optimistic
    assert "folder named 'train'" in reason


def test_other_frames_than_calibrated_are_said_once(
    labelled: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = evaluate(_config(labelled, tiny, frame_s=2.0))
    assert any("24 of 24 frames differ by more than 20%" in note for note in result.notes)
    assert caplog.records == []


def test_the_rule_can_be_the_settings(
    labelled: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "whirr.toml"
    file.write_text(
        '[[route]]\nmatch = "pump-*"\nmodel = "other.onnx"\nk = 1\nn = 1\nm = 1\nthreshold = 3.0\n'
        "muted_until = 2030-01-01T00:00:00Z\n"
    )
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(file))
    own = evaluate(_config(labelled, tiny, use_routes=True), settings=load_settings()).machines["pump-1"]
    assert (own.figures.delays_s, own.figures.false_alerts, own.stream.threshold) == ((1.0,), 0, 3.0)
    assert evaluate(_config(labelled, tiny), settings=load_settings()).machines["pump-1"].stream.threshold == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_s": 0.5}, "shorter than the model's window"),
        ({"frame_s": 61.0}, "expected 0.1 to 60"),
        ({"every_s": 0.0}, "expected more than 0"),
        ({"resamples": -1}, "expected at least 0"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(labelled: Path, tiny: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        evaluate(_config(labelled, tiny, **changes))


def test_the_observer_hears_each_recording(labelled: Path, tiny: Path) -> None:
    class Listening(EvaluationObserver):
        heard = 0

        def on_found(self, found: Any) -> None:
            self.found = len(found.recordings)

        def on_scored(self) -> None:
            self.heard += 1

    observer = Listening()
    evaluate(_config(labelled, tiny), observer)
    assert observer.heard == observer.found == 12


# The command line


def test_the_command_prints_one_json_object(labelled: Path, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = run(["evaluate", str(labelled), "--model", str(tiny), "--bootstrap", "20", "--json"])
    printed = capfd.readouterr()
    assert code == 0, printed.err
    (line,) = printed.out.splitlines()
    assert printed.err == ""
    summary = orjson.loads(line)
    for part in (summary, summary["machines"]["pump-1"]):
        assert {*NAMES, "confusion", "intervals", "reasons", "alerts"} <= part.keys()
        assert part["confusion"] == {"tp": 3, "fp": 1, "fn": 1, "tn": 7}
        assert 0.5 < part["auc"] <= 1
        assert part["alerts"]["normal_hours"] == pytest.approx(32 / 3600)
        assert part["alerts"]["false_alerts_per_machine_day"] == pytest.approx(2700)
    assert summary["machines"]["pump-1"]["alerts"]["rule"]["k"] == 3
    assert summary["harmonic_mean"].keys() == summary["arithmetic_mean"].keys() == set(NAMES)
    assert summary["model"]["version"] == "1"
    assert summary["report"] is None


def test_the_command_tells_people_how_it_went(labelled: Path, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(labelled), "--model", str(tiny), "--bootstrap", "20"]) == 0
    printed = capfd.readouterr().out
    for expected in ("8 normal and 4 anomalous recordings of 1 machine", "3 of 5 frames", "1/8", "3/4", "1 in 32 s"):
        assert expected in printed
    assert max(map(len, printed[: printed.index("note ")].splitlines())) <= 80


def test_the_commands_errors_are_messages_with_exit_codes(
    labelled: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(tmp_path), "--model", str(tiny)]) == 2
    assert ".wav .flac .ogg .mp3" in capfd.readouterr().err
    assert run(["evaluate", str(labelled), "--model", str(tmp_path / "no.onnx"), "--json"]) == 2
    assert "no.onnx" in capfd.readouterr().err
    assert run(["evaluate", str(labelled), "--model", str(tiny), "--report", str(tmp_path)]) == 2
    assert "expected a file" in capfd.readouterr().err


@pytest.mark.slow
@needs_shared_data
def test_real_recordings_are_evaluated_by_the_protocol(tmp_path: Path) -> None:
    # Two epochs tell nothing of the detector; counts, hours and hashes are the protocol's.
    trained = train_model(
        TrainConfig(normal=SHARED_DATA / "motor", out=tmp_path / "m.onnx", epochs=2, accelerator="cpu", mlflow=False)
    )
    result = evaluate(_config(SHARED_DATA / "motor", trained.out))
    own = result.machines["motor"]
    assert (own.metrics.normals, own.metrics.anomalies, result.in_train) == (21, 170, 21)
    assert result.problems == ()
    assert own.recordings[0].threshold == trained.metadata.thresholds_for("motor").decision_threshold
    assert own.figures.normal_s == pytest.approx(21 * 6, abs=0.1)
    assert 0.5 < result.overall.values["auc"] < 1
    low, high = result.overall.intervals["auc"]
    assert low < result.overall.values["auc"] < high


def test_the_page_explains_every_figure_and_option(labelled: Path, tiny: Path) -> None:
    page = (REPOSITORY / "docs" / "evaluation.md").read_text()
    figures = evaluate(_config(labelled, tiny)).as_dict()["machines"]["pump-1"]
    for name in {*NAMES, "confusion", "intervals", "reasons"} | figures["alerts"].keys() - {"rule"}:
        assert f"`{name.removesuffix('_interval')}`" in page, name
    for option in (option for parameter in load_command("evaluate").params for option in parameter.opts):
        assert option in page or not option.startswith("--") or option == "--help", option


def test_recordings_that_lack_what_the_model_judges_by_are_remarked_on(tmp_path: Path) -> None:
    model = conditioned_model(tmp_path / "conditioned.onnx")
    rows = ["path,label,load"]
    for number, label in enumerate(("normal", "normal", "anomaly", "anomaly")):
        write(tmp_path / "sound" / f"{number}.wav", vibration(2, number))
        rows.append(f"{number}.wav,{label},{50 if number else ''}")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(rows))
    config = EvaluateConfig(folder=tmp_path / "sound", model=model, labels=labels, frame_s=1.0, resamples=0)
    remark = "2 of 8 frames don't state the load that the model judges by: judged without"
    assert remark in evaluate(config).notes
    labels.write_text("\n".join(rows).replace(",normal,\n", ",normal,50\n"))
    assert not [note for note in evaluate(config).notes if "judged without" in note]
