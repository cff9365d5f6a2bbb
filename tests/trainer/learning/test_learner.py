"""When a machine learns, from what, and what becomes of what it learnt: driven by a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.models import tiny_metadata
from tests.trainer.learning.stories import HOUR_US, MACHINE, NOW_US, alert, score, verdict
from trainer.learning.learner import Learner, LearntVersion, MachineModels
from trainer.learning.learning_rule import LearningRule
from trainer.learning.spans import Span

RULE = LearningRule(learn_h=24, learn_frames=40, mature_h=96, retrain_h=240)
INCIDENT_B = "b" * 32


def at(hours: float) -> int:
    return NOW_US + round(hours * HOUR_US)


def version(number: int, from_h: float, until_h: float, *, since_h: float | None = None) -> LearntVersion:
    return LearntVersion(
        number=number,
        metadata=tiny_metadata(version=str(number)),
        from_us=at(until_h if since_h is None else since_h),
        baseline=Span(at(from_h), at(until_h)),
    )


def hear(
    learner: Learner, from_h: float, until_h: float, value: float = 0.5, *, of: str = "1", shadow: bool = False
) -> None:
    for half_hours in range(round(2 * from_h), round(2 * until_h)):
        learner.hear(score(half_hours / 2, value, version=of, learning=of == "learning"))


@pytest.fixture
def learner() -> Learner:
    """One whose champion was learnt from the first day."""
    made = Learner(MACHINE, rule=RULE)
    hear(made, 0, 24, of="learning")
    made.registry = MachineModels(champion=version(1, 0, 24))
    return made


def test_a_new_machine_is_learnt_once_it_was_heard_for_long_enough_and_often_enough() -> None:
    learner = Learner(MACHINE, rule=RULE)
    assert learner.job(at(100)) is None
    hear(learner, 0, 12, of="learning")
    assert learner.job(at(12)) is None  # not for long enough
    assert learner.job(at(30)) is None  # not often enough
    hear(learner, 12, 24, of="learning")
    job = learner.job(at(24))
    assert job is not None
    assert (job.cause, job.direct, job.span) == ("new_machine", True, Span(at(0), at(24)))
    assert job.why == "heard for 1 d"


def test_minutes_are_told_as_such() -> None:
    learner = Learner(MACHINE, rule=replace(RULE, learn_h=0.05, learn_frames=2))
    hear(learner, 0, 1, of="learning")
    job = learner.job(at(0.55))
    assert job is not None
    assert job.why == "heard for 33 min"


def test_one_that_keeps_showing_new_states_is_heard_for_longer_and_then_learnt_all_the_same() -> None:
    learner = Learner(MACHINE, rule=RULE)
    hear(learner, 0, 72, of="learning")
    assert learner.job(at(71), share_of_new=0.3) is None
    job = learner.job(at(72), share_of_new=0.3)
    assert job is not None
    assert "new states" in job.why


def test_a_start_that_hears_the_last_days_alone_goes_on_with_the_baseline_that_there_is() -> None:
    learner = Learner(MACHINE, rule=RULE)
    learner.registry = MachineModels(champion=replace(version(1, 0, 200), job_id="a" * 32))
    hear(learner, 300, 440)
    job = learner.job(at(440))
    assert job is not None
    assert (job.cause, job.span) == ("schedule", Span(at(0), at(440)))


def test_a_job_is_the_same_until_it_is_done_and_then_no_more(learner: Learner) -> None:
    hear(learner, 24, 48)
    first, again = learner.job(at(48)), learner.job(at(50))
    assert first is not None
    assert again is not None
    assert (first.cause, first.job_id) == ("maturing", again.job_id)
    learner.registry = replace(learner.registry, done=frozenset({first.job_id}))
    assert learner.job(at(50)) is None


def test_nothing_is_decided_of_a_machine_whose_models_cannot_be_read(learner: Learner) -> None:
    hear(learner, 24, 48)
    assert learner.job(at(48)) is not None
    learner.registry = MachineModels(unreadable="the file is gone")
    assert learner.job(at(500)) is None
    assert learner.change(at(500)) is None


def test_a_baseline_is_learnt_anew_whenever_it_has_doubled_and_then_by_the_calendar(learner: Learner) -> None:
    assert learner.job(at(47)) is None
    learner.registry = MachineModels(champion=version(2, 0, 96))
    assert learner.job(at(200)) is None
    job = learner.job(at(336))
    assert job is not None
    assert job.cause == "schedule"


def test_while_an_incident_lasts_there_is_nothing_new_to_learn(learner: Learner) -> None:
    learner.alert(alert("opened", 30))
    assert learner.job(at(48)) is None
    learner.alert(alert("closed", 33))
    assert learner.job(at(48)) is not None


def test_frames_near_an_unanswered_incident_are_left_out_of_a_training(learner: Learner) -> None:
    learner.alert(alert("opened", 30))
    learner.alert(alert("closed", 33))
    job = learner.job(at(48))
    assert job is not None
    assert [(one.span, one.why) for one in job.left_out] == [(Span(at(28), at(35)), "incident")]
    learner.say(verdict("false_alarm", 40))
    job = learner.job(at(48))
    assert job is not None
    assert (job.cause, job.left_out) == ("false_alarm", ())


def test_a_false_alarm_is_learnt_after_others_had_time_to_be_told(learner: Learner) -> None:
    learner.registry = MachineModels(champion=version(1, 0, 120))
    learner.say(verdict("false_alarm", 130))
    assert learner.job(at(130.5)) is None
    job = learner.job(at(131))
    assert job is not None
    assert job.cause == "false_alarm"


def test_a_fault_that_was_learnt_is_unlearnt_before_anything_else(learner: Learner) -> None:
    learner.alert(alert("opened", 5))
    learner.alert(alert("closed", 8))
    learner.say(verdict("confirmed", 40))
    job = learner.job(at(200))
    assert job is not None
    assert (job.cause, job.urgency) == ("fault_learnt", 0)
    assert job.faults == (Span(at(5), at(8)),)
    left_out = (job.left_out[0].span,)
    learner.registry = MachineModels(champion=replace(version(2, 0, 200), left_out=left_out))
    assert learner.job(at(201)) is None


@pytest.mark.parametrize("word", ["repaired", "new_normal"])
def test_a_new_baseline_has_a_learning_time_of_its_own(learner: Learner, word: str) -> None:
    learner.alert(alert("opened", 50))
    learner.say(verdict(word, 60, since_h=58))
    hear(learner, 58, 80, of="learning")
    assert learner.job(at(80)) is None  # not even what the old one would want
    hear(learner, 80, 83, of="learning")
    job = learner.job(at(83))
    assert job is not None
    assert (job.cause, job.span.from_us, job.direct, job.anchored) == (word, at(58), True, False)
    learner.registry = MachineModels(champion=version(2, 58, 83))
    assert learner.job(at(84)) is None


def test_days_that_drift_ask_for_a_training_but_incidents_are_no_drift(learner: Learner) -> None:
    learner.registry = MachineModels(champion=version(1, 0, 100))
    calm = [0.5 + 0.01 * (day % 3) for day in range(14)]
    for day, value in enumerate([*calm, 0.8, 0.8, 0.8, 0.8]):
        hear(learner, 24 * day, 24 * (day + 1), value)
    job = learner.job(at(24 * 18))
    assert job is not None
    assert job.cause == "drift"
    learner.alert(alert("changed", 24 * 14, since_h=24 * 14))
    quiet = Learner(MACHINE, rule=RULE, registry=learner.registry)
    quiet.alert(alert("changed", 24 * 14, since_h=24 * 14))
    for day, value in enumerate([*calm, 0.8, 0.8, 0.8, 0.8]):
        hear(quiet, 24 * day, 24 * (day + 1), value)
    assert quiet.drifts() == []


def _in_shadow(learner: Learner, **loud: float) -> None:
    """Champion 1 and challenger 2 hear the hours 48 to 76; ``loud`` are scores of theirs from 60 to 66."""
    learner.registry = MachineModels(champion=version(1, 0, 24), challenger=version(2, 0, 48))
    for half_hours in range(96, 152):
        hours = half_hours / 2
        is_loud = 60 <= hours < 66
        learner.hear(score(hours, loud.get("champion", 0.5) if is_loud else 0.5, version="1"))
        learner.hear(score(hours, loud.get("challenger", 0.5) if is_loud else 0.5, version="2", shadow=True))


def test_a_challenger_takes_over_after_its_time_in_shadow_and_no_other_is_trained_meanwhile(learner: Learner) -> None:
    _in_shadow(learner)
    assert learner.job(at(76)) is None
    assert learner.change(at(71)) is None
    change = learner.change(at(76))
    assert change is not None
    assert (change.what, change.version) == ("promote", 2)
    by_hand = replace(learner.rule, promote=False)
    learner.rule = by_hand
    assert learner.change(at(76)) is None


def test_a_deaf_challenger_is_dropped_when_its_time_is_over(learner: Learner) -> None:
    learner.alert(alert("opened", 61))
    _in_shadow(learner, champion=1.5)
    assert learner.change(at(76)) is None
    change = learner.change(at(48 + RULE.shadow_most_h))
    assert change is not None
    assert change.what == "drop"
    assert "unanswered" in change.why


def test_a_challenger_of_which_little_was_heard_waits_and_is_dropped(learner: Learner) -> None:
    learner.registry = MachineModels(champion=version(1, 0, 24), challenger=version(2, 0, 48))
    assert learner.change(at(100)) is None
    change = learner.change(at(48 + RULE.shadow_most_h))
    assert change is not None
    assert (change.what, change.why) == ("drop", "too few frames were heard")


@pytest.mark.parametrize("word", ["repaired", "new_normal"])
def test_a_challenger_is_dropped_when_the_machine_begins_anew_and_holds_its_learning_up_no_longer(
    learner: Learner, word: str
) -> None:
    learner.alert(alert("opened", 50))
    learner.registry = MachineModels(champion=version(1, 0, 24), challenger=version(2, 0, 48))
    assert learner.change(at(60)) is None
    learner.say(verdict(word, 60, since_h=58))
    change = learner.change(at(60))
    assert change is not None
    assert (change.what, change.version) == ("drop", 2)
    learner.registry = MachineModels(champion=version(1, 0, 24))
    hear(learner, 58, 84, of="learning")
    job = learner.job(at(84))
    assert job is not None
    assert (job.cause, job.direct) == (word, True)
    learner.registry = MachineModels(champion=version(1, 0, 24), challenger=version(3, 58, 84))
    assert learner.change(at(85)) is None  # of the new baseline


def test_what_was_trained_is_heard_in_shadow_or_takes_over_where_nothing_serves(learner: Learner) -> None:
    learner.registry = MachineModels(champion=version(1, 0, 24), waiting=version(2, 0, 48))
    hear(learner, 24, 48)
    assert learner.job(at(48)) is None
    change = learner.change(at(48))
    assert change is not None
    assert (change.what, change.version) == ("challenge", 2)
    learner.registry = MachineModels(waiting=replace(version(1, 0, 24), direct=True))
    change = learner.change(at(48))
    assert change is not None
    assert (change.what, change.version) == ("promote", 1)


def _on_probation(learner: Learner, champion: float, before: float) -> None:
    """Champion 2 took over from 1 at 72; alarms come and go from 80 on."""
    learner.registry = MachineModels(champion=version(2, 0, 48, since_h=72), before=version(1, 0, 24))
    for half_hours in range(144, 220):
        hours = half_hours / 2
        loud = hours >= 80 and half_hours % 12 < 4
        learner.hear(score(hours, champion if loud else 0.5, version="2"))
        learner.hear(score(hours, before if loud else 0.5, version="1", shadow=True))


def test_a_new_champion_that_cries_wolf_is_rolled_back(learner: Learner) -> None:
    _on_probation(learner, champion=1.5, before=0.5)
    change = learner.change(at(110))
    assert change is not None
    assert (change.what, change.version) == ("roll_back", 2)


def test_one_whose_alarms_the_one_before_shares_is_not(learner: Learner) -> None:
    _on_probation(learner, champion=1.5, before=1.5)
    assert learner.change(at(110)) is None


def test_one_whose_alarms_were_a_confirmed_fault_is_not(learner: Learner) -> None:
    learner.alert(alert("opened", 80))
    learner.say(verdict("confirmed", 100))
    _on_probation(learner, champion=1.5, before=0.5)
    assert learner.change(at(110)) is None


def test_one_that_was_rolled_back_does_not_come_again_by_itself(learner: Learner) -> None:
    _in_shadow(learner)
    learner.registry = replace(learner.registry, refused=frozenset({2}))
    assert learner.change(at(76)) is None


def test_what_was_heard_twice_or_late_changes_nothing_but_counts() -> None:
    learner = Learner(MACHINE, rule=RULE)
    learner.hear(replace(score(1), status="late"))
    assert learner.first_us is None


def test_when_its_probation_is_over_the_one_before_scores_no_more(learner: Learner) -> None:
    learner.registry = MachineModels(champion=version(2, 0, 48, since_h=72), before=version(1, 0, 24))
    assert learner.change(at(72 + RULE.probation_h - 1)) is None
    change = learner.change(at(72 + RULE.probation_h))
    assert change is not None
    assert (change.what, change.version) == ("drop", 1)


def test_the_first_mature_champion_is_the_anchor_and_stays_it(learner: Learner) -> None:
    learner.registry = MachineModels(champion=version(2, 0, 95))
    assert learner.change(at(100)) is None
    mature = version(3, 0, 96)
    learner.registry = MachineModels(champion=mature)
    change = learner.change(at(100))
    assert change is not None
    assert (change.what, change.version) == ("anchor", 3)
    learner.registry = MachineModels(champion=version(4, 0, 300), anchor=mature)
    assert learner.change(at(301)) is None


def test_a_training_learns_from_the_days_that_the_champion_scored_but_for_what_nobody_has_called_normal(
    learner: Learner,
) -> None:
    learner.registry = MachineModels(champion=version(1, 0, 24, since_h=24))
    hear(learner, 24, 96)
    learner.alert(alert("opened", 50))
    learner.alert(alert("closed", 51))
    job = learner.job(at(96))
    assert job is not None
    frames = sum(one.frames for one in job.live)
    assert len(job.live) >= 3
    learner.say(verdict("false_alarm", 60))
    again = learner.job(at(97))
    assert again is not None
    assert sum(one.frames for one in again.live) > frames


def test_a_false_alarm_takes_learning_at_a_machine_that_has_left_its_anchor_as_far_as_the_alarms_end(
    learner: Learner,
) -> None:
    hear(learner, 24, 96)
    plain = learner.job(at(96))
    assert plain is not None
    assert plain.learnt_until_us(at(40)) == at(40)
    assert plain.learnt_until_us(None) is None
    learner.alert(alert("opened", 50))
    learner.alert(alert("closed", 51))
    learner.say(verdict("false_alarm", 60))
    job = learner.job(at(96))
    assert job is not None
    assert job.learnt_until_us(at(40)) == at(51)
    assert job.learnt_until_us(at(70)) == at(70)
    day = job.live[0].day
    assert [one.day for one in job.live_until((day + 2) * 24 * HOUR_US)] == [day, day + 1]
    assert job.live_until(None) == job.live_until(job.span.until_us) == list(job.live)  # the day of the alarm, too
    assert job.live[-1].day == at(96) // (24 * HOUR_US)


@pytest.mark.parametrize(("covered", "what"), [((0.5, 0.9), "drop"), ((0.8, 0.9), None), (None, None)])
def test_a_challenger_that_finds_less_of_the_confirmed_faults_than_the_champion_is_dropped_at_once(
    learner: Learner, covered: tuple[float, float] | None, what: str | None
) -> None:
    challenger = replace(version(2, 0, 48), faults_covered=covered)
    learner.registry = replace(learner.registry, challenger=challenger)
    decision = learner.change(at(49))
    assert (None if decision is None else decision.what) == what
    if decision is not None:
        assert "50%" in decision.why
        assert "90%" in decision.why


def test_a_new_normal_from_before_the_machine_was_heard_is_no_time_that_it_was_heard() -> None:
    learner = Learner(MACHINE, rule=RULE)
    hear(learner, 0, 22, of="learning")
    learner.alert(alert("opened", 5))
    learner.say(verdict("new_normal", 21, since_h=-8760))
    assert learner.job(at(22)) is None
    hear(learner, 22, 25, of="learning")
    job = learner.job(at(25))
    assert job is not None
    assert job.span.from_us == at(0)
