"""A folder whose file names alone tell several machines apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import run_whirr
from tests.models import encoded, noise, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flat")
    for machine in ("fan-1", "pump-2"):
        for second in range(3):
            name = f"{machine}_2026-01-31T12-00-0{second}.wav"
            (folder / name).write_bytes(encoded(noise(1.0, rms=0.05, seed=second + 10 * (machine == "fan-1"))))
    return folder


def machines(command: str, folder: Path, out: Path, *more: str) -> tuple[set[str], str]:
    options = ["--jobs", "1", "--model", str(tiny_model(out.parent / "tiny.onnx"))] if command == "replay" else []
    done = run_whirr(command, str(folder), *options, "--out", str(out), "--json", *more, timeout_s=110)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return set(told["machines"]), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["replay", "features"])
def test_several_machines_are_named_as_such_and_told_apart_by_a_pattern(
    command: str, folder: Path, tmp_path: Path
) -> None:
    alone, said = machines(command, folder, tmp_path / "one")
    assert len(alone) == (1 if command == "replay" else 0)  # the folder's name, or none
    assert "begin in 2 ways ('fan-1', 'pump-2')" in said
    both, said = machines(command, folder, tmp_path / "two", "--pattern", "{machine}_{time}")
    assert both == {"fan-1", "pump-2"}
    assert "begin in" not in said
