"""What is kept of live scores: hours in units that later models have, and days without what may not be learnt."""

from __future__ import annotations

import pytest

from schemas import EarlyTest, Thresholds
from trainer.learning.learning_rule import HOUR_US
from trainer.learning.live_scores import LiveScores
from trainer.learning.spans import Span
from trainer.live_days import MOST_DAYS, LiveDay

DAY = 20_000
START_US = DAY * 24 * HOUR_US
EARLY = EarlyTest(
    centre=2.0,
    scale=1.0,
    most=4.0,
    reference=1.3,
    threshold=20.0,
    false_findings_per_30_days=1.0,
    normals=400,
    correlation=0.2,
    effective_normals=250.0,
)
MODEL = Thresholds(decision_threshold=2.0, alert_threshold=6.0, normals=400, early=EARLY)


def hear(live: LiveScores, from_h: float, scores: list[float], source: str | None = None, every_h: float = 0.5) -> None:
    for number, score in enumerate(scores):
        live.add(START_US + round((from_h + number * every_h) * HOUR_US), source, score, MODEL)


def test_a_day_is_the_score_that_k_of_n_reached_in_decision_thresholds_and_the_bounded_mean() -> None:
    live = LiveScores(3, 5)
    hear(live, 0, [2.0, 8.0, 2.0, 8.0, 2.0, 4.0, 2.0, 2.0])
    assert live.days(START_US, []) == (LiveDay(day=DAY, frames=8, opening=2.0, mean=(2 * 4.0 + 2.0) / 8),)


def test_two_sensors_are_two_streams_of_frames() -> None:
    live = LiveScores(2, 2)
    for number in range(6):
        live.add(START_US + number * 60_000_000, ("a", "b")[number % 2], (9.0, 1.0)[number % 2], MODEL)
    mixed = LiveScores(2, 2)
    hear(mixed, 0, [9.0, 1.0] * 3, every_h=1 / 60)
    assert [one.days(START_US, [])[0].opening for one in (live, mixed)] == [4.5, 0.5]


def test_hours_that_may_not_be_learnt_are_left_out_and_count_again_once_they_may() -> None:
    live = LiveScores(1, 1)
    hear(live, 0, [2.0] * 20 + [20.0] * 2 + [2.0] * 20)
    disputed = Span(START_US + 10 * HOUR_US, START_US + 11 * HOUR_US)
    assert [one.opening for one in live.days(START_US, [disputed])] == [1.0]
    assert [one.frames for one in live.days(START_US, [disputed])] == [40]
    assert [one.opening for one in live.days(START_US, [])] == [10.0]


def test_what_came_before_a_baseline_and_days_of_few_frames_tell_nothing() -> None:
    live = LiveScores(1, 1)
    hear(live, 0, [2.0] * 48)
    hear(live, 24, [2.0] * 4)
    assert [one.day for one in live.days(START_US, [])] == [DAY]
    assert live.days(START_US + 22 * HOUR_US, []) == ()


@pytest.mark.parametrize("every_h", [0.5, 0.05])
def test_it_takes_the_same_space_after_a_year(every_h: float) -> None:
    live = LiveScores(3, 5)
    for day in range(3 * MOST_DAYS):
        hear(live, 24 * day, [2.0] * round(24 / every_h), every_h=every_h)
    assert len(live.days(START_US, [])) == MOST_DAYS
    assert len(live._hours) == 24 * MOST_DAYS
