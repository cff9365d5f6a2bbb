"""``whirr learn`` as a command: what it needs before it begins, and that it ends when asked to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import run_whirr

ROUTE = '[[route]]\nmatch = "*"\nmodel = "models:/own.{machine}@champion"\n'


def _refused(folder: Path, settings: str) -> str:
    file = folder / "whirr.toml"
    file.write_text(settings)
    done = run_whirr("learn", "--settings-file", str(file))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_it_needs_machines_with_models_of_their_own(tmp_path: Path) -> None:
    said = _refused(tmp_path, 'recordings_url = "heard"\n[[route]]\nmatch = "*"\nmodel = "all.onnx"\n')
    assert "models:/NAME.{machine}@champion" in said


def test_it_needs_an_archive(tmp_path: Path) -> None:
    assert "recordings_url is not set" in _refused(tmp_path, ROUTE)


def test_an_engine_that_is_none_is_named(tmp_path: Path) -> None:
    said = _refused(tmp_path, f'recordings_url = "{tmp_path}"\nlearn_engine = "rays"\n{ROUTE}')
    assert "learn_engine is 'rays'" in said


def test_a_detector_that_is_none_is_named(tmp_path: Path) -> None:
    said = _refused(tmp_path, f'recordings_url = "{tmp_path}"\nlearn_detector = "forest"\n{ROUTE}')
    assert "learn_detector: detector is 'forest'" in said


@pytest.mark.slow
def test_it_waits_for_kafka_and_ends_when_asked_to(tmp_path: Path) -> None:
    file = tmp_path / "whirr.toml"
    database = f'mlflow_tracking_uri = "sqlite:///{tmp_path}/mlflow.db"\n'
    file.write_text(f'recordings_url = "{tmp_path}/heard"\n{database}{ROUTE}')
    command = [sys.executable, "-c", "from commands import main; main()", "learn", "--settings-file", str(file)]
    options = ("--bootstrap", "127.0.0.1:1")
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stderr is not None
            first = next(one for one in process.stderr if "learns machines" in one)
            assert f"learns machines * from what is recorded in {tmp_path}/heard; a new one after 1 d and 100" in first
            line = next(one for one in process.stderr if "trying again" in one)
            assert "127.0.0.1:1" in line
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
