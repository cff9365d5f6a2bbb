"""A drift is told once, whatever restarts; it is over when it was answered, learnt, or is gone, and not before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas import Alert
from schemas.verdict import Verdict
from tests.models import tiny_metadata
from tests.trainer.learning.stories import HOUR_US, MACHINE, NOW_US, alert, score, time, verdict
from trainer.learning.drift import Drift
from trainer.learning.learner import Learner, LearntVersion, MachineModels
from trainer.learning.learning_rule import LearningRule
from trainer.learning.spans import Span

RULE = LearningRule(learn_h=24, learn_frames=40, mature_h=96, retrain_h=2400)
DAY_H = 24
FOUND = 20  # day on which it is looked for
SINCE_H = 15 * DAY_H
MOVED = Drift("rms_mean", NOW_US + SINCE_H * HOUR_US, 4.0, 0.5, 1e-6)


def at(days: float) -> int:
    return NOW_US + round(days * DAY_H * HOUR_US)


def version(number: int, until_day: float, *left_out: Span) -> LearntVersion:
    metadata = tiny_metadata(version=str(number))
    return LearntVersion(
        number=number, metadata=metadata, from_us=at(until_day), baseline=Span(at(0), at(until_day)), left_out=left_out
    )


class Machine:
    """A learner and the topic of alerts that it tells on; :meth:`restart` keeps that topic and what was said."""

    def __init__(self) -> None:
        self.topic: list[Alert] = []
        self.verdicts: list[Verdict] = []
        self.models = MachineModels(champion=version(1, 4))
        self.restart()

    def restart(self) -> None:
        self.learner = Learner(MACHINE, rule=RULE, registry=self.models)
        for said in self.verdicts:
            self.learner.say(said)
        for told in self.topic:
            self.learner.alert(told)

    def serve(self, models: MachineModels) -> None:
        self.models = self.learner.registry = models

    def say(self, word: str, day: float, *, since_day: float | None = None, incident: str = "") -> None:
        named = incident or self.topic[-1].incident_id
        since_h = None if since_day is None else since_day * DAY_H
        said = replace(
            verdict(word, day * DAY_H, since_h=since_h, incident=named), kind="drift", began_at=time(SINCE_H)
        )
        self.verdicts.append(said)
        self.learner.say(said)

    def look(self, day: float, *found: Drift) -> list[Alert]:
        """What is told when a day's test found this of the statistics; Kafka takes it."""
        self.learner.last_us = max(self.learner.last_us or 0, at(day) - HOUR_US)
        self.learner.look(at(day), found)
        return self.tell(day)

    def tell(self, day: float) -> list[Alert]:
        told = self.learner.untold(at(day))
        assert [one.alert_id for one in told] == [one.alert_id for one in self.learner.untold(at(day))]
        for one in told:
            self.topic.append(one)
            self.learner.alert(one)
        assert self.learner.untold(at(day)) == []
        return told

    @property
    def states(self) -> list[tuple[str, str | None]]:
        return [(one.state, one.reason) for one in self.topic]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def drifting(machine: Machine) -> Machine:
    machine.look(FOUND, MOVED)
    assert machine.states == [("changed", None)]
    return machine


# Told


def test_a_drift_is_told_as_an_incident_of_the_machine(machine: Machine) -> None:
    (told,) = machine.look(FOUND, MOVED, Drift("zcr_mean", at(17), -3.0, -1.0, 1e-9))
    assert (told.kind, told.state, told.severity, told.level) == ("drift", "changed", "early", "early")
    assert (told.incident_id, told.source, told.frame, told.score) == (told.alert_id, None, None, None)
    assert [one.name for one in told.drift] == ["zcr_mean", "rms_mean"]  # the most certain first
    moved = told.drift[1]
    assert (moved.since, moved.deviations, moved.per_day) == (time(SINCE_H), 4.0, 0.5)
    assert told.model.version == "1"
    assert told.recorded_at == time(FOUND * DAY_H - 1)


def test_it_is_told_once_whatever_restarts(drifting: Machine) -> None:
    for day in range(FOUND, FOUND + 6):
        for _ in range(2):
            assert drifting.look(day, MOVED) == []
            drifting.restart()


def test_what_kafka_did_not_take_is_told_again_by_the_same_id(machine: Machine) -> None:
    machine.learner.last_us = at(FOUND)
    ids = set()
    for hours in (0, 1, 23):
        machine.learner.look(at(FOUND) + hours * HOUR_US - 12 * HOUR_US, [MOVED])
        (told,) = machine.learner.untold(at(FOUND) + hours * HOUR_US - 12 * HOUR_US)
        ids.add(told.alert_id)
        machine.restart()
    assert len(ids) == 1


def test_one_that_the_test_is_less_sure_of_is_not_told(machine: Machine) -> None:
    assert machine.look(FOUND, replace(MOVED, p=0.01)) == []


def test_one_of_a_machine_whose_models_cannot_be_read_waits(machine: Machine) -> None:
    machine.serve(MachineModels(unreadable="the file is gone"))
    assert machine.look(FOUND, MOVED) == []


def test_one_that_does_not_say_what_has_moved_is_passed_over(drifting: Machine) -> None:
    (told,) = drifting.topic
    drifting.learner.alert(replace(told, incident_id="c" * 32, drift=()))
    for day in range(FOUND + 1, FOUND + 10):
        drifting.look(day)
    assert drifting.states[-1] == ("settled", None)


def test_an_open_early_finding_or_alarm_says_it_already(machine: Machine) -> None:
    machine.learner.alert(alert("changed", 19 * DAY_H))
    assert machine.look(FOUND, MOVED) == []
    machine.learner.alert(alert("settled", 20.5 * DAY_H))
    assert len(machine.look(FOUND + 1, MOVED)) == 1


def test_a_drift_of_the_score_is_found_in_what_is_heard(machine: Machine) -> None:
    rng = np.random.default_rng(2)
    machine.learner.first_us = at(0)
    for day in range(4, 21):
        level = 0.5 + 0.02 * rng.normal() + (0.3 if day >= 15 else 0.0)
        for hour in range(0, 24, 4):
            machine.learner.hear(score(day * DAY_H + hour - 12, level))
    (told,) = machine.look(20)
    (moved,) = told.drift
    assert moved.name == "score"
    assert moved.deviations > 4
    assert time(13 * DAY_H) <= moved.since <= time(15 * DAY_H)


# Asked about


def test_it_is_reminded_of_each_week_with_what_was_found_last_until_somebody_says_something(drifting: Machine) -> None:
    further = replace(MOVED, deviations=6.0, since_us=MOVED.since_us + HOUR_US)
    for day in range(FOUND + 1, FOUND + 15):
        drifting.look(day, further)
        drifting.restart()
    assert drifting.states == [("changed", None), ("reminded", None), ("reminded", None)]
    last = drifting.topic[-1]
    assert len({one.alert_id for one in drifting.topic}) == 3
    assert (last.incident_id, last.level) == (drifting.topic[0].alert_id, "early")
    assert (last.drift[0].deviations, last.drift[0].since) == (6.0, time(SINCE_H))
    drifting.say("seen", FOUND + 15)
    for day in range(FOUND + 15, FOUND + 30):
        assert drifting.look(day, further) == []


# Over


@pytest.mark.parametrize("word", ["false_alarm", "new_normal", "repaired"])
def test_an_answer_settles_it(drifting: Machine, word: str) -> None:
    since = {"new_normal": SINCE_H / DAY_H, "repaired": FOUND + 0.3}.get(word)
    drifting.say(word, FOUND + 0.5, since_day=since)
    (over,) = drifting.tell(FOUND + 0.5)  # at once, not at the next day's look
    assert (over.state, over.reason, over.level) == ("settled", word, None)
    assert over.incident_id == drifting.topic[0].alert_id
    drifting.restart()
    assert drifting.tell(FOUND + 0.6) == []


@pytest.mark.parametrize("word", ["new_normal", "repaired"])
def test_while_the_machine_is_learnt_anew_what_moved_before_is_not_told_again(drifting: Machine, word: str) -> None:
    drifting.say(word, FOUND + 0.5, since_day=FOUND + 0.4)
    drifting.tell(FOUND + 0.5)
    for day in range(FOUND + 1, FOUND + 4):  # the days before are all that is known of the old model
        assert drifting.look(day, MOVED) == []
    anew = LearntVersion(
        number=2,
        metadata=tiny_metadata(version="2"),
        from_us=at(FOUND + 4),
        baseline=Span(at(FOUND + 0.4), at(FOUND + 4)),
        direct=True,
    )
    drifting.serve(MachineModels(champion=anew))
    later = replace(MOVED, since_us=at(FOUND + 10))
    assert [one.state for one in drifting.look(FOUND + 12, later)] == ["changed"]


def test_an_answer_that_comes_while_nobody_runs_settles_it_at_the_next_start(drifting: Machine) -> None:
    drifting.say("false_alarm", FOUND + 0.5)
    drifting.restart()
    assert [one.reason for one in drifting.tell(FOUND + 3)] == ["false_alarm"]


def test_what_was_called_no_drift_is_told_again_only_when_it_goes_on_or_another_model_serves(drifting: Machine) -> None:
    drifting.say("false_alarm", FOUND + 0.5)
    drifting.tell(FOUND + 0.5)
    for day in range(FOUND + 1, FOUND + 5):
        assert drifting.look(day, MOVED) == []
        drifting.restart()
    (told,) = drifting.look(FOUND + 5, replace(MOVED, deviations=6.1))
    assert told.state == "changed"
    drifting.say("false_alarm", FOUND + 5.5)
    drifting.tell(FOUND + 5.5)
    drifting.serve(MachineModels(champion=version(2, 6)))
    assert [one.state for one in drifting.look(FOUND + 6, MOVED)] == ["changed"]


def test_one_that_was_answered_wrongly_is_told_again_the_next_day(drifting: Machine) -> None:
    drifting.say("false_alarm", FOUND + 0.1)
    drifting.tell(FOUND + 0.1)
    drifting.say("withdrawn", FOUND + 0.2, incident=drifting.topic[0].incident_id)
    assert drifting.look(FOUND + 0.3, MOVED) == []  # its id would be the same
    (told,) = drifting.look(FOUND + 1, MOVED)
    assert told.incident_id != drifting.topic[0].incident_id


def test_a_baseline_that_another_verdict_begins_settles_it(drifting: Machine) -> None:
    drifting.learner.alert(alert("opened", 21 * DAY_H, incident="b" * 32))
    drifting.learner.say(verdict("repaired", 22 * DAY_H, since_h=22 * DAY_H, incident="b" * 32))
    (over,) = drifting.tell(22.5)
    assert (over.state, over.reason) == ("settled", "repaired")


def test_a_model_that_has_learnt_it_settles_it_and_one_that_has_left_it_out_does_not(drifting: Machine) -> None:
    drifting.serve(MachineModels(champion=version(2, 16)))  # as far as the anchor goes
    for day in range(FOUND + 1, FOUND + 6):
        assert drifting.look(day) == []  # its days are all of the drift, and don't differ
    drifting.serve(MachineModels(champion=version(3, FOUND + 7, Span(at(14), at(FOUND + 7)))))
    assert drifting.look(FOUND + 6) == []
    drifting.serve(MachineModels(champion=version(4, FOUND + 7)))
    (over,) = drifting.tell(FOUND + 7)
    assert (over.state, over.reason) == ("settled", "learnt")


def test_one_that_is_not_found_for_three_days_is_gone(drifting: Machine) -> None:
    weak = replace(MOVED, p=0.01)  # would not be told, but lasts
    assert drifting.look(FOUND + 1, weak) == []
    for day in (2, 3):
        assert drifting.look(FOUND + day) == []
    (over,) = drifting.look(FOUND + 4)
    assert (over.state, over.reason, over.level) == ("settled", None, None)


def test_after_a_restart_it_is_gone_only_if_days_before_it_are_known(machine: Machine) -> None:
    of_score = Drift("score", MOVED.since_us, 4.0, 0.5, 1e-6)
    machine.look(FOUND, of_score)
    machine.restart()
    for day in range(16, 30):
        for hour in range(0, 24, 4):
            machine.learner.hear(score(day * DAY_H + hour - 12, 0.9))
    # All days heard are of the drift; they tell nothing of what was before.
    assert [one.state for day in range(30, 36) for one in machine.look(day)] == ["reminded"]
    machine.restart()
    for day in range(10, 36):
        for hour in range(0, 24, 4):
            machine.learner.hear(score(day * DAY_H + hour - 12, 0.5))
    assert [one.state for one in machine.look(36)] == ["settled"]


# What is learnt


def _left_out(machine: Machine, day: float) -> list[tuple[Span, str]]:
    return [(one.span, one.why) for one in machine.learner.incidents.unlearnable(2 * HOUR_US)]


def test_a_drift_that_nobody_answers_keeps_nothing_from_being_learnt(drifting: Machine) -> None:
    assert _left_out(drifting, FOUND) == []
    drifting.say("seen", FOUND + 1)
    assert _left_out(drifting, FOUND) == []


def test_one_that_is_a_fault_is_never_learnt_from_its_beginning_on_and_lasts_until_it_is_repaired(
    drifting: Machine,
) -> None:
    begun_us = at(15) - 2 * HOUR_US
    drifting.say("confirmed", FOUND + 1)
    assert _left_out(drifting, FOUND) == [(Span(begun_us, None), "fault")]
    drifting.restart()
    for day in range(FOUND + 1, FOUND + 12):  # it is not found any more, since its days are not looked at
        assert drifting.look(day) == []
    drifting.serve(MachineModels(champion=version(2, FOUND + 11)))
    assert drifting.look(FOUND + 12) == []
    drifting.say("repaired", FOUND + 13, since_day=FOUND + 12.5)
    assert [one.reason for one in drifting.tell(FOUND + 13)] == ["repaired"]
    assert _left_out(drifting, FOUND) == [(Span(begun_us, at(FOUND + 12.5)), "before_repair")]
    assert drifting.learner.begins_us() == at(FOUND + 12.5)


def test_a_model_that_had_learnt_what_was_confirmed_is_trained_anew(drifting: Machine) -> None:
    drifting.learner.first_us, drifting.learner.last_us = at(0), at(FOUND + 2)
    drifting.serve(MachineModels(champion=version(2, FOUND + 1)))
    drifting.say("confirmed", FOUND + 2)
    job = drifting.learner.job(at(FOUND + 2))
    assert job is not None
    assert job.cause == "fault_learnt"
    assert [one.span.from_us for one in job.left_out] == [at(15) - 2 * HOUR_US]


def test_what_was_called_no_drift_is_learnt_until_there_but_for_its_incidents(drifting: Machine) -> None:
    learner = drifting.learner
    learner.first_us = at(0)
    learner.alert(alert("opened", 18 * DAY_H, incident="b" * 32))
    learner.alert(alert("closed", 18 * DAY_H + 1, incident="b" * 32))
    drifting.say("false_alarm", FOUND + 0.5)
    drifting.tell(FOUND + 0.5)
    learner.last_us = at(FOUND + 1)
    job = learner.job(at(FOUND + 1))
    assert job is not None
    assert (job.cause, job.accepted_us) == ("false_alarm", at(FOUND) - HOUR_US)  # when the machine was last heard
    assert [one.why for one in job.left_out] == ["incident"]


def test_new_normal_of_a_drift_begins_a_baseline_where_it_began(drifting: Machine) -> None:
    drifting.learner.first_us, drifting.learner.last_us = at(0), at(FOUND + 2)
    for half_hours in range(48 * (FOUND + 2)):
        drifting.learner.heard(NOW_US + half_hours * HOUR_US // 2)
    drifting.say("new_normal", FOUND + 1, since_day=SINCE_H / DAY_H)
    job = drifting.learner.job(at(FOUND + 2))
    assert job is not None
    assert (job.cause, job.span) == ("new_normal", Span(at(15), at(FOUND + 2)))
    assert job.span.from_us == MOVED.since_us
