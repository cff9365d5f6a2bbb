"""Benchmarks beside a stored run: which figures are judged, and what is worse."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from benchmarks.compare import compare
from tests.helpers import REPOSITORY

BASE = {"broker": "Apache Kafka", "logmel_vs_librosa": 2.0, "worker_vs_inprocess": 1.0, "frames_per_second": 1000.0}
STORED = REPOSITORY / "benchmarks" / "baseline.json"


def verdicts(**changed: object) -> dict[str, bool | None]:
    return {one.name: one.worse for one in compare(BASE, {**BASE, **changed}, 0.2)}


def test_a_ratio_may_be_lower_by_the_tolerance_and_no_more():
    assert verdicts(logmel_vs_librosa=1.61)["logmel_vs_librosa"] is False
    assert verdicts(logmel_vs_librosa=1.59)["logmel_vs_librosa"] is True
    assert verdicts(logmel_vs_librosa=9.0)["logmel_vs_librosa"] is False


def test_what_depends_on_the_machine_is_not_judged():
    assert verdicts(frames_per_second=1.0)["frames_per_second"] is None


def test_the_workers_ratios_need_the_same_broker():
    assert verdicts(worker_vs_inprocess=0.1)["worker_vs_inprocess"] is True
    told = verdicts(worker_vs_inprocess=0.1, logmel_vs_librosa=0.1, broker="another")
    assert (told["worker_vs_inprocess"], told["logmel_vs_librosa"]) == (None, True)


def test_a_ratio_that_is_gone_is_worse():
    base = {"logmel_vs_librosa": 2.0}
    assert [one.worse for one in compare(base, {})] == [True]


@pytest.mark.parametrize(("share", "code"), [(1.0, 0), (0.5, 1)])
def test_the_command_judges_by_its_exit_code_and_last_line(share: float, code: int, tmp_path):
    stored = orjson.loads(STORED.read_bytes())
    new = {name: value if isinstance(value, str) else value * share for name, value in stored.items()}
    (tmp_path / "new.json").write_text("a table\n" + orjson.dumps(new).decode() + "\n")
    command = [sys.executable, "-m", "benchmarks.compare", str(STORED), str(tmp_path / "new.json")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    last = orjson.loads(done.stdout.splitlines()[-1])
    assert (last["worse"] == []) == (code == 0)
    assert last["judged"] == sum("_vs_" in name for name in stored)


def test_a_run_that_ended_early_is_refused(tmp_path):
    (tmp_path / "new.json").write_text("Traceback\n")
    command = [sys.executable, "-m", "benchmarks.compare", str(STORED), str(tmp_path / "new.json")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no JSON object" in done.stderr
