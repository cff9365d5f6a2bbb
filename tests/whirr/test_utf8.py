"""Names that are no UTF-8 are refused before any work, whichever option or setting they stand in."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from commands import COMMANDS, load_command, run
from schemas.errors import SettingsError
from whirr.settings import load_settings
from whirr.utf8 import is_utf8

ODD = "u\udcff"  # what Python makes of the bytes u and FF


def test_what_is_utf8():
    assert all(map(is_utf8, ("pümpe", Path("pümpe.onnx"), None, 1, True)))
    assert not any(map(is_utf8, (ODD, Path(ODD))))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_of_any_command_takes_a_text_that_is_not_utf8(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path(ODD).touch()  # some options ask first whether it is there
    Path(f"{ODD}d").mkdir()
    command = load_command(name)
    for part in getattr(command, "commands", {name: command}).values():
        context = typer.Context(part)
        for parameter in part.params:
            if (name, parameter.name) == ("edge", "paths"):  # files to be read, listed one by one
                continue
            value = ODD if parameter.type_descriptor.parameter_info.file_okay else f"{ODD}d"
            with pytest.raises(typer.BadParameter) as caught:
                parameter.process_value(context, [value] if parameter.multiple or parameter.nargs == -1 else value)
            if parameter.type_descriptor.annotation in (str, Path):
                assert caught.value.message.startswith(r"u\xff")
                assert caught.value.message.endswith(" is not UTF-8; expected text in UTF-8")


@pytest.mark.parametrize(
    "args",
    [
        ("replay", "plant", "--model", "plant.onnx", "--out", ODD),
        ("replay", "plant", "--model", ODD),
        ("replay", ODD, "--model", "plant.onnx"),
        ("features", "plant", "--out", ODD),
        ("train", "plant", "--out", ODD),
        ("dlq", "show", "0:0", "--out", ODD),
    ],
)
def test_it_is_told_in_a_line_and_nothing_is_written(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(args) == 2
    assert r"u\xff is not UTF-8" in capsys.readouterr().err
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("WHIRR_WORKER_DIR", "worker_dir: is not UTF-8; expected text in UTF-8; it stands in WHIRR_WORKER_DIR"),
        ("WHIRR_EDGE_SPOOL_DIR", "edge_spool_dir: is not UTF-8"),
        ("WHIRR_MLFLOW_TRACKING_URI", "mlflow_tracking_uri: is not UTF-8"),
        ("WHIRR_KAFKA_SASL_PASSWORD", "kafka_sasl_password: is not UTF-8"),
        ("WHIRR_FEATURE_HISTORY", "WHIRR_FEATURE_HISTORY is not UTF-8"),
        ("FEAST_FS_YAML_FILE_PATH", "FEAST_FS_YAML_FILE_PATH is not UTF-8"),
    ],
)
def test_no_variable_takes_one(variable: str, told: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable, ODD)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert told in str(caught.value)
    assert ODD not in str(caught.value)


def test_no_routes_model_is_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WHIRR_ROUTE", '[{"model": "u\udcff.onnx"}]')
    with pytest.raises(SettingsError, match=r"route\.0\.model: is not UTF-8"):
        load_settings()
