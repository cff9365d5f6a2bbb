"""``whirr recordings``: what an archive holds, as people and programs read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import archive
from commands import run
from tests.archive.kept import added, entry, frame, put
from trainer.recording_set import find_recordings


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = str(tmp_path / "kept")
    kept = archive.open(folder)
    added(kept, [frame(n) for n in range(4)])
    put(kept, [entry(n, machine="fan-1", size=500_000) for n in range(3)])
    monkeypatch.setenv("WHIRR_RECORDINGS_URL", folder)
    return folder


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_list_pin_and_unpin(url: str, capsys: pytest.CaptureFixture[str]):
    assert run(["recordings", "pin", "pump-1", "--why", "baseline", "--since", "2026-01-01T00:00:02Z", "--json"]) == 0
    (pin,) = lines(capsys)
    assert (pin["from"], pin["until"], pin["why"]) == ("2026-01-01T00:00:02.000000Z", None, "baseline")
    assert run(["recordings", "list", "--json"]) == 0
    fan, pump = lines(capsys)
    assert (fan["machine"], fan["files"], fan["bytes"], fan["pinned_files"]) == ("fan-1", 3, 1_500_000, 0)
    assert (pump["machine"], pump["files"], pump["seconds"], pump["pinned_files"]) == ("pump-1", 4, 2.0, 2)
    assert (pump["oldest"], pump["newest"]) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:03.000000Z")
    assert sum(pump["states"].values()) == 4
    assert pump["pins"] == [pin]
    assert run(["recordings", "list", "--machine", "pump-*"]) == 0
    told = capsys.readouterr().out
    assert "4 files" in told
    header, row, *_ = told.splitlines()
    assert row[header.index("states") :].count("(") == len(pump["states"])  # however narrow: nothing is folded
    assert f"{pin['pin_id']}  pinned: pump-1 from 2026-01-01 00:00:02 until whatever comes, baseline" in told
    assert "fan-1" not in told
    assert run(["recordings", "unpin", str(pin["pin_id"])]) == 0
    assert archive.open(url).pins() == []
    assert run(["recordings", "unpin", str(pin["pin_id"])]) == 2
    assert "has no pin" in capsys.readouterr().err


def test_fetch_gives_a_folder_that_trains(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    args = ["recordings", "fetch", "pump-1", "--until", "2026-01-01T00:00:03Z", "--out", str(out), "--json"]
    assert run(args) == 0
    assert lines(capsys) == [{"files": 3, "gone": 0, "out": str(out)}]
    assert find_recordings(out).machines == {"pump-1": 3}
    assert run(["recordings", "fetch", "pump-9", "--out", str(out)]) == 0
    assert "no recording of machine 'pump-9'" in capsys.readouterr().err


def test_prune_and_mend(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    kept = archive.open(url)
    kept.place.remove([kept.entries("pump-1")[0].path])
    assert run(["recordings", "mend", "--json"]) == 0
    assert lines(capsys) == [{"listed": 0, "unusable": 0, "dropped": 1}]
    monkeypatch.setenv("WHIRR_RECORDINGS_KEEP_DAYS", "0")
    monkeypatch.setenv("WHIRR_RECORDINGS_KEEP_MACHINE_GB", "0.001")
    assert run(["recordings", "pin", "fan-1", "--why", "test"]) == 0
    assert run(["recordings", "prune"]) == 0
    said = capsys.readouterr()
    assert "above its quota: all of them are pinned; unpin something" in said.err
    assert len(kept.entries("fan-1")) == 3
