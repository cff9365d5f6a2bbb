"""A fleet's jobs as orders, and their outcomes in words."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import pytest

from tests.models import tiny_metadata
from tests.trainer.learning.jobs import at, job
from trainer.learning.anchor import Departure
from trainer.learning.archived_scores import FaultTest
from trainer.learning.executor import JobQueue
from trainer.learning.learner import LearntVersion, MachineModels
from trainer.learning.ordered_jobs import OrderedJobs
from trainer.learning.spans import Span
from trainer.learning.training import JobOrder, JobOutcome, failed
from whirr.settings import Route, Settings

SETTINGS = Settings(
    route=(
        Route(match="pump-*", model="models:/own.{machine}@champion", running_dbfs=-60.0),
        Route(match="*", model="models:/all@champion"),
    )
)


class AtOnce:
    """An engine whose jobs have ended as soon as they begin."""

    places = 5

    def __init__(self, outcome: JobOutcome | None = None) -> None:
        self.outcome = outcome
        self.orders: list[JobOrder] = []

    def submit(self, order: JobOrder) -> Future[JobOutcome]:
        self.orders.append(order)
        future: Future[JobOutcome] = Future()
        future.set_result(self.outcome or failed(order, "a test says so"))
        return future

    def close(self) -> None:
        pass


def version(number: int) -> LearntVersion:
    return LearntVersion(number=number, metadata=tiny_metadata(), from_us=at(0), baseline=Span(at(0), at(1)))


def test_an_order_names_the_machines_own_model_and_what_serves_it():
    engine = AtOnce()
    jobs = OrderedJobs(SETTINGS, "somewhere", JobQueue(engine), "frame_spectrum")
    one = job(9)
    jobs.submit(one, MachineModels(champion=version(4), anchor=version(2)))
    (ended,) = jobs.finished()
    (order,) = engine.orders
    assert (order.model, order.champion, order.anchor, order.running_dbfs) == ("own.pump-7", 4, 2, -60.0)
    assert (order.job, order.archive_url, order.detector) == (one, "somewhere", "frame_spectrum")
    assert (ended.job, ended.version, ended.why) == (one, None, "a test says so")
    assert jobs.finished() == []


def test_a_machine_without_a_model_of_its_own_is_not_trained():
    with pytest.raises(ValueError, match="'fan-1'"):
        OrderedJobs(SETTINGS, "", JobQueue(AtOnce())).submit(replace(job(9), machine_id="fan-1"), MachineModels())


def test_an_outcome_says_what_was_learnt_and_what_was_not():
    outcome = JobOutcome(
        job_id=job(9).job_id,
        machine_id="pump-7",
        state="registered",
        version=5,
        frames=300,
        left_out={"left_anchor": 12},
        departure=Departure(4.2, at(3), 0.5),
        test={"challenger": FaultTest(10, 0.9, 0, None)},
    )
    jobs = OrderedJobs(SETTINGS, "", JobQueue(AtOnce(outcome)))
    jobs.submit(job(9), MachineModels())
    (ended,) = jobs.finished()
    assert ended.version == 5
    assert ended.why == (
        "from 300 frames, without 12 (left_anchor), +4.2 deviations from its anchor, left at "
        "2026-01-01T01:30:00.000000Z, +0.50 a day, challenger covers 90% of the confirmed faults"
    )
