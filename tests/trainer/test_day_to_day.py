"""Thresholds for days unlike those that were learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas import Calibration
from stream_app.pipeline.rule import Rule
from tests.trainer.conftest import vibration, write
from trainer import TrainConfig, train_model
from trainer.day_to_day import DAY_US, alert_limit, by_day, sum_inflation
from trainer.early import early_test
from trainer.false_alarms import openings
from trainer.thresholds import Calibrated, calibrate, raised_for_days

A_DAY = 48
CALIBRATION = Calibration(frame_s=1.0, k=3, n=5, false_alerts_per_30_days=1.0, decision_percentile=95.0, every_s=1800.0)


def _days(rng: np.random.Generator, count: int, spread: float) -> list[np.ndarray]:
    """Days of gamma scores whose level differs from day to day by ``spread`` (of the logarithm)."""
    return [rng.gamma(8, 1, A_DAY) * np.exp(rng.normal(0, spread)) for _ in range(count)]


def _threshold(days: list[np.ndarray], *, by_days: bool) -> float:
    """What is learnt from days, of which the last fifth is held out; ``by_days`` knows unseen scores of them all."""
    held_out: dict[str | None, list[np.ndarray]] = {"pump": days[-max(1, len(days) // 5) :]}
    calibrated: Calibrated = calibrate(held_out, CALIBRATION)
    return raised_for_days(calibrated, {"pump": days} if by_days else {}, CALIBRATION).of("pump").alert_threshold


def test_a_month_of_days_that_differ_opens_about_as_many_as_allowed_and_without_it_many() -> None:
    rng = np.random.default_rng(1)
    opened = {True: 0, False: 0}
    trainings = 40
    for _ in range(trainings):
        learnt, month = _days(rng, 10, 0.5), np.concatenate(_days(rng, 30, 0.5))
        for by_days in opened:
            opened[by_days] += openings(month, _threshold(learnt, by_days=by_days), Rule())
    assert opened[True] / trainings < 2.0
    assert opened[False] > 2 * opened[True]


def test_days_that_are_all_alike_ask_for_nothing_more() -> None:
    days = _days(np.random.default_rng(2), 20, 0.0)
    assert _threshold(days, by_days=True) == _threshold(days, by_days=False)
    assert sum_inflation(days) < 3


def test_more_days_that_differ_as_much_leave_less_to_chance() -> None:
    limits = []
    for count in (5, 60):
        days = _days(np.random.default_rng(3), count, 0.3)
        limits.append(alert_limit([float(np.sort(day)[-3]) for day in days], CALIBRATION))
    assert limits[1] < limits[0]


def test_the_test_for_early_findings_knows_how_days_differ() -> None:
    days = _days(np.random.default_rng(4), 30, 0.3)
    run = [np.concatenate(days)]
    without, informed = early_test(run, CALIBRATION), early_test(run, CALIBRATION, days)
    assert not isinstance(without, str)
    assert not isinstance(informed, str)
    assert informed.threshold > 2 * without.threshold
    assert informed.effective_normals < 0.5 * without.effective_normals


def test_few_days_that_differ_give_no_test_and_say_so() -> None:
    days = _days(np.random.default_rng(5), 4, 1.0)
    found = early_test([np.concatenate(days)], CALIBRATION, days)
    assert isinstance(found, str)
    assert "drift" in found


def test_days_are_told_apart_by_when_recordings_began() -> None:
    runs = [np.full(3, float(number)) for number in range(10)]
    names = [str(number) for number in range(10)]
    starts = {name: int(name) * DAY_US // 2 for name in names}
    assert [day.tolist() for day in by_day(runs, names, starts)] == [
        [2.0 * at] * 3 + [2.0 * at + 1] * 3 for at in range(5)
    ]
    assert by_day(runs, names, {name: starts[name] for name in names[1:]}) == []  # one doesn't tell
    assert by_day(runs[:6], names[:6], starts) == []  # three days are too few


@pytest.mark.slow
def test_a_training_knows_the_days_of_its_recordings(tmp_path: Path) -> None:
    for number in range(60):
        level = 1.0 + 0.5 * (number // 10)
        stamp = f"2026010{1 + number // 10}T{number % 10:02d}0000Z"
        write(tmp_path / "dated" / f"{stamp}.wav", level * vibration(1, number))
        write(tmp_path / "undated" / f"{number:03d}.wav", level * vibration(1, number))
    order = TrainConfig(
        normal=tmp_path / "dated",
        out=tmp_path / "m.onnx",
        machine="pump",
        detector="frame_spectrum",
        mlflow=False,
        trim=0.0,
        every_s=1800.0,
    )
    dated = train_model(order).metadata.thresholds
    undated = train_model(replace(order, normal=tmp_path / "undated")).metadata.thresholds
    assert undated.early is not None
    assert dated.early is None or dated.early.threshold > 2 * undated.early.threshold
    assert dated.alert_threshold >= undated.alert_threshold


def test_a_day_of_a_score_of_nothing_does_not_deafen():
    assert alert_limit([0.0, 1.0, 1.0, 1.0], CALIBRATION) == pytest.approx(10.0)
