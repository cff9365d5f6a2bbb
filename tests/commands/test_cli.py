"""The command line as a whole: help, errors, exit codes, and how little an overview imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import orjson
import pytest

import commands
from commands import COMMANDS, load_command, run
from commands._output import READER_GONE
from schemas.errors import MissingExtra, SettingsError, WhirrError
from tests.helpers import run_whirr
from whirr import __version__

HEAVY = {"aiokafka", "faust", "feast", "lightning", "matplotlib", "mlflow", "numpy", "onnxruntime", "scipy", "torch"}


@pytest.fixture
def act_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Return a function that puts another body under the name of a command."""

    def replace(name: str, body: Any) -> None:
        module = ModuleType("commands.pretended")
        module.body = body  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "commands.pretended", module)
        command = COMMANDS[name]
        pretended = type(command)("commands.pretended:body", command.summary, command.extra)
        monkeypatch.setattr(commands, "COMMANDS", {**COMMANDS, name: pretended})

    return replace


def failing(error: BaseException) -> Any:
    def body() -> None:
        """Fail."""
        raise error

    return body


# Help


@pytest.mark.slow
def test_the_overview_names_every_command():
    done = run_whirr("--help")
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert f" {name} " in done.stdout
        assert command.summary in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_is_documented(name: str):
    command = load_command(name)
    for part in (command, *getattr(command, "commands", {}).values()):
        assert len(part.help) > 20
        for parameter in part.params:
            assert parameter.help, f"{name} {part.name} {parameter.name} has no help"


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_printed(name: str):
    done = run_whirr(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"whirr {name}" in done.stdout


@pytest.mark.slow
def test_the_version_is_printed():
    assert run_whirr("--version").stdout == f"whirr {__version__}\n"


# Imports


def imported_by(*args: str) -> set[str]:
    program = (
        "import sys, orjson\nfrom commands import run\n"
        "code = run(sys.argv[1:])\n"
        "sys.stdout.write('\\n' + orjson.dumps(sorted({name.partition('.')[0] for name in sys.modules})).decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
    return set(orjson.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("args", [["--help"], ["--version"], ["settings", "--json"], ["broker", "--help"]])
def test_nothing_heavy_is_imported_for_what_needs_none_of_it(args: list[str]):
    assert imported_by(*args) & HEAVY == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_no_framework(name: str):
    assert imported_by(name, "--help") & {"faust", "feast", "lightning", "matplotlib", "mlflow", "torch"} == set()


def test_a_wrong_setting_of_a_worker_is_told_before_anything_heavy_is_imported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WHIRR_BATCH_FRAMES", "inf")
    assert imported_by("worker") & HEAVY == set()
    assert run(["worker"]) == SettingsError.exit_code
    told = "error: settings: batch_frames: expected a whole number, 1 to 1,024; WHIRR_BATCH_FRAMES is 'inf'\n"
    assert capfd.readouterr().err == told


# Errors and exit codes


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"]])
def test_help_that_nobody_reads_ends_as_other_output_does(args: list[str]):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nobody:  # noqa: PTH123 - a descriptor
        done = subprocess.run(
            [sys.executable, "-m", "commands", *args], stdout=nobody, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (READER_GONE, b"")


def test_a_deliberate_error_is_printed_without_a_traceback(act_as: Any, capsys: pytest.CaptureFixture[str]):
    act_as("alerts", failing(SettingsError("k is 6 [of 5]")))
    assert run(["alerts"]) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: k is 6 [of 5]\n"
    assert printed.out == ""


def test_another_error_keeps_its_traceback(act_as: Any):
    act_as("alerts", failing(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        run(["alerts"])


def test_ctrl_c_is_no_error(act_as: Any, capsys: pytest.CaptureFixture[str]):
    act_as("alerts", failing(KeyboardInterrupt()))
    assert run(["alerts"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("worker", "faust.livecheck", "stream"),
        ("train", "torch", "train"),
        ("train", "scipy.signal", "stream"),
        ("evaluate", "scipy.signal", "train"),
        ("worker", "scipy", "stream"),
        ("evaluate", "mlflow", "train"),
        ("train", "onnx", "stream"),
        ("edge", "sounddevice", "audio"),
    ],
)
def test_a_missing_package_is_named_by_the_extra_that_brings_it(
    act_as: Any, capsys: pytest.CaptureFixture[str], command: str, module: str, extra: str
):
    act_as(command, failing(ModuleNotFoundError(f"No module named {module!r}", name=module)))
    assert run([command]) == MissingExtra.exit_code
    hint = f"in Whirr's checkout, pip install '.[{extra}]'"
    assert capsys.readouterr().err == f"error: this command needs the extra `{extra}`: {hint}\n"


def test_a_missing_module_that_no_extra_brings_is_a_bug(act_as: Any):
    act_as("alerts", failing(ModuleNotFoundError("No module named 'nonsense'", name="nonsense")))
    with pytest.raises(ModuleNotFoundError):
        run(["alerts"])


def test_a_command_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch):
    absent = type(COMMANDS["edge"])("commands.absent:absent", "Absent.")
    monkeypatch.setattr(commands, "COMMANDS", {"absent": absent})
    with pytest.raises(WhirrError, match="no command 'absent'"):
        load_command("absent")


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]):
    assert run(["listen"]) == 2
    assert "listen" in capsys.readouterr().err


def test_json_goes_out_line_by_line():
    # A program at the other end of a pipe sees the line while the command still runs.
    program = (
        "from commands._output import print_json\nimport signal\n"
        "print_json({'path': __import__('pathlib').Path('a')})\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b'{"path":"a"}\n'
        running.kill()
