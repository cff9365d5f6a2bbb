"""The season's parts: what happens to a machine, who answers, and how it is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.season.outcome import outcome
from benchmarks.season.person import DAY_US, Person
from benchmarks.season.stories import Fault, Story, stories
from benchmarks.season.world import START_US, Told
from schemas import Alert
from schemas.times import format_rfc3339, parse_rfc3339
from tests.trainer.learning.stories import alert

PLANT = {story.machine_id: story for story in stories()}
MOTOR = PLANT["motor-1"]  # a bearing from 22.3 on, repaired at 25.4


def at(state: str, day: float, *, incident: str = "a" * 32, level: str | None = None) -> Alert:
    made = alert(state, 0, level=level, incident=incident)
    return replace(made, machine_id="motor-1", recorded_at=format_rfc3339(START_US + round(day * DAY_US)))


def told(*alerts: Alert) -> dict[str, Told]:
    return {"motor-1": Told(alerts=list(alerts))}


def test_the_plant_has_twelve_machines_and_all_that_can_happen_to_them() -> None:
    assert len(PLANT) >= 12
    assert {fault.kind for story in PLANT.values() for fault in story.faults} == {"sudden", "wear"}
    assert {event.what for story in PLANT.values() for event in story.events} >= {
        "tool change",
        "sensor moved",
        "new product",
        "overhauled",
    }
    assert any(story.weekends_off for story in PLANT.values())
    assert any(story.gain_db_per_day for story in PLANT.values())
    assert any(story.products for story in PLANT.values())
    assert any(story.installed_day for story in PLANT.values())


def test_a_fault_grows_and_ends_with_its_repair() -> None:
    fault = Fault(what="outer_race", from_day=10, grown_days=2, repaired_day=15, strength_db=0, first=0.01)
    assert [round(fault.severity(day), 4) for day in (9.9, 10, 11, 12, 14.9, 15)] == [0, 0.01, 0.1, 1, 1, 0]


def test_days_differ_and_nights_and_weekends_too() -> None:
    story = PLANT["pump-1"]
    noon, night, next_noon, saturday = (story.at(day) for day in (1.5, 1.0, 2.5, 5.5))
    assert night.load_mean < noon.load_mean
    assert saturday.load_mean < noon.load_mean
    assert abs(noon.level_dbfs - next_noon.level_dbfs) > 0.01
    assert story.at(30.5).level_dbfs < story.at(19.5).level_dbfs + 1.5  # its sensor loses a dB in ten days
    assert not PLANT["gearbox-1"].runs(5.5)


def _answers(story: Story, seed: int, day: float, until: float) -> list[tuple[str, float]]:
    person = Person(story, START_US, seed)
    person.hear(at("opened", day))
    said = person.answers(START_US + round(until * DAY_US))
    return [(one.verdict, (parse_rfc3339(one.time) - START_US) / DAY_US) for one in said]


def test_a_person_is_late_and_sometimes_silent_and_sometimes_wrong() -> None:
    said = [_answers(MOTOR, seed, 5.0, 20.0) for seed in range(300)]
    answered = [one[0] for one in said if one]
    assert 0.7 < len(answered) / 300 < 0.9
    assert 0.01 < sum(word != "false_alarm" for word, _ in answered) / len(answered) < 0.1
    hours = sorted(24 * (day - 5.0) for _, day in answered)
    assert 3 < hours[len(hours) // 2] < 8


def test_who_confirmed_a_fault_says_when_it_is_repaired() -> None:
    said = next(found for seed in range(50) if (found := _answers(MOTOR, seed, 22.5, 30.0)) and len(found) == 2)
    assert [word for word, _ in said] == ["confirmed", "repaired"]
    assert said[1][1] == pytest.approx(25.4 + 1 / 24)


def test_who_said_that_it_is_repaired_says_no_more_of_it() -> None:
    for seed in range(100):
        person = Person(MOTOR, START_US, seed, wrong=0.0)
        person.hear(at("changed", 25.0))
        person.hear(at("opened", 25.2))
        said = [
            one.verdict
            for hour in range(15 * 24)
            for one in person.answers(START_US + round((25 + hour / 24) * DAY_US))
        ]
        assert "repaired" not in said[:-1]


def test_a_fault_counts_as_found_by_its_first_finding() -> None:
    found = outcome(PLANT, told(at("changed", 22.4), at("opened", 22.6)), 60)
    assert (found.faults, found.found_early, found.found_alarm, found.missed) == (1, 1, 0, 0)
    assert found.median_delay_h is not None
    assert 0 <= found.median_delay_h < 5
    assert outcome(PLANT, told(at("opened", 22.6)), 60).found_alarm == 1
    assert outcome(PLANT, told(), 60).missed == 1


def test_what_nothing_stands_behind_is_false_and_a_change_is_told() -> None:
    found = outcome(PLANT, told(at("opened", 5), at("closed", 5.5), at("changed", 26), at("settled", 27)), 60)
    assert (found.false_alarms, found.false_early, found.changes_told) == (1, 0, 1)  # overhauled at 25.4
    assert found.false_hours == pytest.approx(36, abs=1)


def test_a_season_that_ends_before_a_fault_has_none() -> None:
    assert outcome(PLANT, told(), 20).faults == 0
