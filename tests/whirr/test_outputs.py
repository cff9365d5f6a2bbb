"""What a command writes at its end is tried before its work begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import load_command, run
from commands._recording_set import warn_of
from commands._recordings import check_out
from recordings import SUFFIXES
from recordings.find import Problem
from schemas.errors import SettingsError
from tests.models import encoded, noise, tiny_model
from whirr.outputs import check_file, check_folder, replacing

EPOCHS = ("train", "--detector", "conv_ae")


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
        ("a\0b", "which can't be written: .*embedded null"),
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
        ("a\0b", "where no file can be written: .*embedded null"),
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
            [*EPOCHS, "--normal", "{here}", "--no-mlflow", "--out", "{here}/m.onnx", "--checkpoints", "/proc/no"],
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
        (["record", "--out", "/proc/no"], "archive.retained.record"),
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


@pytest.mark.parametrize(
    ("command", "work"),
    [
        ("replay", "backtest.replay.routing.load"),
        ("compare", "backtest.replay.routing.load"),
        ("features", "trainer.extraction.find_recordings"),
    ],
)
def test_results_do_not_go_among_recordings(
    command: str, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.wav").write_bytes(encoded(noise(12.0)))
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("it works before it looks"))
    assert run([command, ".", "--out", str(tmp_path)]) == 2
    assert "the folder of the recordings" in capsys.readouterr().err


def test_results_inside_the_folder_of_recordings_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    check_out(tmp_path / "out", tmp_path)
    assert "lies in the folder of the recordings" in " ".join(capsys.readouterr().err.split())
    check_out(tmp_path / "out", tmp_path / "in")
    assert not capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_comparison_looks_for_kafka_before_it_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "1.wav").write_bytes(encoded(noise(12.0)))
    model = tiny_model(tmp_path / "tiny.onnx")
    monkeypatch.setattr("backtest.replay.run.replay", lambda *_, **__: pytest.fail("it replays before it looks"))
    options = ["--model", str(model), "--out", str(tmp_path / "new" / "out"), "--bootstrap", "127.0.0.1:1"]
    assert run(["compare", str(tmp_path), *options]) == 3
    assert "Kafka at 127.0.0.1:1 can't be reached" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_refused_checkpoints_leave_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "none").mkdir()
    args = [*EPOCHS, "--normal", str(tmp_path / "none"), "--no-mlflow", "--out", str(tmp_path / "m.onnx")]
    assert run([*args, "--checkpoints", str(tmp_path / "checkpoints")]) == 2
    assert "no audio" in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()


def test_files_that_are_not_used_are_counted_in_a_sentence(capsys: pytest.CaptureFixture[str]):
    problems = [Problem(f"{number}.wav", "its name holds a control character; rename it") for number in range(14)]
    warn_of([*problems, Problem("a", "a folder whose name isn't UTF-8; rename it")])
    told = " ".join(capsys.readouterr().err.split())
    assert told.endswith(
        "15 files in all are not used. Why: its name holds a control character (14 files), a folder whose name isn't "
        "UTF-8 (1 file)"
    )


@pytest.mark.parametrize("command", ["train", "features", "evaluate", "replay", "edge"])
def test_every_kind_of_file_that_is_read_is_named_by_the_help(command: str):
    named = " ".join(parameter.help or "" for parameter in load_command(command).params)
    assert [suffix for suffix in SUFFIXES if f"{suffix} " not in named and f"{suffix})" not in named] == [".caf"]
    assert ".caf, and tables" in named
