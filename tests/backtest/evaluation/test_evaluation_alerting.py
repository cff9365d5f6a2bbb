"""What an operator notices: delays, faults found and false alerts of synthetic courses, and their arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from backtest.alerting import AlertFigures, total
from backtest.evaluation.scored_set import Pace, play
from backtest.streams import IncidentSpan
from backtest.tally import MachineTally
from recordings.name_words import Label
from stream_app.pipeline import Model, Router
from stream_app.worker.champions import Champions
from stream_app.worker.lineups import ModelFile
from tests.models import encoded, noise, tiny_metadata, tiny_model
from tests.stream_app.pipeline.test_levels import EARLY
from trainer.recording_set import Recording, RecordingSet
from whirr.rates import per_day, per_day_interval
from whirr.settings import Route

ROUTE = Route(model="model")  # 3 of 5 open, 5 in a row close


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def _recording(folder: Path, name: str, seconds: float, level: float, onset_s: float | None = None) -> Recording:
    path = folder / f"{name}.wav"
    path.write_bytes(encoded(noise(seconds, rms=0.05 * level, seed=crc32(name.encode()))))
    label: Label = "anomaly" if name.startswith("anomaly") else "normal"
    signal: dict[str, Any] = {"rate_hz": 16_000, "channels": 1, "samples": int(seconds * 16_000)}
    return Recording(path=path, name=path.name, machine="m", label=label, onset_s=onset_s, **signal)


def _play(
    model: Model, recordings: list[Recording], route: Route = ROUTE, every_s: float | None = None
) -> MachineTally:
    folder = recordings[0].path.parent
    champions = Champions(Router.from_routes([route], {"model": model}), {"model": ModelFile("", model.digest)})
    played = play(RecordingSet(folder, tuple(recordings), ()), champions, Pace(1.0, every_s))
    assert played.found.problems == ()
    return played.machines["m"]


def figures_of(tally: MachineTally) -> AlertFigures:
    return tally.figures


def test_a_fault_is_found_after_as_many_frames_as_the_rule_asks_for(tmp_path: Path, model: Model) -> None:
    tally = _play(model, [_recording(tmp_path, "normal", 8, 1), _recording(tmp_path, "anomaly", 6, 10)])
    figures = figures_of(tally)
    assert (figures.faults, figures.found, figures.already_open) == (1, 1, 0)
    assert figures.delays_s == (3.0,)  # the third frame has been heard three seconds after the onset
    assert figures.anomalous_open_share == pytest.approx(4 / 6)
    assert figures.normal_open_share == 0.0
    assert (figures.false_alerts, figures.normal_s, tally.sensor_alerts) == (0, 8.0, 0)
    assert (tally.frames, tally.streams[0].threshold, tally.spans) == (14, 1.0, [IncidentSpan(10, 14)])


def test_a_known_onset_within_the_recording_counts_from_there(tmp_path: Path, model: Model) -> None:
    both = [_recording(tmp_path, "normal", 4, 1), _recording(tmp_path, "anomaly", 6, 10, onset_s=1.5)]
    figures = figures_of(_play(model, both))
    assert figures.normal_s == 5.5
    assert figures.delays_s == (1.5,)
    # An alert that has come before the onset is a false one, even within the recording.
    late = figures_of(_play(model, [both[0], _recording(tmp_path, "anomaly_2", 6, 10, onset_s=3.5)]))
    assert (late.delays_s, late.false_alerts, late.already_open) == ((None,), 1, 1)


def test_false_alerts_are_counted_before_the_onset(tmp_path: Path, model: Model) -> None:
    recordings = [
        _recording(tmp_path, "normal_1", 6, 1),
        _recording(tmp_path, "normal_2", 4, 10),
        _recording(tmp_path, "normal_3", 8, 1),  # five frames close the incident
        _recording(tmp_path, "anomaly", 2, 10),  # too short for 3 of 5
    ]
    figures = figures_of(_play(model, recordings))
    assert (figures.false_alerts, figures.normal_s) == (1, 18.0)
    # From the third loud frame until the fifth quiet one, at whose end it is closed.
    assert figures.normal_open_share == pytest.approx(6 / 18)
    assert (figures.delays_s, figures.already_open, figures.anomalous_open_share) == ((None,), 0, 0.0)


def test_recordings_at_intervals_take_the_time_between_them(tmp_path: Path, model: Model) -> None:
    recordings = [
        *(_recording(tmp_path, f"normal_{number}", 1, 1) for number in range(6)),
        *(_recording(tmp_path, f"anomaly_{number}", 1, 10) for number in range(4)),
    ]
    figures = figures_of(_play(model, recordings, every_s=10.0))
    assert figures.normal_s == 60.0
    assert figures.delays_s == (21.0,)


def test_every_anomalous_frame_is_an_alert_in_mode_every(tmp_path: Path, model: Model) -> None:
    recordings = [_recording(tmp_path, "normal", 2, 10), _recording(tmp_path, "anomaly", 2, 10)]
    figures = figures_of(_play(model, recordings, Route(model="model", mode="every")))
    assert (figures.false_alerts, figures.delays_s, figures.already_open) == (2, (1.0,), 0)


def test_a_fault_that_no_alarm_finds_may_be_found_early(tmp_path: Path) -> None:
    metadata = tiny_metadata()
    early = replace(metadata, thresholds=replace(metadata.thresholds, early=EARLY))
    model = Model.load(tiny_model(tmp_path / "early.onnx", early))
    weak = [_recording(tmp_path, "normal", 8, 1), _recording(tmp_path, "anomaly", 20, 1.4)]
    tally = _play(model, weak)
    assert (tally.figures.faults, tally.figures.found, tally.figures.false_alerts) == (1, 0, 0)
    assert (tally.early, tally.false_early, tally.findings.found) == (1, 0, 1)
    (delay_s,) = tally.findings.delays_s
    assert delay_s is not None
    assert tally.findings.anomalous_open_share == pytest.approx((20 - delay_s + 1) / 20)
    off = _play(model, weak, Route(model="model", early=False))
    assert (off.early, off.findings.found) == (0, 0)
    false = _play(model, [_recording(tmp_path, "normal_2", 20, 1.4), weak[1]])
    assert (false.early, false.false_early, false.findings.false_alerts, false.findings.found) == (1, 1, 1, 0)


def test_a_dead_sensor_is_no_fault_of_the_machine(tmp_path: Path, model: Model) -> None:
    recordings = [_recording(tmp_path, "normal", 4, 1), _recording(tmp_path, "anomaly", 6, 0)]
    tally = _play(model, recordings)
    assert (tally.figures.found, tally.figures.false_alerts, tally.sensor_alerts) == (0, 0, 1)


def test_a_machine_without_anomalies_has_no_fault_to_find(tmp_path: Path, model: Model) -> None:
    figures = figures_of(_play(model, [_recording(tmp_path, "normal", 4, 1)]))
    assert (figures.faults, figures.recall, figures.delay_s_max, figures.anomalous_open_share, figures.normal_s) == (
        0,
        None,
        None,
        None,
        4.0,
    )


def test_totals_are_over_machines(tmp_path: Path, model: Model) -> None:
    healthy = figures_of(_play(model, [_recording(tmp_path, "normal_1", 4, 1)]))
    false = figures_of(_play(model, [_recording(tmp_path, "normal_2", 6, 10)]))
    faulty = figures_of(_play(model, [_recording(tmp_path, "normal_3", 5, 1), _recording(tmp_path, "anomaly", 5, 10)]))
    assert total([healthy, false, faulty]) == AlertFigures(
        delays_s=(3.0,),
        false_alerts=1,
        normal_s=15.0,
        normal_frames=15,
        anomalous_frames=5,
        normal_open=4,
        anomalous_open=3,
    )


def test_false_alerts_a_day_are_extrapolated_with_an_exact_interval() -> None:
    assert per_day(3, 6 * 3600) == 12.0
    assert per_day(0, 0.0) is None
    assert per_day_interval(1, 0.0) is None
    # Tables of the Poisson distribution's exact limits: none seen, at most 3.689; three seen, 0.619 to 8.767.
    assert per_day_interval(0, 86_400) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert per_day_interval(3, 86_400) == pytest.approx((0.619, 8.767), abs=1e-3)
    assert per_day_interval(3, 43_200) == pytest.approx((1.237, 17.535), abs=2e-3)
