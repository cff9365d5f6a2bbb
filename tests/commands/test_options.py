"""Options are declared once: command line, YAML files and ``whirr settings`` show the same names, help and limits."""

from __future__ import annotations

import copy
import dataclasses
import operator
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
import typer
import yaml

from backtest.evaluation.evaluate_options import EvaluateConfig
from backtest.replay.replay_options import FolderOptions, ReplayConfig
from backtest.sweep.grid import Grid
from commands import COMMANDS as COMMAND_LINE
from commands import load_command, run
from commands._config_file import NOT_IN_FILE, take_options
from commands._options import why_refused
from commands._recordings import Models
from commands.edge import Signal
from edge_agent import FrameOptions
from edge_agent.simulator import SimulateConfig
from schemas.errors import SettingsError
from tests.helpers import run_whirr
from trainer.train_options import ExtractConfig, TrainConfig, to_yaml
from whirr.options import REQUIRED, Declared, check, declared, made
from whirr.settings import Route, Settings, load_settings

COMMANDS = {
    "train": (TrainConfig,),
    "features": (ExtractConfig,),
    "edge": (Signal, FrameOptions),
    "simulate": (SimulateConfig,),
    "evaluate": (EvaluateConfig,),
    "replay": (ReplayConfig, Models),
    "compare": (ReplayConfig, Models),
    "publish": (FolderOptions, Models),
    "rescore": (Models,),
    "sweep": (Grid,),
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
    if option.shown.parse is None and not option.shown.repeated and option.default is not REQUIRED:
        assert found.default == option.default
    if option.limits.keys() & {"gt", "lt"} and option.shown.parse is None:
        assert option.range in found.help
    else:
        assert limits_of(found) == (option.limits.get("ge"), option.limits.get("le"))


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


# Every message names the option, the value that is wrong and what was expected, in words of our own

PYDANTICS = ("Input should", "Value error", "validation error", "type=", "String should", "valid integer")
WRONG_BY_TYPE = {int: ("wrong", "3.5", "nan"), float: ("wrong", "nan")}


def all_commands() -> Iterator[tuple[str, Any]]:
    for name in COMMAND_LINE:
        command = load_command(name)
        for part, own in getattr(command, "commands", {"": command}).items():
            yield f"{name} {part}".strip(), own


def wrong_values(parameter: Any) -> Iterator[str]:
    """Yield texts that an option of numbers or of few words can't take."""
    annotation, choices = parameter.type_descriptor.annotation, parameter.type_descriptor.choices
    yield from ("wrong",) if choices else WRONG_BY_TYPE.get(next(iter(get_args(annotation)), annotation), ())
    least, most = limits_of(parameter)
    yield from (str(limit + step) for limit, step in ((least, -1), (most, 1)) if limit is not None)


def refused(error: type[Exception], call: Callable[[], object]) -> Any:
    try:
        call()
    except error as refusal:
        return refusal
    return None


def assert_plain(told: str) -> None:
    assert not [words for words in PYDANTICS if words in told], told


@pytest.mark.parametrize(("name", "command"), list(all_commands()), ids=lambda one: one if isinstance(one, str) else "")
def test_a_wrong_value_is_refused_with_what_was_expected(name: str, command: Any):
    context = typer.Context(command)
    for one in command.params:
        for value in wrong_values(one):
            given = [value] if one.multiple or one.nargs == -1 else value
            told = why_refused(refused(typer.BadParameter, partial(one.process_value, context, given)))
            assert re.match(rf"{value}|'{value}'|{float(value) if value != 'wrong' else ''}", told), f"{name} {told}"
            assert "; expected " in told or "is no number between" in told
            assert_plain(told)


def test_what_is_refused_is_shown_with_its_option(capsys: pytest.CaptureFixture[str]):
    for args, words in (
        (["train", "--k", "3.5"], "'--k' / '-k': '3.5'; expected a whole number, 1 to 64"),
        (["sweep", "--hysteresis", "1", "--hysteresis", "1.5"], "'--hysteresis': 1.5; expected above 0, at most 1"),
        (["features", "--scale", "bark"], "'--scale': 'bark'; expected one of 'mel', 'linear'"),
        (["sweep", "DIR", "--k-of-n", "4/3"], "--k-of-n is '4/3'; expected 1 <= k <= n <= 64"),
        (["sweep", "DIR", "--k-of-n", "3"], "--k-of-n is '3'; expected k/n such as 3/5"),
    ):
        assert run(args) == 2
        assert words in " ".join(capsys.readouterr().err.replace("│", "").split())


@pytest.mark.parametrize("value", ["wrong", "-1", "true", "[1]", "1e300", ".nan"])
def test_so_it_is_in_a_yaml_file(value: str, tmp_path: Path):
    path, command = tmp_path / "train.yaml", load_command("train")
    for option in declared(TrainConfig):
        path.write_text(f"{option.name}: {value}\n")
        error = refused(SettingsError, lambda: take_options(typer.Context(command), path))
        if error is not None and option.name != "resume":
            assert f"{option.name} is " in str(error)
            assert "expected" in str(error) or "is no number between" in str(error)
            assert_plain(str(error))


@pytest.mark.parametrize(
    "value",
    ["wrong", None, -1, 1e300, float("nan"), object()],
    ids=["a word", "None", "-1", "1e300", "nan", "an object"],
)
@pytest.mark.parametrize("declaration", sorted(DECLARATIONS, key=str))
def test_so_it_is_in_code(declaration: Any, value: object):
    plain = made(declaration, {one.name: Path("x") for one in declared(declaration) if one.default is REQUIRED})
    names = {one.field: one.name for one in declared(declaration)}
    for field in dataclasses.fields(declaration):
        if dataclasses.is_dataclass(getattr(plain, field.name)):
            continue
        wrong = copy.copy(plain)
        object.__setattr__(wrong, field.name, value)
        error = refused(SettingsError, partial(check, wrong))
        if error is not None:
            assert str(error).startswith(f"{names[field.name]} is {value!r}; expected ")
            assert_plain(str(error))


@pytest.mark.parametrize("value", ["'wrong'", "-1", "1e300", "nan", "[1]", "true"])
@pytest.mark.parametrize("declaration", [Settings, Route])
def test_so_it_is_in_settings(declaration: type[Any], value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "whirr.toml"
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(file))
    head = "" if declaration is Settings else "[[route]]\nmodel = 'm'\n"
    for option in declared(declaration):
        if option.name not in ("model", "route"):
            file.write_text(f"{head}{option.name} = {value}\n")
            error = refused(SettingsError, load_settings)
            if error is not None:
                assert option.name in str(error)
                assert_plain(str(error))
