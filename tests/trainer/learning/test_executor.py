"""The queue before the engines, and the engines: processes of this machine, and a real Dask cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from schemas.errors import MissingExtra, ServiceUnavailable
from tests.helpers import eventually
from tests.trainer.learning.jobs import at, said
from trainer.learning.executor import DaskWorkers, JobEngine, JobQueue, LocalProcesses
from trainer.learning.learner import Cause, Job
from trainer.learning.spans import Span
from trainer.learning.training import JobOrder, JobOutcome
from whirr.settings import Settings


def order(machine: str, number: int, cause: Cause = "schedule", settings: Settings | None = None) -> JobOrder:
    job = Job(job_id=f"{number:032x}", machine_id=machine, cause=cause, why="", span=Span(at(0), at(1)))
    return JobOrder(job=job, model="m", archive_url="nowhere", settings=settings or Settings())


def dies_once(order: JobOrder) -> JobOutcome:
    """Kill its process, the first time."""
    try:
        os.close(os.open(order.archive_url, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return said(order)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def tells_its_process(order: JobOrder) -> JobOutcome:
    found = said(order)
    about = {"pid": os.getpid(), "nice": os.nice(0), "threads": int(os.environ["OMP_NUM_THREADS"])}
    return JobOutcome(job_id=found.job_id, machine_id=found.machine_id, state="registered", version=1, left_out=about)


class ByHand:
    """An engine whose jobs end when the test says so."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.begun: list[JobOrder] = []
        self.futures: dict[str, Future[JobOutcome]] = {}
        self.away = False

    def submit(self, order: JobOrder) -> Future[JobOutcome]:
        if self.away:
            raise ServiceUnavailable("it is away")
        self.begun.append(order)
        self.futures[order.job.job_id] = future = Future()
        return future

    def end(self, number: int) -> None:
        one = next(one for one in self.begun if int(one.job.job_id, 16) == number)
        self.futures[one.job.job_id].set_result(said(one))

    def close(self) -> None:
        pass

    def numbers(self) -> list[int]:
        return [int(one.job.job_id, 16) for one in self.begun]


def numbers(outcomes: list[JobOutcome]) -> list[int]:
    return [int(one.job_id, 16) for one in outcomes]


def test_the_most_urgent_job_begins_first_and_those_of_one_urgency_in_turn():
    engine = ByHand(1)
    queue = JobQueue(engine)
    assert queue.submit(order("a", 1, "schedule"))
    assert queue.submit(order("b", 2, "schedule"))
    assert queue.submit(order("c", 3, "new_machine"))
    assert queue.poll() == []
    assert engine.numbers() == [3]
    for number in (3, 1, 2):
        engine.end(number)
        assert numbers(queue.poll()) == [number]
    assert engine.numbers() == [3, 1, 2]


def test_a_machine_has_one_job_at_a_time_and_the_latest_need_waits():
    engine = ByHand(5)
    queue = JobQueue(engine)
    queue.submit(order("a", 1))
    queue.poll()
    assert not queue.submit(order("a", 1))  # it runs
    assert queue.submit(order("a", 2))
    assert queue.submit(order("a", 3))
    assert not queue.submit(order("a", 3))  # it waits
    queue.submit(order("b", 4))
    queue.poll()
    assert engine.numbers() == [1, 4]
    engine.end(1)
    assert numbers(queue.poll()) == [1]
    assert engine.numbers() == [1, 4, 3]
    queue.submit(order("b", 5))
    queue.withdraw("b")
    assert queue.waiting == ()
    assert {one.job.machine_id for one in queue.running} == {"a", "b"}


def test_no_more_run_than_there_are_places_or_than_are_wanted():
    engine = ByHand(3)
    queue = JobQueue(engine, most=2)
    for number in range(1, 6):
        queue.submit(order(f"machine-{number}", number))
    queue.poll()
    assert engine.numbers() == [1, 2]
    engine.places = 0
    engine.end(1)
    queue.poll()
    assert engine.numbers() == [1, 2]


def test_jobs_wait_while_the_engine_is_away():
    engine = ByHand(3)
    queue = JobQueue(engine)
    engine.away = True
    queue.submit(order("a", 1))
    assert queue.poll() == []
    assert len(queue.waiting) == 1
    engine.away = False
    queue.poll()
    assert engine.numbers() == [1]


# Real engines


@pytest.fixture(scope="module")
def dask_address() -> Iterator[str]:
    """Yield the scheduler of a cluster of two processes with one thread each."""
    distributed = pytest.importorskip("distributed")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(params=["local", "dask"])
def engine(request: pytest.FixtureRequest) -> Iterator[Callable[..., JobEngine]]:
    """Give an engine that runs a function."""
    made: list[Any] = []

    def make(run: Callable[[JobOrder], JobOutcome]) -> JobEngine:
        if request.param == "local":
            made.append(LocalProcesses(2, run))
        else:
            made.append(DaskWorkers(request.getfixturevalue("dask_address"), run))
        return made[-1]

    yield make
    for one in made:
        one.close()


def outcomes(queue: JobQueue, count: int) -> list[JobOutcome]:
    """Poll until so many jobs have ended."""
    found: list[JobOutcome] = []

    def ended() -> bool:
        found.extend(queue.poll(0.2))
        return len(found) >= count

    eventually(ended, 240, "jobs end")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("job-engines")
@pytest.mark.filterwarnings("default")  # of Dask and Tornado
def test_jobs_run_in_other_processes_with_one_thread(engine):
    queue = JobQueue(engine(tells_its_process))
    for number in (1, 2, 3):
        queue.submit(order(f"machine-{number}", number, settings=Settings(mlflow_password="secret")))
    found = outcomes(queue, 3)
    assert sorted(numbers(found)) == [1, 2, 3]
    assert os.getpid() not in {one.left_out["pid"] for one in found}
    assert {one.left_out["threads"] for one in found} == {1}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("job-engines")
@pytest.mark.filterwarnings("default")
def test_a_job_whose_process_dies_failed_and_can_be_tried_again(engine, tmp_path):
    queue = JobQueue(engine(dies_once))
    mark = str(tmp_path / "died")
    doomed = JobOrder(job=order("a", 1).job, model="m", archive_url=mark, settings=Settings())
    queue.submit(doomed)
    (died,) = outcomes(queue, 1)
    assert (died.state, died.job_id) == ("failed", doomed.job.job_id)
    assert "what ran it ended" in died.why
    queue.submit(doomed)
    assert [one.state for one in outcomes(queue, 1)] == ["registered"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_that_run_end_when_the_service_does(tmp_path):
    engine = LocalProcesses(1, waits_for_ever)
    folder = tmp_path / "processes"
    folder.mkdir()
    queue = JobQueue(engine)
    queue.submit(JobOrder(job=order("a", 1).job, model="m", archive_url=str(folder), settings=Settings()))
    queue.poll()
    pid = int(eventually(lambda: next((one.name for one in folder.iterdir()), ""), 240, "it runs"))
    queue.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [one.state for one in outcomes(queue, 1)] == ["failed"]


def waits_for_ever(order: JobOrder) -> JobOutcome:
    os.mkdir(f"{order.archive_url}/{os.getpid()}")  # noqa: PTH102
    signal.pause()
    raise AssertionError


@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("trainer.learning.executor.CONNECT_S", 0.2)
    with pytest.raises(ServiceUnavailable, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskWorkers("tcp://127.0.0.1:9")


def test_without_its_package_dask_is_an_extra_that_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(MissingExtra, match="extra `dask`"):
        DaskWorkers("tcp://127.0.0.1:9")
