"""Options are declared once: command line, YAML files and ``whirr settings`` show the same names, help and limits."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.replay.replay_options import FolderOptions, ReplayConfig
from commands import load_command, run
from commands._config_file import NOT_IN_FILE
from commands._recordings import Models
from commands.edge import Signal
from tests.helpers import run_whirr
from trainer.train_options import ExtractConfig, TrainConfig, to_yaml
from whirr.options import REQUIRED, Declared, declared
from whirr.settings import Route, Settings

COMMANDS = {
    "train": (TrainConfig,),
    "features": (ExtractConfig,),
    "edge": (Signal,),
    "evaluate": (EvaluateConfig,),
    "replay": (ReplayConfig, Models),
    "compare": (ReplayConfig, Models),
    "publish": (FolderOptions, Models),
    "rescore": (Models,),
}
DECLARATIONS = {declaration for declarations in COMMANDS.values() for declaration in declarations}
OPTIONS = [(name, option) for name, own in COMMANDS.items() for one in own for option in declared(one)]
OF_SETTINGS = [  # a command, its option, and the setting that it stands for
    ("edge", "bootstrap", "kafka_bootstrap_servers"),
    ("edge", "topic", "frames_topic"),
    ("edge", "spool_dir", "edge_spool_dir"),
    ("worker", "bootstrap", "kafka_bootstrap_servers"),
    ("worker", "web_port", "web_port"),
    ("publish", "topic", "frames_topic"),
    ("rescore", "bootstrap", "kafka_bootstrap_servers"),
    ("record", "topic", "frames_topic"),
    ("machines", "yaml", "feature_store_yaml"),
]


def parameter(command: str, name: str) -> Any:
    return next(one for one in load_command(command).params if one.name == name)


def limits_of(found: Any) -> tuple[float | None, float | None]:
    return getattr(found, "min", None), getattr(found, "max", None)


@pytest.mark.parametrize("declaration", [Settings, Route, *sorted(DECLARATIONS, key=lambda one: one.__name__)])
def test_every_option_has_a_help_and_a_default_within_its_limits(declaration: type[Any]):
    names = [option.name for option in declared(declaration)]
    assert len(set(names)) == len(names) > 1
    for option in declared(declaration):
        assert option.description, f"{option.name} has no help"
        assert not option.description.endswith("."), option.name
        if isinstance(option.default, int | float):
            holds = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
            assert all(holds[kind](option.default, limit) for kind, limit in option.limits.items()), option.name
        if option.choices and isinstance(option.default, str):
            assert option.default in option.choices


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda one: getattr(one, "name", one))
def test_a_command_shows_what_is_declared_and_nothing_of_its_own(command: str, option: Declared):
    found = parameter(command, option.name)
    assert found.help.startswith(option.help.removesuffix("."))
    assert found.required == (option.default is REQUIRED)
    if option.shown.parse is None and option.default is not REQUIRED:
        assert found.default == option.default
    assert limits_of(found) == (option.limits.get("ge"), option.limits.get("le"))
    if option.limits.keys() & {"gt", "lt"} and option.shown.parse is None:
        assert option.range in found.help


@pytest.mark.parametrize(("command", "name", "setting"), OF_SETTINGS)
def test_an_option_that_stands_for_a_setting_says_what_the_setting_says(command: str, name: str, setting: str):
    found, option = parameter(command, name), next(one for one in declared(Settings) if one.name == setting)
    assert found.help == f"{option.help} Default: the setting {setting}."
    assert limits_of(found) == (option.limits.get("ge"), option.limits.get("le"))


def test_every_option_of_train_is_declared_in_one_place():
    names = {one.name for one in load_command("train").params}
    assert names - NOT_IN_FILE == {option.name for option in declared(TrainConfig)} - {"resume"}


def test_a_yaml_file_says_of_each_option_what_the_command_line_says():
    text = to_yaml(TrainConfig(normal=Path("n"), out=Path("m.onnx")))
    lines = text.splitlines()
    for option in declared(TrainConfig):
        if option.name == "resume":
            continue
        at = next(at for at, line in enumerate(lines) if line.startswith(f"{option.name}:"))
        assert lines[at - 1] == f"# {option.help}{f' ({option.range})' if option.range else ''}"
    assert yaml.safe_load(text)["epochs"] == 50


@pytest.mark.slow
def test_the_settings_are_shown_with_their_help_and_limits():
    rows = {row["name"]: row for row in orjson.loads(run_whirr("settings", "--json").stdout)["settings"]}
    table = run_whirr("settings").stdout
    for option in declared(Settings):
        assert (rows[option.name]["description"], rows[option.name]["range"]) == (option.description, option.range)
        assert f"{option.description} ({option.range})" if option.range else option.description in table


def test_a_route_is_shown_as_what_it_says(tmp_path: Path):
    file = tmp_path / "whirr.toml"
    file.write_text('[[route]]\nmatch = "*"\nmodel = "plant.onnx"\n')
    environment = {"WHIRR_SETTINGS_FILE": str(file)}
    rows = orjson.loads(run_whirr("settings", "--json", env=environment).stdout)["settings"]
    [route] = next(row["value"] for row in rows if row["name"] == "route")
    assert route["refuse_unfamiliar"] == []
    assert "refuse_unfamiliar" not in run_whirr("settings", env=environment).stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("batch_frames", "1 to 1,024"),
        ("batch_linger_s", "above 0, at most 10"),
        ("compute_timeout_s", "above 0, at most 1,000,000,000"),  # a number or none
        ("log_level", "debug | info | warning | error"),
        ("frames_topic", ""),
    ],
)
def test_limits_are_told_in_words(name: str, text: str):
    assert next(option for option in declared(Settings) if option.name == name).range == text


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["train", "--normal", "n", "--out", "m.onnx", "--columns", "x,x"], "--columns is 'x,x'; expected different"),
        (["train", "--normal", "n", "--out", "m.onnx", "--reference", "3 days"], "--reference is '3 days'; expected a"),
        (["features", "n", "--out", "o", "--columns", ","], "--columns is ','; expected different names"),
    ],
)
def test_a_text_that_is_no_value_is_refused_by_its_option(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str]
):
    assert run(args) == 2
    assert told in capsys.readouterr().err
