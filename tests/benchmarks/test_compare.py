"""Benchmarks beside a stored run: which figures are judged, and what is worse."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from benchmarks.__main__ import FIGURES
from benchmarks.compare import STEADY, TRIES, compare, is_ratio, measured_again
from tests.helpers import REPOSITORY

BASE = {"broker": "Apache Kafka", "logmel_vs_librosa": 2.0, "worker_vs_inprocess": 1.0, "frames_per_second": 1000.0}
STORED = REPOSITORY / "benchmarks" / "baseline.json"


def verdicts(**changed: object) -> dict[str, bool | None]:
    return {one.name: one.worse for one in compare(BASE, {**BASE, **changed}, 0.2)}


def test_a_ratio_may_be_lower_by_the_tolerance_and_no_more():
    assert verdicts(logmel_vs_librosa=1.61)["logmel_vs_librosa"] is False
    assert verdicts(logmel_vs_librosa=1.59)["logmel_vs_librosa"] is True
    assert verdicts(logmel_vs_librosa=9.0)["logmel_vs_librosa"] is False


def test_what_a_frame_costs_may_be_higher_by_the_tolerance_and_no_more():
    base = {"frame_cost_ffts_default": 9.0}
    worse = [compare(base, {"frame_cost_ffts_default": cost})[0].worse for cost in (4.0, 9.9, 10.1)]
    assert worse == [False, False, True]


def test_steady_ratios_are_held_to_a_tenth_and_others_to_a_quarter():
    base = {"logmel_vs_librosa": 2.0, "worker_vs_inprocess": 1.0}
    found = compare(base, {"logmel_vs_librosa": 1.75, "worker_vs_inprocess": 0.8})
    assert [one.worse for one in found] == [True, False]


def test_what_is_worse_is_measured_again_and_counts_only_if_it_always_is():
    base = {"logmel_vs_librosa": 2.0, "frame_cost_ffts_default": 9.0, "sweep_vs_sort": 1000.0}
    runs = [
        {"logmel_vs_librosa": 1.5, "frame_cost_ffts_default": 12.0, "sweep_vs_sort": 1000.0},
        {"logmel_vs_librosa": 1.9, "frame_cost_ffts_default": 13.0, "sweep_vs_sort": 1.0},
        {"logmel_vs_librosa": 1.0, "frame_cost_ffts_default": 11.0, "sweep_vs_sort": 1.0},
    ]
    assert len(runs) == TRIES
    left = iter(runs)
    best = measured_again(base, lambda: next(left))
    assert best == {"logmel_vs_librosa": 1.9, "frame_cost_ffts_default": 11.0, "sweep_vs_sort": 1000.0}
    assert [one.name for one in compare(base, best) if one.worse] == ["frame_cost_ffts_default"]


def test_what_is_as_good_as_before_is_measured_once():
    left = iter([{"logmel_vs_librosa": 2.1}])
    assert measured_again({"logmel_vs_librosa": 2.0}, lambda: next(left)) == {"logmel_vs_librosa": 2.1}


def test_steady_ratios_are_ratios_of_make_bench():
    assert all(map(is_ratio, STEADY))
    assert set(STEADY) <= set(FIGURES)


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
    # Of what a frame costs less is better.
    stored = {name: value for name, value in stored.items() if not name.startswith("frame_cost")}
    base = tmp_path / "base.json"
    base.write_bytes(orjson.dumps(stored))
    new = {name: value if isinstance(value, str) else value * share for name, value in stored.items()}
    (tmp_path / "new.json").write_text("a table\n" + orjson.dumps(new).decode() + "\n")
    command = [sys.executable, "-m", "benchmarks.compare", str(base), str(tmp_path / "new.json")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    last = orjson.loads(done.stdout.splitlines()[-1])
    assert (last["worse"] == []) == (code == 0)
    assert last["judged"] == sum(is_ratio(name) for name in stored)
    assert last["same_machine"] is True


def test_on_another_machine_it_is_said_what_is_worse_and_no_failure(tmp_path):
    for name, found in (("old", {"machine": "a"}), ("new", {"machine": "b"})):
        (tmp_path / name).write_bytes(orjson.dumps({**found, "logmel_vs_librosa": 2.0 if name == "old" else 1.0}))
    command = [sys.executable, "-m", "benchmarks.compare", str(tmp_path / "old"), str(tmp_path / "new")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "another machine" in done.stdout
    assert orjson.loads(done.stdout.splitlines()[-1])["worse"] == ["logmel_vs_librosa"]


def test_a_run_that_ended_early_is_refused(tmp_path):
    (tmp_path / "new.json").write_text("Traceback\n")
    command = [sys.executable, "-m", "benchmarks.compare", str(STORED), str(tmp_path / "new.json")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no JSON object" in done.stderr
