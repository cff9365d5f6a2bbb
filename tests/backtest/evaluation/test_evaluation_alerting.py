"""What an operator feels: delays, faults found and false alerts of synthetic courses, and their arithmetic."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest

from backtest.evaluation.alerting import AlertTotals, feel, open_spans, total
from backtest.evaluation.scoring import Course, Pace, Told, play
from stream_app.pipeline import Model
from tests.models import encoded, noise, tiny_model
from trainer.labelled import Labelled
from trainer.recordings import Recording
from whirr.rates import per_day, per_day_interval
from whirr.settings import Route

ROUTE = Route(model="model")  # 3 of 5 open, 5 in a row close


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def _recording(folder: Path, name: str, seconds: float, level: float, onset_s: float | None = None) -> Labelled:
    path = folder / f"{name}.wav"
    path.write_bytes(encoded(noise(seconds, rms=0.05 * level, seed=crc32(name.encode()))))
    label = "anomaly" if name.startswith("anomaly") else "normal"
    about = Recording(path=path, name=path.name, machine="m", rate_hz=16_000, channels=1, samples=int(seconds * 16_000))
    return Labelled(about, label, onset_s)


def _play(model: Model, recordings: list[Labelled], route: Route = ROUTE, every_s: float | None = None) -> Course:
    course = play("m", recordings, model, route, Pace(1.0, every_s))
    assert isinstance(course, Course)
    return course


def test_a_fault_is_found_after_as_many_frames_as_the_rule_asks_for(tmp_path: Path, model: Model) -> None:
    course = _play(model, [_recording(tmp_path, "normal", 8, 1), _recording(tmp_path, "anomaly", 6, 10)])
    assert [recording.flagged for recording in course.recordings] == [False, True]
    assert (course.onset_s, course.end_s, len(course.frames)) == (8.0, 14.0, 14)
    felt = feel(course)
    assert (felt.fault, felt.found, felt.already_open) == (True, True, False)
    assert felt.delay_s == pytest.approx(3.0)  # the third frame has been heard three seconds after the onset
    assert felt.open_share == pytest.approx(4 / 6)
    assert felt.false_open_share == 0.0
    assert (felt.false_alerts, felt.normal_s, felt.sensor_alerts) == (0, 8.0, 0)
    assert felt.threshold == 1.0


def test_a_known_onset_within_the_recording_counts_from_there(tmp_path: Path, model: Model) -> None:
    both = [_recording(tmp_path, "normal", 4, 1), _recording(tmp_path, "anomaly", 6, 10, onset_s=1.5)]
    felt = feel(_play(model, both))
    assert felt.normal_s == 5.5
    assert felt.delay_s == pytest.approx(1.5)
    # An alert that has come before the onset is a false one, even within the recording.
    late = feel(_play(model, [both[0], _recording(tmp_path, "anomaly_2", 6, 10, onset_s=3.5)]))
    assert (late.found, late.false_alerts, late.already_open) == (False, 1, True)
    assert late.delay_s is None


def test_false_alerts_are_counted_before_the_onset(tmp_path: Path, model: Model) -> None:
    recordings = [
        _recording(tmp_path, "normal_1", 6, 1),
        _recording(tmp_path, "normal_2", 4, 10),
        _recording(tmp_path, "normal_3", 8, 1),  # five frames close the incident
        _recording(tmp_path, "anomaly", 2, 10),  # too short for 3 of 5
    ]
    felt = feel(_play(model, recordings))
    assert (felt.false_alerts, felt.normal_s) == (1, 18.0)
    assert felt.false_open_share == pytest.approx(7 / 18)  # from the third loud frame to the fifth quiet one
    assert (felt.found, felt.delay_s, felt.already_open, felt.open_share) == (False, None, False, 0.0)


def test_recordings_at_intervals_take_the_time_between_them(tmp_path: Path, model: Model) -> None:
    recordings = [
        *(_recording(tmp_path, f"normal_{number}", 1, 1) for number in range(6)),
        *(_recording(tmp_path, f"anomaly_{number}", 1, 10) for number in range(4)),
    ]
    felt = feel(_play(model, recordings, every_s=10.0))
    assert felt.normal_s == 60.0
    assert felt.delay_s == pytest.approx(21.0)


def test_every_anomalous_frame_is_an_alert_in_mode_every(tmp_path: Path, model: Model) -> None:
    recordings = [_recording(tmp_path, "normal", 2, 10), _recording(tmp_path, "anomaly", 2, 10)]
    felt = feel(_play(model, recordings, Route(model="model", mode="every")))
    assert (felt.false_alerts, felt.found, felt.delay_s) == (2, True, pytest.approx(1.0))


def test_a_dead_sensor_is_no_fault_of_the_machine(tmp_path: Path, model: Model) -> None:
    recordings = [_recording(tmp_path, "normal", 4, 1), _recording(tmp_path, "anomaly", 6, 0)]
    felt = feel(_play(model, recordings))
    assert (felt.found, felt.false_alerts, felt.sensor_alerts) == (False, 0, 1)


def test_a_machine_without_anomalies_has_no_fault_to_find(tmp_path: Path, model: Model) -> None:
    felt = feel(_play(model, [_recording(tmp_path, "normal", 4, 1)]))
    assert (felt.fault, felt.found, felt.delay_s, felt.open_share, felt.normal_s) == (False, None, None, None, 4.0)


def test_totals_are_over_machines(tmp_path: Path, model: Model) -> None:
    healthy = feel(_play(model, [_recording(tmp_path, "normal_1", 4, 1)]))
    false = feel(_play(model, [_recording(tmp_path, "normal_2", 6, 10)]))
    faulty = feel(_play(model, [_recording(tmp_path, "normal_3", 5, 1), _recording(tmp_path, "anomaly", 5, 10)]))
    assert total([healthy, false, faulty]) == AlertTotals(
        faults=1,
        found=1,
        delay_s_median=pytest.approx(3.0),
        delay_s_max=pytest.approx(3.0),
        false_alerts=1,
        normal_s=15.0,
        sensor_alerts=0,
    )


def test_false_alerts_a_day_are_extrapolated_with_an_exact_interval() -> None:
    assert per_day(3, 6 * 3600) == 12.0
    assert per_day(0, 0.0) is None
    assert per_day_interval(1, 0.0) is None
    # Tables of the Poisson distribution's exact limits: none seen, at most 3.689; three seen, 0.619 to 8.767.
    assert per_day_interval(0, 86_400) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert per_day_interval(3, 86_400) == pytest.approx((0.619, 8.767), abs=1e-3)
    assert per_day_interval(3, 43_200) == pytest.approx((1.237, 17.535), abs=2e-3)


def test_spans_of_open_incidents() -> None:
    told = [
        Told("machine", "opened", 3.0),
        Told("sensor", "opened", 4.0),
        Told("machine", "updated", 5.0),
        Told("machine", "closed", 9.0),
        Told("machine", "opened", 12.0),
    ]
    assert list(open_spans(told)) == [(3.0, 9.0), (12.0, float("inf"))]
