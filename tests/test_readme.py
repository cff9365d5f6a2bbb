"""Every block of the README runs as it stands, in its order: from nothing to an alert."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.helpers import REPOSITORY, eventually
from whirr import process
from whirr.settings import Settings

pytestmark = pytest.mark.slow  # all that the README says, from nothing to an alert

README = (REPOSITORY / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# What .ci/run and the Makefile do in their own way: `make demo`, and an environment with every extra.
ELSEWHERE = ("make demo", "python3 -m venv ", "pip install ")
# These run until they are stopped.
KEEP_RUNNING = ("whirr broker", "whirr worker", "whirr alerts --follow", "whirr edge --simulate")


def test_only_what_can_be_run_stands_in_a_block():
    assert {language for language, _ in BLOCKS} == {"console", "python", "toml"}
    for language, text in BLOCKS:
        if language == "console":
            assert all(line.startswith("$ ") for line in text.splitlines()), text


def test_the_extras_that_are_to_be_installed_are_there():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for extra in re.findall(r"'?\.\[([\w,]+)\]", README) for name in extra.split(",")}
    assert {"stream", "embedded", "train"} <= named <= set(extras)
    assert "make demo" in (REPOSITORY / ".ci" / "run").read_text()


class Reader:
    """Somebody who types what the README says, in a folder and a number of terminals."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(("WHIRR_", "FEAST_"))}
        self._env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self._env['PATH']}"
        # The features would be written into the checkout.
        shutil.copytree(REPOSITORY / "feature_repo", folder / "features", ignore=shutil.ignore_patterns("data"))
        self._env["WHIRR_FEATURE_REPO"] = str(folder / "features")

    def types(self, line: str) -> None:
        """Run a command to its end, or as long as everything else if it is one that keeps running."""
        if line.startswith(KEEP_RUNNING):
            log = self._start(line.split()[1], ["bash", "-c", f"exec {line}"])
            if line.startswith("whirr broker"):
                eventually(lambda: "listening" in log.read_text(), 60, what=line)
            elif line.startswith("whirr worker"):
                eventually(_is_ready, 120, what=line)
            return
        command = ["bash", "-o", "pipefail", "-c", line]
        done = subprocess.run(
            command, cwd=self._folder, env=self._env, check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def runs(self, program: str) -> Path:
        """Start a Python program and return where its output goes."""
        (self._folder / "program.py").write_text(program)
        return self._start("program", [sys.executable, "program.py"])

    def said(self, name: str) -> str:
        """Return what one that keeps running has printed."""
        return (self._folder / f"{name}.log").read_text()

    def stops(self) -> list[int]:
        """Press Ctrl-C in every terminal, the last first; return the exit codes."""
        for running in reversed(self._running):
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGINT)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                process.stop(running)
        return [running.returncode for running in self._running]

    def _start(self, name: str, command: list[str]) -> Path:
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            self._running.append(process.start(command, output=output, env=self._env, cwd=self._folder))
        return log


def _is_ready() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:6066/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def reader_in(folder: Path) -> Iterator[Reader]:
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stops()


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("the ports that the README names")
def test_the_readme_leads_from_nothing_to_an_alert(tmp_path: Path):
    if shutil.which("kcat") is None:
        unavailable("kcat is not installed; Debian and Ubuntu have it as a package")
    for port in (9092, 6066):
        assert process.port_is_free(port), f"the README's commands need port {port}, which something here has taken"
    with reader_in(tmp_path) as reader:
        for language, text in BLOCKS:
            if language == "toml":
                assert Settings(**tomllib.loads(text)).route_for("pump-2") is not None
            elif language == "python":
                log = reader.runs(text)
                eventually(lambda log=log: "pump-2 opened" in log.read_text(), 60, what="an alert for the program")  # type: ignore[misc]
            else:
                for line in text.splitlines():
                    if not line.startswith(tuple(f"$ {known}" for known in ELSEWHERE)):
                        reader.types(line.removeprefix("$ "))
            if "whirr edge plant" in text:
                eventually(lambda: "pump-2  machine opened" in reader.said("alerts"), 120, what="the alert")
        assert "Traceback" not in "".join(path.read_text() for path in tmp_path.glob("*.log"))
        codes = reader.stops()
    assert codes[0] == codes[1] == 0, codes  # broker and worker
