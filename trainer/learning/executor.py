"""Where jobs run: a queue by urgency before an engine, which is processes of this machine or a Dask cluster.

Nothing here knows what a job does. A job whose process or worker dies is one that failed: it may be tried again, and
finds what it had done before.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

from schemas.errors import MissingExtra, ServiceUnavailable, SettingsError
from trainer.learning.training import JobOrder, JobOutcome, failed, run_job

LOCAL: Final = "local"
NICER: Final = 10  # a training gives way to the workers of its machine
CONNECT_S: Final = 10.0
Run = Callable[[JobOrder], JobOutcome]
_log = logging.getLogger(__name__)


class JobEngine(Protocol):
    """What runs jobs."""

    @property
    def places(self) -> int:
        """How many jobs run at once."""

    def submit(self, order: JobOrder) -> Future[JobOutcome]:
        """Begin a job.

        Raises:
            ServiceUnavailable: It can't be reached.
        """

    def close(self) -> None:
        """End what runs, and everything that was started."""


class LocalProcesses:
    """Processes of this machine, a new one for each job: it gives its memory back, and dies alone.

    Args:
        places: So many at once.
        run: What a job does.
    """

    def __init__(self, places: int = 1, run: Run = run_job) -> None:
        self._places, self._run = places, run
        self._started: list[Any] = []

    @property
    def places(self) -> int:
        """How many jobs run at once."""
        return self._places

    def submit(self, order: JobOrder) -> Future[JobOutcome]:
        """Begin a job."""
        self._started = [one for one in self._started if one.is_alive()]
        known = {one.pid for one in multiprocessing.active_children()}
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_give_way)
        future = pool.submit(_on_one_core, self._run, order)
        self._started += [one for one in multiprocessing.active_children() if one.pid not in known]
        pool.shutdown(wait=False)  # it ends with its one job
        return future

    def close(self) -> None:
        """End all processes; what they had not registered yet is lost."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.join()


class DaskWorkers:
    """Workers of a Dask cluster, on as many machines as it has; each needs Whirr with the extras `train` and `dask`.

    Workers should have one thread each: a training has its own process then.

    Args:
        address: Of the scheduler, such as ``tcp://dask:8786``.
        run: What a job does.

    Raises:
        MissingExtra: Dask's package is not installed.
        ServiceUnavailable: Nothing answers at the address.
    """

    def __init__(self, address: str, run: Run = run_job) -> None:
        try:
            import distributed
        except ModuleNotFoundError:
            raise MissingExtra("training on a Dask cluster", "dask") from None
        self._distributed, self._address, self._run = distributed, address, run
        self._client: Any = None
        self._jobs: Any = None
        self._connect()

    @property
    def places(self) -> int:
        """How many jobs run at once: as many as the workers there are now have threads, none while it is away."""
        try:
            self._connect()
            return sum(self._client.nthreads().values())
        except (ServiceUnavailable, OSError) as error:
            _log.warning("%s; jobs wait", error)
            return 0

    def submit(self, order: JobOrder) -> Future[JobOutcome]:
        """Begin a job."""
        self._connect()
        future: Future[JobOutcome] = self._jobs.submit(_on_one_core, self._run, order)
        return future

    def close(self) -> None:
        """Take back what waits there, and leave."""
        if self._client is not None:
            self._client.close()

    def _connect(self) -> None:
        if self._client is not None and self._client.status == "running":
            return
        try:
            self._client = self._distributed.Client(self._address, timeout=CONNECT_S, set_as_default=False)
        except OSError as error:
            raise ServiceUnavailable(f"no Dask scheduler answers at {self._address}: {error}") from None
        # A job is no pure function: its second run finds what the first one did.
        self._jobs = self._client.get_executor(pure=False)


@dataclass(frozen=True, slots=True)
class _Waiting:
    order: JobOrder
    number: int


class JobQueue:
    """Jobs that wait for an engine, the most urgent first, and one of a machine at a time.

    Not for several threads.

    Args:
        engine: What runs them.
        most: So many at once, if the engine has so many places; None: as many as it has.
    """

    def __init__(self, engine: JobEngine, most: int | None = None) -> None:
        self._engine, self._most = engine, most
        self._waiting: dict[str, _Waiting] = {}  # by machine
        self._running: dict[str, tuple[JobOrder, Future[JobOutcome]]] = {}  # by machine
        self._numbers = count()

    @property
    def waiting(self) -> tuple[JobOrder, ...]:
        """Those that have not begun, in the order in which they will."""
        return tuple(one.order for one in sorted(self._waiting.values(), key=_turn))

    @property
    def running(self) -> tuple[JobOrder, ...]:
        """Those that have begun."""
        return tuple(order for order, _ in self._running.values())

    def submit(self, order: JobOrder) -> bool:
        """Let a job wait for its turn, in place of another one of its machine that waits; return whether it is new.

        A job that waits already keeps its turn, with what is ordered now; one that runs is not run beside itself.
        """
        machine, job_id = order.job.machine_id, order.job.job_id
        running = self._running.get(machine)
        if running is not None and running[0].job.job_id == job_id:
            return False
        before = self._waiting.get(machine)
        same = before is not None and before.order.job.job_id == job_id
        number = before.number if before is not None and same else next(self._numbers)
        self._waiting[machine] = _Waiting(order, number)
        return not same

    def withdraw(self, machine_id: str) -> None:
        """Forget what waits for a machine; what runs goes on."""
        self._waiting.pop(machine_id, None)

    def poll(self, timeout_s: float = 0.0) -> list[JobOutcome]:
        """Begin what can begin, and return what has ended.

        Args:
            timeout_s: Wait so long for something to end, if anything runs.
        """
        self._begin()
        futures = [future for _, future in self._running.values()]
        if futures and timeout_s > 0:
            wait(futures, timeout_s, return_when="FIRST_COMPLETED")
        ended = [machine for machine, (_, future) in self._running.items() if future.done()]
        outcomes = [_result(*self._running.pop(machine)) for machine in ended]
        if ended:
            self._begin()
        return outcomes

    def close(self) -> None:
        """End what runs; what waits is forgotten."""
        self._waiting.clear()
        self._engine.close()

    def _begin(self) -> None:
        if not self._waiting:
            return
        places = self._engine.places
        free = (places if self._most is None else min(places, self._most)) - len(self._running)
        for waiting in sorted(self._waiting.values(), key=_turn):
            machine = waiting.order.job.machine_id
            if free <= 0:
                return
            if machine in self._running:
                continue
            try:
                future = self._engine.submit(waiting.order)
            except ServiceUnavailable as error:
                _log.warning("%s; jobs wait", error)
                return
            self._running[machine] = waiting.order, future
            del self._waiting[machine]
            free -= 1


def engine_of(name: str, places: int) -> JobEngine:
    """Return where trainings run.

    Args:
        name: ``local``, or a Dask scheduler's address.
        places: Processes at once, if they are local.

    Raises:
        SettingsError: It is neither.
        MissingExtra, ServiceUnavailable: As :class:`DaskWorkers`.
    """
    if name == LOCAL:
        return LocalProcesses(places)
    if "://" not in name:
        raise SettingsError(f"learn_engine is {name!r}; expected {LOCAL!r}, or a Dask scheduler's tcp://host:port")
    return DaskWorkers(name)


def _turn(one: _Waiting) -> tuple[int, int]:
    return one.order.job.urgency, one.number


def _result(order: JobOrder, future: Future[JobOutcome]) -> JobOutcome:
    if future.cancelled():
        return failed(order, "what ran it was closed")
    error = future.exception()
    if error is None:
        return future.result()
    # A process or a worker that died (killed for its memory, say), or an order that it can't read.
    return failed(order, f"what ran it ended: {type(error).__name__}: {str(error)[:500]}")


def _give_way() -> None:
    os.nice(NICER)


def _on_one_core(run: Run, order: JobOrder) -> JobOutcome:
    """Run a job with one thread of whatever computes: jobs at once are what uses more cores."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # for what is not imported yet, PyTorch above all
        os.environ[name] = "1"
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    threadpool_limits(1)
    return run(order)
