"""What a command writes at its end is tried before its work begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import run
from schemas.errors import SettingsError
from tests.models import encoded, noise, tiny_model
from whirr.outputs import check_file, check_folder, replacing


def test_nothing_is_left_of_what_was_tried(tmp_path: Path):
    check_file(tmp_path / "new" / "a" / "m.onnx", "--out")
    check_folder(tmp_path / "new" / "b", "--out")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_its_name_when_it_is_complete_or_not_at_all(tmp_path: Path, durable: bool):
    path = tmp_path / "new" / "page.html"
    with replacing(path, text=True, durable=durable) as file:
        file.write("dûre")
        assert not path.exists()
    assert path.read_bytes() == "dûre".encode()
    with pytest.raises(TypeError), replacing(path, durable=durable) as file:
        file.writelines([b"half", None])
    assert path.read_bytes() == "dûre".encode()
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "m.onnx").write_bytes(b"old")
    check_file(tmp_path / "there" / "m.onnx", "--out")
    assert (tmp_path / "there" / "m.onnx").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/proc/nothing/m.onnx", r"--out is '/proc/nothing/m\.onnx', which can't be written: "),
        ("/dev/null", "--out is '/dev/null', a device or pipe; expected a file"),
        ("/dev/null/m.onnx", "which can't be written: "),
        ("/tmp", "--out is '/tmp', a folder; expected a file"),
        ("a\0b", "which can't be written: embedded null byte"),
        ("n" * 300, "which can't be written: File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(path: str, message: str):
    with pytest.raises(SettingsError, match=message):
        check_file(Path(path), "--out")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/proc/nothing", "--out is '/proc/nothing', where no file can be written: "),
        ("/dev/null", "--out is '/dev/null', a file; expected a folder"),
        ("/dev/null/here", "where no file can be written: "),
        ("a\0b", "where no file can be written: embedded null byte"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused(path: str, message: str):
    with pytest.raises(SettingsError, match=message):
        check_folder(Path(path), "--out")


@pytest.mark.parametrize(
    ("args", "work"),
    [
        (["train", "--normal", "{here}", "--no-mlflow", "--out", "/proc/no/m.onnx"], "trainer.train.find_recordings"),
        (
            ["train", "--normal", "{here}", "--no-mlflow", "--out", "{here}/m.onnx", "--checkpoints", "/proc/no"],
            "trainer.train.find_recordings",
        ),
        (["features", "{here}", "--out", "/proc/no"], "trainer.extraction.find_recordings"),
        (
            ["evaluate", "{here}", "--model", "{model}", "--report", "/proc/no/r.html"],
            "backtest.evaluation.evaluate.evaluate",
        ),
        (["replay", "{here}", "--model", "{model}", "--out", "/proc/no"], "backtest.replay.routing.load"),
        (
            ["replay", "{here}", "--model", "{model}", "--out", "{here}/out", "--report", "/proc/no/r.html"],
            "backtest.replay.routing.load",
        ),
        (["rescore", "--model", "{model}", "--out", "/proc/no"], "backtest.replay.routing.load"),
        (["compare", "{here}", "--model", "{model}", "--out", "/proc/no"], "backtest.replay.routing.load"),
        (["sweep", "{here}", "--write", "/proc/no/whirr.toml"], "backtest.sweep.load.load_scores"),
        (["simulate", "--out", "/proc/no"], "edge_agent.simulator.plant_recordings._write_run"),
        (["record", "--out", "/proc/no"], "backtest.replay.record.record"),
        (["alerts", "audio", "abcdef", "--out", "/proc/no/a.wav"], "whirr.alert_audio.fetch"),
        (["dlq", "show", "0:1", "--out", "/proc/no/a"], "whirr.dead_letters.read_letter"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_says_so_before_it_works(
    args: list[str], work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "1.wav").write_bytes(encoded(noise(12.0)))
    model = tiny_model(tmp_path / "tiny.onnx")
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("it works before it looks"))
    assert run([arg.format(here=tmp_path, model=model) for arg in args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "'/proc/no" in printed.err
    assert "Traceback" not in printed.err
