"""A fleet that learns: what it decides, in which order, and that a crash in between loses and repeats nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from schemas import Band, Score
from schemas.errors import ModelError, ServiceUnavailable
from stream_app.pipeline.rule import Rule
from tests.models import tiny_metadata
from tests.trainer.learning.stories import HOUR_US, NOW_US, alert, score, verdict
from trainer.learning.drift import Drift
from trainer.learning.fleet import Fleet, Trained
from trainer.learning.learner import Decision, Job, LearntVersion, MachineModels
from trainer.learning.learning_rule import LearningRule
from trainer.learning.spans import Span

RULE = LearningRule(learn_h=24, learn_frames=40, retry_h=6)
OWN = ("pump-1", "pump-2")


def at(hours: float) -> int:
    return NOW_US + round(hours * HOUR_US)


class Registry:
    """A registry of versions, with aliases; what is in it survives a crash of the fleet."""

    def __init__(self) -> None:
        self.models: dict[str, MachineModels] = {}
        self.applied: list[Decision] = []
        self.polls = 0
        self.away = False

    def poll(self) -> dict[str, MachineModels]:
        if self.away:
            raise ServiceUnavailable("the registry is away")
        self.polls += 1
        return dict(self.models)

    def apply(self, decision: Decision) -> None:
        models = self.models[decision.machine_id]
        new = models.waiting or models.challenger
        assert new is not None
        if decision.version != new.number:
            raise ModelError("no such version")
        if decision.what == "challenge":
            self.models[decision.machine_id] = replace(models, challenger=new, waiting=None)
        elif decision.what == "promote":
            self.models[decision.machine_id] = replace(models, champion=new, waiting=None, challenger=None)
        self.applied.append(decision)

    def trained(self, job: Job, number: int) -> None:
        """What a training leaves: a version without an alias."""
        before = self.models.get(job.machine_id, MachineModels())
        version = LearntVersion(
            number=number,
            metadata=tiny_metadata(version=str(number)),
            from_us=job.span.until_us or 0,
            baseline=job.span,
            job_id=job.job_id,
            direct=job.direct,
        )
        self.models[job.machine_id] = replace(before, waiting=version, done=before.done | {job.job_id})


class Executor:
    """Takes jobs; the test says when they end."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.ended: list[Trained] = []

    def submit(self, job: Job, models: MachineModels) -> None:
        self.jobs.append(job)

    def finished(self) -> Sequence[Trained]:
        ended, self.ended = self.ended, []
        return ended


class Kept:
    """What is kept: as the test says."""

    def __init__(self) -> None:
        self.new = 0.0
        self.kept: list[tuple[str, Span, str]] = []
        self.drifted: list[Drift] = []
        self.bands: tuple[Band, ...] = ()
        self.compared: list[tuple[int, int]] = []

    def share_of_new(self, machine_id: str, from_us: int) -> float:
        return self.new

    def keep(self, machine_id: str, span: Span, why: str) -> None:
        self.kept.append((machine_id, span, why))

    def drifts(self, machine_id: str, baseline: Span) -> Sequence[Drift]:
        return self.drifted

    def moved_bands(self, machine_id: str, from_us: int, since_us: int) -> tuple[Band, ...]:
        self.compared.append((from_us, since_us))
        return self.bands


class World:
    """A fleet with what is around it."""

    def __init__(self) -> None:
        self.registry, self.executor, self.kept = Registry(), Executor(), Kept()
        self.heard: list[Score] = []
        self.start()

    def start(self) -> None:
        """Start the fleet anew, as after a crash: topics and registry are what they were."""
        self.executor = Executor()
        own = {machine: Rule() for machine in OWN}
        self.fleet = Fleet(RULE, self.registry, self.executor, self.kept, own.get)
        self.fleet.refresh(at(0))
        for one in self.heard:
            self.fleet.hear(one)

    def hear(self, from_h: float, until_h: float, machine: str = "pump-1", version: str = "", shadow: str = "") -> None:
        for half_hours in range(round(2 * from_h), round(2 * until_h)):
            one = replace(score(half_hours / 2, version=version or "-", learning=not version), machine_id=machine)
            told = [one]
            if shadow:
                told.append(replace(score(half_hours / 2, version=shadow, shadow=True), machine_id=machine))
            for each in told:
                self.heard.append(each)
                self.fleet.hear(each)


@pytest.fixture
def world() -> World:
    return World()


def test_a_new_machine_is_trained_and_its_first_model_takes_over(world: World) -> None:
    world.hear(0, 24)
    (job,) = world.fleet.tick(at(24))
    assert isinstance(job, Job)
    assert world.fleet.tick(at(25)) == []  # it runs
    world.registry.trained(job, 1)
    world.executor.ended.append(Trained(job, 1))
    told = world.fleet.tick(at(25))
    assert [type(one) for one in told] == [Trained, Decision]
    assert world.registry.models["pump-1"].champion is not None
    assert world.fleet.tick(at(26)) == []


def test_machines_without_a_model_of_their_own_are_left_alone(world: World) -> None:
    world.hear(0, 48, "fan-1")
    assert world.fleet.tick(at(48)) == []
    assert set(world.fleet.learners) == set()


def test_the_most_urgent_machine_is_first(world: World) -> None:
    world.registry.models["pump-2"] = MachineModels(
        champion=LearntVersion(number=1, metadata=tiny_metadata(), from_us=at(24), baseline=Span(at(0), at(24)))
    )
    world.hear(0, 48, "pump-2", version="1")
    world.hear(0, 48, "pump-1")
    jobs = [one for one in world.fleet.tick(at(48)) if isinstance(one, Job)]
    assert [(one.machine_id, one.cause) for one in jobs] == [("pump-1", "new_machine"), ("pump-2", "maturing")]


@pytest.mark.parametrize("crash", ["while it trains", "after it was registered", "after it challenges"])
def test_a_crash_loses_nothing_and_repeats_nothing(world: World, crash: str) -> None:
    world.registry.models["pump-1"] = MachineModels(
        champion=LearntVersion(number=1, metadata=tiny_metadata(), from_us=at(24), baseline=Span(at(0), at(24)))
    )
    world.hear(0, 48, version="1")
    (job,) = world.fleet.tick(at(48))
    assert isinstance(job, Job)
    if crash == "while it trains":
        world.start()
        (again,) = world.fleet.tick(at(48.1))
        assert isinstance(again, Job)
        assert again.job_id == job.job_id
        return
    world.registry.trained(job, 2)
    if crash == "after it challenges":
        world.executor.ended.append(Trained(job, 2))
        world.fleet.tick(at(48.1))
    world.start()
    world.fleet.tick(at(48.2))
    assert [(one.what, one.version) for one in world.registry.applied] == [("challenge", 2)]
    assert world.executor.jobs == []
    world.hear(48, 73, version="1", shadow="2")
    world.start()  # what both would have alerted is counted anew from the topic
    world.fleet.tick(at(73))
    assert [(one.what, one.version) for one in world.registry.applied] == [("challenge", 2), ("promote", 2)]


def test_a_training_that_failed_is_tried_again_after_a_while(world: World) -> None:
    world.hear(0, 24)
    (job,) = world.fleet.tick(at(24))
    assert isinstance(job, Job)
    world.executor.ended.append(Trained(job, None, "too little"))
    (told,) = world.fleet.tick(at(25))
    assert isinstance(told, Trained)
    assert world.fleet.failures == {"pump-1": "too little"}
    assert world.fleet.tick(at(30)) == []
    (again,) = world.fleet.tick(at(31.1))
    assert isinstance(again, Job)


def test_a_registry_that_is_away_decides_nothing(world: World) -> None:
    world.registry.away = True
    world.hear(0, 24)
    with pytest.raises(ServiceUnavailable):
        world.fleet.tick(at(24))
    world.registry.away = False
    assert len(world.fleet.tick(at(24.1))) == 1


def test_the_registry_is_not_asked_at_every_tick(world: World) -> None:
    for second in range(120):
        world.fleet.tick(at(1) + second * 1_000_000)
    assert world.registry.polls == 3  # at the start, and then each minute


def test_new_states_that_keep_coming_make_a_new_machine_wait(world: World) -> None:
    world.hear(0, 24)
    world.kept.new = 0.5
    assert world.fleet.tick(at(24)) == []
    assert len(world.fleet.tick(at(73))) == 1


def test_statistics_that_drift_are_looked_for_once_a_day(world: World) -> None:
    mature = LearntVersion(number=1, metadata=tiny_metadata(), from_us=at(200), baseline=Span(at(0), at(200)))
    world.registry.models["pump-1"] = MachineModels(champion=mature, anchor=mature)
    world.hear(200, 260, version="1")
    assert world.fleet.tick(at(260)) == []
    world.kept.drifted = [Drift("rms_mean", at(210), 4.0, 1.0, 1e-4)]
    assert world.fleet.tick(at(261)) == []
    (job,) = world.fleet.tick(at(285))
    assert isinstance(job, Job)
    assert (job.cause, "rms_mean" in job.why) == ("drift", True)


def test_alerts_and_verdicts_of_machines_reach_them(world: World) -> None:
    world.fleet.alert(alert("opened", 5))
    world.fleet.say(verdict("repaired", 12, since_h=10))
    world.hear(10, 35)
    (job,) = world.fleet.tick(at(35))
    assert isinstance(job, Job)
    assert (job.cause, job.span) == ("repaired", Span(at(10), at(35)))


def test_what_nobody_has_foreseen_of_one_machine_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    share = world.kept.share_of_new
    monkeypatch.setattr(world.kept, "share_of_new", lambda one, us: 1 / 0 if one == "pump-1" else share(one, us))
    for machine in ("pump-1", "pump-2"):
        world.hear(0, 24, machine)
    for hours in (24, 25):
        assert [one.machine_id for one in world.fleet.tick(at(hours))] == (["pump-2"] if hours == 24 else [])
    assert caplog.text.count("pump-1 is left alone") == 1
    assert "pump-1" in world.fleet.failures


def test_what_may_be_mended_is_said_once_and_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(machine_id: str, from_us: int) -> float:
        raise ModelError("its archive is damaged")

    world.hear(0, 24)
    with monkeypatch.context() as patched:
        patched.setattr(world.kept, "share_of_new", refuse)
        assert world.fleet.tick(at(24)) == world.fleet.tick(at(25)) == []
    assert caplog.text.count("its archive is damaged") == 1
    assert [type(one) for one in world.fleet.tick(at(26))] == [Job]


def test_a_message_that_nobody_has_foreseen_stops_no_other_machine(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.hear(0, 1)
    monkeypatch.setattr(type(world.fleet.learners["pump-1"].incidents), "hear", lambda *args: 1 / 0)
    world.fleet.alert(alert("opened", 1))
    assert "pump-1 is left alone" in caplog.text
    world.hear(0, 24, "pump-2")
    assert [one.machine_id for one in world.fleet.tick(at(24))] == ["pump-2"]


def test_what_the_registry_refuses_is_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.hear(0, 24)
    (job,) = world.fleet.tick(at(24))
    assert isinstance(job, Job)
    world.registry.trained(job, 1)
    waiting = world.registry.models["pump-1"].waiting
    assert waiting is not None

    def refuse(decision: Decision) -> None:
        raise ModelError("version 1 is gone")

    world.registry.apply = refuse  # type: ignore[method-assign]
    world.executor.ended.append(Trained(job, 1))
    assert [type(one) for one in world.fleet.tick(at(25))] == [Trained]
    assert "version 1 is gone" in caplog.text


def test_confirmed_faults_and_the_anchors_baseline_are_kept_for_good(world: World) -> None:
    mature = LearntVersion(number=1, metadata=tiny_metadata(), from_us=at(200), baseline=Span(at(0), at(200)))
    world.registry.models["pump-1"] = MachineModels(champion=mature, anchor=mature)
    world.fleet.alert(alert("opened", 5))
    world.fleet.say(verdict("confirmed", 12))
    world.fleet.tick(at(201))
    assert world.kept.kept == [("pump-1", mature.baseline, "baseline of the anchor")]  # the fault goes on
    world.fleet.alert(alert("closed", 20))
    for hours in (202, 203):
        world.fleet.tick(at(hours))
    assert world.kept.kept[1:] == [("pump-1", Span(at(5), at(20)), "fault: confirmed")]
