"""A training's options in a YAML file: the same names, the same limits, and the command line wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import load_command, run
from commands._config_file import NOT_IN_FILE
from trainer.train_options import FeatureOptions, TrainConfig, options_of, to_yaml


def printed(capfd: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert run(["train", *options, "--print-config"]) == 0, capfd.readouterr().err
    document = yaml.safe_load(capfd.readouterr().out)
    assert isinstance(document, dict)
    return document


def refused(capfd: pytest.CaptureFixture[str], path: Path, content: str, *options: str) -> str:
    path.write_text(content, encoding="utf-8")
    assert run(["train", "--config", str(path), "--normal", "n", "--out", "m.onnx", "--print-config", *options]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    return " ".join(err.split())


def test_every_option_of_the_command_is_in_the_file() -> None:
    names = {parameter.name for parameter in load_command("train").params}
    assert set(options_of(TrainConfig(normal=Path("n"), out=Path("m.onnx")))) == names - NOT_IN_FILE


def test_the_defaults_of_the_command_are_those_of_the_code(capfd: pytest.CaptureFixture[str]) -> None:
    order = TrainConfig(normal=Path("n"), out=Path("m.onnx"))
    assert printed(capfd, "--normal", "n", "--out", "m.onnx") == options_of(order)


def test_what_is_printed_is_taken_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    order = TrainConfig(
        normal=Path("n"),
        out=Path("m.onnx"),
        detector="conv_ae",
        features=FeatureOptions(rate_hz=8000, scale="linear", window_s=0.5),
        threshold_method="percentile",
        alert_percentile=98.0,
        learning_rate=5e-4,
        patience=0,
        mlflow=False,
        checkpoints=tmp_path,
    )
    path = tmp_path / "train.yaml"
    path.write_text(to_yaml(order), encoding="utf-8")
    assert printed(capfd, "--config", str(path)) == options_of(order)


def test_options_of_epochs_are_not_ignored_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    common = ["train", "--normal", str(tmp_path / "missing"), "--out", str(tmp_path / "m.onnx"), "--no-mlflow"]
    assert run([*common, "--epochs", "60", "--learning-rate", "0.01"]) == 2
    told = " ".join(capfd.readouterr().err.split())
    assert "--epochs, --learning-rate: of no effect with detector 'auto'; --detector conv_ae learns in epochs" in told
    for quiet in (["--epochs", "50"], ["--detector", "conv_ae", "--epochs", "60"]):
        assert run([*common, *quiet]) == 2
        assert "of no effect" not in capfd.readouterr().err


def test_the_command_line_wins_over_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("normal: n\nout: m.onnx\nepochs: 7\nlearning-rate: 1e-4\nmlflow: false\nname:\nbatch: 8\n")
    document = printed(capfd, "--epochs", "9", "--mlflow", "--config", str(path))
    assert {name: document[name] for name in ("epochs", "learning_rate", "mlflow", "name", "batch")} == {
        "epochs": 9,
        "learning_rate": 1e-4,
        "mlflow": True,
        "name": None,
        "batch": 8,
    }


def test_options_that_are_lists_may_be_lists(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(
        "normal: n\nout: m.onnx\ncandidates: [frame_spectrum, pooled]\ncolumns: [x, y]\npoolings:\n- max\n- mean\n"
    )
    document = printed(capfd, "--config", str(path))
    assert [document[name] for name in ("candidates", "columns", "poolings")] == [
        "frame_spectrum,pooled",
        "x,y",
        "max,mean",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lerning_rate: 0.1", "no option 'lerning_rate'; did you mean 'learning_rate'?"),
        ("epoch: 3", "no option 'epoch'; did you mean 'epochs'?"),
        ("xyzzy: 1", "no option 'xyzzy'; expected one of accelerator,"),
        ("resume: true", "no option 'resume'"),
        ("epochs: 2.5", "epochs is '2.5'; expected a whole number, at least 1"),
        ("epochs: 0", "epochs is '0'; expected at least 1"),
        ("epochs: [1, 2]", "epochs is [1, 2]; expected a single value"),
        ("candidates: [1, 2]", "candidates is [1, 2]; expected a single value"),
        ("candidates: [idnn]", "candidates are idnn: detector is 'idnn'"),
        ("scale: bark", "scale is 'bark'; expected one of 'mel', 'linear'"),
        ("mlflow: perhaps", "mlflow is 'perhaps'; expected true or false"),
        ("- epochs", "holds ['epochs']; expected lines such as 'epochs: 50'"),
        ("5", "holds 5; expected lines such as 'epochs: 50'"),
        ("k: true", "k is true; expected a value of its type"),
        ("n-fft: 512\nn_fft: 1024", "n_fft stands there 2 times; expected once"),
        ("epochs: [", "is no YAML: "),
        ("k: 9", "k is 9, n is 5"),
        ("learning_rate: 0", "learning_rate is 0.0; expected above 0, at most 1"),
        ("learning_rate: 2", "learning_rate is 2.0; expected above 0, at most 1"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    assert message in refused(capfd, tmp_path / "train.yaml", content)


def test_an_empty_file_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("# to be filled in\n")
    assert printed(capfd, "--config", str(path), "--normal", "n", "--out", "m.onnx")["epochs"] == 50


def test_a_device_is_no_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--config", "/dev/zero"]) == 2
    assert "expected a YAML file" in " ".join(capfd.readouterr().err.replace("│", "").split())


def test_a_missing_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--config", str(tmp_path / "no.yaml")]) == 2
    told = capfd.readouterr().err
    # Typer draws a box that a long path does not fit in.
    assert "no.yaml" in "".join(told.replace("│", "").split())
