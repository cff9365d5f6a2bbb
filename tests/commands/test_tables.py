"""Every command that reads tables names their channels on stderr, and takes --columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import run_whirr
from tests.models import tiny_model

RATE_HZ, SAMPLES = 16_000, 32_000
NOTE = "channels are x; left out: '1' (only ever rises or falls, as a counter or a time does); 'time' (the time)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "pump-1").mkdir()
    random = np.random.default_rng(1)
    for number in range(4):
        label, scale = ("normal", 1.0) if number < 2 else ("anomaly", 9.0)
        signal = random.normal(0, scale, SAMPLES)
        lines = (f"{index},{index / RATE_HZ:.7f},{value:.5f},{20 + index % 7}" for index, value in enumerate(signal))
        text = ",time,x,temperature\n" + "\n".join(lines)
        (folder / "pump-1" / f"{label}_{number}.csv").write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "replay", "features"])
def test_channels_are_named_once_and_can_be_chosen(folder: Path, tmp_path: Path, command: str) -> None:
    model = ["--model", str(tiny_model(tmp_path / "tiny.onnx"))]
    options = {
        "evaluate": [*model, "--bootstrap", "0"],
        "replay": [*model, "--jobs", "1", "--out", str(tmp_path / "out")],
        "features": ["--out", str(tmp_path / "out")],
    }[command]
    done = run_whirr(command, str(folder), *options, timeout_s=110)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(NOTE) == 1
    assert "'temperature' (by its name); --columns NAME,… takes others" in done.stderr
    options = [option.replace(str(tmp_path / "out"), str(tmp_path / "other")) for option in options]
    done = run_whirr(command, str(folder), *options, "--json", "--columns", "temperature", timeout_s=110)
    assert "channels are temperature; left out: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_replay_of_tables_without_a_rate_alone_is_refused_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "K").mkdir()
    for number in range(2):
        values = np.random.default_rng(number).normal(size=64)
        (tmp_path / "K" / f"b{number}.csv").write_text("\n".join(f"{value:.5f}" for value in values))
    model = str(tiny_model(tmp_path / "tiny.onnx"))
    done = run_whirr("replay", str(tmp_path / "K"), "--model", model, "--jobs", "1", "--out", str(tmp_path / "out"))
    assert done.returncode != 0
    assert "b0.csv and 1 more: hold numbers but state no sample rate" in done.stderr
