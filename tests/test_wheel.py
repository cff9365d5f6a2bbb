"""The wheel in an environment that holds nothing else: what a gateway installs. ``make wheel-test`` builds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY, KafkaUnderTest
from whirr import __version__

DIST = os.environ.get("WHIRR_TEST_DIST")
pytestmark = [
    pytest.mark.skipif(DIST is None, reason="`make wheel-test` builds the wheel that this needs"),
    pytest.mark.timeout(300),
]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel() -> Path:
    assert DIST is not None
    (found,) = Path(DIST).glob("whirr-*.whl")
    return found


@pytest.fixture(scope="module")
def whirr(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return what runs the installed ``whirr`` in a folder of its own, without extras or anything of the checkout."""
    folder = tmp_path_factory.mktemp("gateway")
    venv = folder / "venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    constraints = ["--constraints", str(REPOSITORY / "constraints.txt")]
    python = ["--python", str(venv / "bin" / "python")]
    subprocess.run([*uv, "pip", "install", "--quiet", *python, *constraints, str(wheel)], check=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WHIRR_", "PYTHON"))}

    def run(*arguments: str, **settings: str) -> str:
        done = subprocess.run(
            [str(venv / "bin" / "whirr"), *arguments],
            cwd=folder,
            env={**env, **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def test_it_holds_the_packages_the_licence_and_no_tests(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {path.parent.name for path in REPOSITORY.glob("*/py.typed")}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"feature_repo/feature_store.yaml", "schemas/asyncapi.yaml", "schemas/py.typed"} <= set(names)
    templates = REPOSITORY / "backtest" / "report" / "templates"
    assert {str(path.relative_to(REPOSITORY)) for path in templates.iterdir()} <= set(names)


def test_the_source_distribution_is_there_too(wheel: Path):
    assert (wheel.parent / f"whirr-{__version__}.tar.gz").is_file()


def test_it_says_its_version_and_its_commands(whirr: Run):
    assert __version__ in whirr("--version")
    assert "simulate" in whirr("--help")


async def test_a_gateway_simulates_spools_and_publishes_without_any_extra(whirr: Run, kafka: KafkaUnderTest):
    await kafka.create_topics()
    settings = kafka.settings()
    environment = {
        "WHIRR_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "WHIRR_FRAMES_TOPIC": settings.frames_topic,
    }
    plant = f"plant-{settings.frames_topic}"
    whirr("simulate", "--out", plant, "--seconds", "40", "--train-seconds", "20")
    whirr("edge", f"{plant}/pump-2/test", "--machine", "pump-2", "--speed", "1000", "--spool", **environment)
    status = json.loads(whirr("edge", "status", "--json", **environment))
    assert status["frames"] == 0
    records = await kafka.consume(settings.frames_topic, 10)
    assert {record.key for record in records} == {b"pump-2"}
