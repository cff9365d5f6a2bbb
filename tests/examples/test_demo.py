"""The demo: its outcome, what it prints and draws, and that it leaves nothing running."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from examples.demo.live import playing_speed
from examples.demo.machines import DemoMachine, recorded
from examples.demo.observer import DeadLetter, Received
from examples.demo.outcome import machine_outcome, summarise
from examples.demo.picture import draw
from examples.demo.report import alert_line, lost_lines, summary_table
from schemas import format_rfc3339
from schemas.errors import RecordingError
from tests.helpers import REPOSITORY, eventually
from tests.models import SECOND_US, START_US, encoded, noise

pytestmark = pytest.mark.slow  # each runs the demo

DEMO = (sys.executable, "-m", "examples.demo")
HEALTHY = DemoMachine(machine_id="pump-1", train=Path("train"), live=(), live_s=100.0, shortest_s=10.0, onset_s=None)
FAULTY = replace(HEALTHY, machine_id="motor-1", onset_s=40.0, fault="outer race", off=((10.0, 20.0),))


def _write_recordings(folder: Path, *, normal_s: float, anomalous_s: float) -> None:
    """A machine of noise; its anomaly is ten times as loud."""
    for name, seconds, rms, seed in (
        *((f"train/normal_{i}", 5.0, 0.05, i) for i in range(4)),
        ("test/normal_0", normal_s, 0.05, 8),
        ("test/anomaly_0", anomalous_s, 0.5, 9),
    ):
        path = folder / "fan" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if seconds:
            path.write_bytes(encoded(noise(seconds, rms=rms, seed=seed)))


def score(machine: DemoMachine, at_s: int, ratio: float = 0.5, status: str = "scored", missing_before: int = 0) -> dict:
    recorded_at = format_rfc3339(START_US + at_s * SECOND_US)
    return {
        "machine_id": machine.machine_id,
        "recorded_at": recorded_at,
        "score": ratio,
        "threshold": 1.0,
        "status": status,
        "missing_before": missing_before,
    }


def alert(machine: DemoMachine, at_s: float, state: str = "opened", late_ms: int = 20, kind: str = "machine") -> dict:
    recorded_us = START_US + round(at_s * SECOND_US)
    return {
        "machine_id": machine.machine_id,
        "recorded_at": format_rfc3339(recorded_us),
        "kind": kind,
        "state": state,
        "severity": "warning",
        "sensor_fault": None,
        "ratio": 1.5,
        "bands": [{"from_hz": 3000.0, "to_hz": 4000.0, "share": 0.6}],
        "frame": {"published_at": format_rfc3339(recorded_us)},
        "received_us": recorded_us + late_ms * 1000,
    }


@pytest.mark.parametrize(
    ("machine", "at_s", "opened", "false_alerts", "delay_s"),
    [
        (FAULTY, 60.0, 1, 0, 20.0),
        (FAULTY, 39.5, 1, 0, 0.0),  # the frame that holds the onset
        (FAULTY, 38.0, 0, 1, None),
        (HEALTHY, 60.0, 0, 1, None),
    ],
)
def test_an_alert_is_judged_by_the_onset(machine, at_s, opened, false_alerts, delay_s):
    received = Received(alerts={"a": alert(machine, at_s), "b": alert(machine, 90.0, "closed")})
    found = machine_outcome(machine, received, START_US)
    assert (found.opened, found.false_alerts, found.delay_s) == (opened, false_alerts, delay_s)


def test_an_early_finding_finds_a_fault_and_is_no_alarm():
    received = Received(alerts={"a": alert(FAULTY, 60.0, "changed"), "b": alert(HEALTHY, 5.0, "changed")})
    found = [machine_outcome(machine, received, START_US) for machine in (FAULTY, HEALTHY)]
    assert [(one.opened, one.early, one.false_alerts, one.false_early) for one in found] == [(0, 1, 0, 0), (0, 0, 0, 1)]
    assert found[0].delay_s == 20.0
    outcome = summarise(10, received, found)
    assert (outcome.alerted, outcome.early, outcome.missed) == (0, 1, 0)
    assert (outcome.false_alerts, outcome.false_early) == (0, 1)
    assert "false early finding" in alert_line(received.alerts["b"], HEALTHY, START_US)


def test_a_sensor_alert_finds_no_fault():
    found = machine_outcome(FAULTY, Received(alerts={"a": alert(FAULTY, 60.0, kind="sensor")}), START_US)
    assert (found.opened, found.false_alerts) == (0, 1)


def test_lost_frames_and_missed_machines_are_counted():
    scores = {str(i): score(HEALTHY, i) for i in range(7)}
    received = Received(
        scores=scores, dead_letters={"f": DeadLetter("motor-1", "not_audio: …")}, alerts={"a": alert(HEALTHY, 5)}
    )
    machines = [machine_outcome(machine, received, START_US) for machine in (HEALTHY, FAULTY)]
    outcome = summarise(10, received, machines)
    assert outcome.as_dict() == {
        "published": 10,
        "scored": 7,
        "dead_lettered": 1,
        "lost": 2,
        "faulty": 1,
        "alerted": 0,
        "early": 0,
        "missed": 1,
        "false_alerts": 1,
        "false_early": 0,
        "latency_ms_p50": 20.0,
        "latency_ms_p99": 20.0,
    }


def test_lost_frames_are_named_by_machine_and_place():
    scores = {"a": score(HEALTHY, 1), "b": score(HEALTHY, 3, missing_before=1), "c": score(FAULTY, 1)}
    received = Received(scores=scores, dead_letters={"d": DeadLetter("motor-1", "not_audio: …")})
    (line,) = lost_lines({"pump-1": 3, "motor-1": 2}, received, START_US)
    assert "pump-1: 3 frames published, 2 answered; gaps before 3.0 s" in line


def test_idle_frames_have_no_part_in_the_highest_ratio():
    received = Received(scores={"a": score(HEALTHY, 1, 0.7), "b": score(HEALTHY, 2, 90.0, "idle")})
    found = machine_outcome(HEALTHY, received, START_US)
    assert (found.highest_ratio, found.idle, found.frames) == (0.7, 1, 2)


def test_lines_and_table_say_what_happened():
    line = alert_line(alert(FAULTY, 60.0), FAULTY, START_US)
    for part in ("motor-1", "opened", "1.50 x threshold", "3.0-4.0 kHz 60%", "20 s after the fault began", "20 ms"):
        assert part in line
    assert "false alert" in alert_line(alert(HEALTHY, 60.0), HEALTHY, START_US)
    found = machine_outcome(FAULTY, Received(alerts={"a": alert(FAULTY, 60.0)}), START_US)
    assert summary_table([found]).row_count == 1


def test_picture_is_drawn(tmp_path):
    received = Received(
        scores={str(i): score(FAULTY, i, 0.01 * i + 1e-9) for i in range(60)}, alerts={"a": alert(FAULTY, 50.0)}
    )
    draw([FAULTY, HEALTHY], received, START_US, tmp_path / "demo.png")
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_recordings_are_played_normal_first(tmp_path):
    for name in ("train/a", "test/anomaly_1", "test/abnormal_2", "test/normal_1", "test/normal_2", "test/notes"):
        path = tmp_path / "fan" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(0.5)))
    (machine,) = recorded(tmp_path)
    assert [path.stem for path in machine.live] == ["normal_1", "normal_2", "anomaly_1", "abnormal_2"]
    assert (machine.onset_s, machine.live_s, machine.frame_s) == (1.0, 2.0, 0.5)
    with pytest.raises(RecordingError, match="has no machine"):
        recorded(tmp_path / "fan")


def test_speed_leaves_two_cores_room():
    many = [replace(HEALTHY, machine_id=f"m{i}", live_s=10_000.0) for i in range(100)]
    assert playing_speed(many) == 2.5
    assert playing_speed([replace(HEALTHY, live_s=5.0)]) == 1.0


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and start time of every process that runs."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
                if state != "Z":
                    found[int(entry.name)] = int(parent), rest[17]
    return found


def _descendants(pid: int) -> set[tuple[int, str]]:
    """Process id and start time of a process and of all that it started."""
    processes, family = _processes(), {pid}
    while grown := {child for child, (parent, _) in processes.items() if parent in family} - family:
        family |= grown
    return {(one, processes[one][1]) for one in family if one in processes}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running_however_it_ends(tmp_path, number):
    _write_recordings(tmp_path / "wav", normal_s=60.0, anomalous_s=0.0)
    command = [*DEMO, "--wav-dir", str(tmp_path / "wav"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        # The edge agent's log is there once everything else runs.
        eventually(lambda: list((tmp_path / "out").glob("edge-*.log")), 90)
        # The demo itself, broker, worker and edge agent.
        family = eventually(lambda: found if len(found := _descendants(process.pid)) >= 4 else None)
        process.send_signal(number)
        assert process.wait(30) != 0
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not family & {(pid, began) for pid, (_, began) in _processes().items()}, 10)


def test_the_last_line_is_json_and_the_exit_code_is_the_verdict(tmp_path):
    _write_recordings(tmp_path / "wav", normal_s=3.0, anomalous_s=5.0)
    command = [*DEMO, "--wav-dir", str(tmp_path / "wav"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = orjson.loads(done.stdout.strip().splitlines()[-1])
    assert (figures["published"], figures["scored"], figures["lost"]) == (8, 8, 0)
    assert (figures["faulty"], figures["alerted"], figures["missed"], figures["false_alerts"]) == (1, 1, 0, 0)
    assert figures["latency_ms_p99"] > 0
    assert (tmp_path / "out" / "demo.png").exists()


def test_a_folder_of_somebody_elses_is_not_cleared(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    done = subprocess.run([*DEMO, "--out", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "did not put there" in done.stderr
    assert (tmp_path / "precious.txt").exists()
