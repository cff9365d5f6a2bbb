"""All machines of a fleet: who learns next, what was learnt takes its way, and nothing of it is kept here.

What was decided stands in the registry, as tags and aliases; what was heard stands in topics. So whatever stops this in
between, and begins it anew, finds the same, and does what is still to be done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from schemas import Alert, Band, Score
from schemas.errors import ServiceUnavailable, WhirrError
from schemas.times import parse_rfc3339
from schemas.verdict import Verdict
from stream_app.pipeline.rule import Rule
from trainer.learning.drift import Drift
from trainer.learning.learner import Decision, Job, Learner, MachineModels
from trainer.learning.learning_rule import HOUR_US, LearningRule
from trainer.learning.spans import Span

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

POLL_US: Final = 60_000_000  # between two looks at the registry


class FleetModels(Protocol):
    """The registry, as far as a fleet needs it. Every write may be repeated: done again, it changes nothing."""

    def poll(self) -> Mapping[str, MachineModels]:
        """Return what the registry holds of each machine that has a model.

        Raises:
            ServiceUnavailable: It can't be reached.
        """

    def apply(self, decision: Decision) -> None:
        """Do what was decided.

        Raises:
            WhirrError: It can't be done; the message says why.
        """


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of a job: a version of the machine's model, or why there is none."""

    job: Job
    version: int | None
    why: str = ""


class JobExecutor(Protocol):
    """Where jobs run."""

    def submit(self, job: Job, models: MachineModels) -> None:
        """Take a job; the most urgent one that waits runs next."""

    def finished(self) -> Sequence[Trained]:
        """Return the jobs that have ended since the last call. Doesn't wait."""


class Heard(Protocol):
    """What is kept of what was heard."""

    def share_of_new(self, machine_id: str, from_us: int) -> float:
        """Return how much of what came last is unlike all before (:mod:`.stability`)."""

    def drifts(self, machine_id: str, baseline: Span) -> Sequence[Drift]:
        """Return what of the machine's statistics has drifted since a baseline."""

    def moved_bands(self, machine_id: str, from_us: int, since_us: int) -> tuple[Band, ...]:
        """Return the bands whose level is another since a moment than from another one until then."""

    def keep(self, machine_id: str, span: Span, why: str) -> None:
        """Keep what was heard in a time for good; done again, it changes nothing."""


class Fleet:
    """The machines that have models of their own.

    Args:
        rule: When a machine learns.
        models: The registry.
        executor: Runs trainings.
        heard: What is kept.
        alert_rule: A machine's route's numbers; None: it has no model of its own, and is left alone.

    Attributes:
        failures: By machine why its last training failed, or nothing can be decided of it.
        untold: Alerts about drifts that are to be told since the last :meth:`tick`. Give each to :meth:`alert` once it
            was: another tick repeats it until then.
    """

    def __init__(
        self,
        rule: LearningRule,
        models: FleetModels,
        executor: JobExecutor,
        heard: Heard,
        alert_rule: Callable[[str], Rule | None],
    ) -> None:
        self._rule, self._models, self._executor, self._heard = rule, models, executor, heard
        self._alert_rule = alert_rule
        self.learners: dict[str, Learner] = {}
        self._running: dict[str, Job] = {}
        self._retry_us: dict[str, int] = {}
        self._known: Mapping[str, MachineModels] = {}
        self._polled_us: int | None = None
        self._kept: set[tuple[str, Span]] = set()
        self._broken: set[str] = set()
        self.failures: dict[str, str] = {}
        self.untold: list[Alert] = []

    def refresh(self, now_us: int) -> None:
        """Look at the registry: before the first score is heard, since a shadow's counts only while it is known.

        Raises:
            ServiceUnavailable: It can't be reached.
        """
        self._poll(now_us)

    def hear(self, score: Score) -> None:
        """Take a score."""
        if (learner := self._learner(score.machine_id)) is not None:
            self._of_each(lambda one: one.hear(score), [learner])

    def alert(self, alert: Alert) -> None:
        """Take an alert."""
        if (learner := self._learner(alert.machine_id)) is not None:
            self._of_each(lambda one: one.alert(alert), [learner])

    def say(self, verdict: Verdict) -> None:
        """Take a verdict."""
        if (learner := self._learner(verdict.machine_id)) is not None:
            self._of_each(lambda one: one.say(verdict), [learner])

    @property
    def running(self) -> Mapping[str, Job]:
        """By machine the job that runs, or waits for its turn."""
        return self._running

    def tick(self, now_us: int) -> list[Decision | Job | Trained]:
        """Do what is to be done now; return it, for the log.

        Raises:
            ServiceUnavailable: The registry can't be reached; nothing was decided.
        """
        done: list[Decision | Job | Trained] = list(self._finished(now_us))
        if done or self._polled_us is None or now_us >= self._polled_us + POLL_US:
            self._poll(now_us)
        self._of_each(self._keep)
        decided = [one for one in self._of_each(lambda learner: learner.change(now_us)) if one is not None]
        done += [one for one in decided if self._applied(one)]
        if decided:
            self._poll(now_us)
        self._of_each(lambda learner: self._look(learner, now_us))
        told = self._of_each(lambda one: [self._with_bands(one, alert) for alert in one.untold(now_us)])
        self.untold = [alert for alerts in told for alert in alerts]
        jobs = [job for job in self._of_each(lambda learner: self._job(learner, now_us)) if job is not None]
        for job in sorted(jobs, key=lambda one: one.urgency):
            self._running[job.machine_id] = job
            self._executor.submit(job, self.learners[job.machine_id].registry)
            done.append(job)
        return done

    def _of_each(self, ask: Callable[[Learner], Answer], learners: Iterable[Learner] | None = None) -> list[Answer]:
        """Return the answers of machines, by default of all; what goes wrong with one doesn't stop the others.

        What may be mended meanwhile, such as a file that can't be used, is said once and asked again by the next call.
        """
        answers: list[Answer] = []
        for learner in self.learners.values() if learners is None else learners:
            machine_id = learner.machine_id
            if machine_id in self._broken:
                continue
            try:
                answers.append(ask(learner))
            except ServiceUnavailable:
                raise
            except WhirrError as error:
                if self.failures.get(machine_id) != str(error):
                    log.warning("%s can't learn now: %s", machine_id, error)
                self.failures[machine_id] = str(error)
            except Exception:
                log.exception("%s is left alone until the next start: this must not happen", machine_id)
                self._broken.add(machine_id)
                self.failures[machine_id] = "left alone until the next start: see the log"
        return answers

    def _keep(self, learner: Learner) -> None:
        """Keep what may never go: confirmed faults, which test every later model, and the anchors' baselines."""
        machine_id, anchor = learner.machine_id, learner.registry.anchor
        wanted = [(span, f"fault: {fault or 'confirmed'}") for span, fault in learner.incidents.faults()]
        wanted += [] if anchor is None else [(anchor.baseline, "baseline of the anchor")]
        for span, why in wanted:
            if span.until_us is not None and (machine_id, span) not in self._kept:
                self._heard.keep(machine_id, span, why)
                self._kept.add((machine_id, span))

    def _finished(self, now_us: int) -> Iterable[Trained]:
        for one in self._executor.finished():
            self._running.pop(one.job.machine_id, None)
            if one.version is None:
                self._retry_us[one.job.job_id] = now_us + round(self._rule.retry_h * HOUR_US)
                self.failures[one.job.machine_id] = one.why
            else:
                self.failures.pop(one.job.machine_id, None)
            yield one

    def _poll(self, now_us: int) -> None:
        self._known, self._polled_us = self._models.poll(), now_us
        for machine_id in self._known:
            self._learner(machine_id)
        for machine_id, learner in self.learners.items():
            learner.registry = self._known.get(machine_id, MachineModels())

    def _applied(self, decision: Decision) -> bool:
        try:
            self._models.apply(decision)
        except ServiceUnavailable:
            raise
        except WhirrError as error:
            log.warning("%s of %s version %d: %s", decision.what, decision.machine_id, decision.version, error)
            return False
        return True

    def _look(self, learner: Learner, now_us: int) -> None:
        """Look for drifts of a machine, once a day."""
        champion = learner.registry.champion
        if champion is not None and learner.last_us is not None and learner.may_drift(now_us):
            learner.look(now_us, self._heard.drifts(learner.machine_id, champion.baseline))

    def _with_bands(self, learner: Learner, alert: Alert) -> Alert:
        """Return an alert about a drift with the bands that have moved since it began."""
        champion = learner.registry.champion
        if champion is None or alert.state == "settled":
            return alert
        since_us = min(parse_rfc3339(one.since) for one in alert.drift)
        bands = self._heard.moved_bands(alert.machine_id, champion.baseline.from_us, since_us)
        return replace(alert, bands=bands or alert.bands)

    def _job(self, learner: Learner, now_us: int) -> Job | None:
        """Return the machine's next job; None while one runs, or its last try is too short ago."""
        if learner.machine_id in self._running:
            return None
        begins_us, champion = learner.begins_us(), learner.registry.champion
        if begins_us is None:
            return None
        # Without what costs a look at what is kept.
        found = () if champion is None else learner.drifting.of_statistics(champion.number)
        job = learner.job(now_us, of_statistics=found)
        if champion is None or (job is not None and job.direct):
            job = job and learner.job(now_us, share_of_new=self._heard.share_of_new(learner.machine_id, begins_us))
        return None if job is None or now_us < self._retry_us.get(job.job_id, 0) else job

    def _learner(self, machine_id: str) -> Learner | None:
        learner = self.learners.get(machine_id)
        if learner is None and (rule := self._alert_rule(machine_id)) is not None:
            known = self._known.get(machine_id, MachineModels())
            learner = self.learners[machine_id] = Learner(machine_id, self._rule, rule, known)
        return learner
