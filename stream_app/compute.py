"""Scoring in a process of its own, so that neither Python's lock nor a long batch holds the event loop up.

In a thread beside a busy event loop the same computation takes 1.4 times as long: it consists of many short numpy
calls, and after each it has to win Python's lock back.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from schemas.dead_letter import DeadLetter
from schemas.frame import KNOWN_HEADERS, Frame, FrameRecord, check_size
from stream_app.pipeline import Computed, Router
from stream_app.processor import Answer
from stream_app.slots import SLOTS, Place, SharedSlots
from whirr.errors import FrameRejected, ModelError
from whirr.settings import Route


class ComputeFailed(Exception):
    """The computing process has gone; the worker must end, and what it did not acknowledge comes again."""


class Scored(NamedTuple):
    """What crosses the process boundary for one scored frame: all of :class:`Computed` but its record and model."""

    route: int
    frame_id: str
    machine_id: str
    source: str | None
    recorded_us: int
    sequence: int | None
    foreign_id: str | None
    score: float
    band_error: Any
    statistics: Any
    level_dbfs: float
    sensor_fault: Any
    duration_s: float
    unfamiliar: tuple[Any, ...] = ()


class Refused(NamedTuple):
    """What crosses for one frame that can't be used."""

    code: str
    detail: str


class Answers(NamedTuple):
    """What the child answers to a batch.

    Attributes:
        version: Which of the models that were loaded, one after the other, it used.
        seconds: How long it took.
        answers: One for each record.
    """

    version: int
    seconds: float
    answers: list[Scored | Refused]


class ComputeProcess:
    """Computes batches in a child process, in the order in which they are given.

    The next batch is handed over while one is being computed, so that the child need not wait for it. A third waits.

    Args:
        routes: The routing table.
        log_level: Least level that the child logs.
        observe: Called with the seconds that each batch took.
        log_format: How the child logs.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        log_level: str = "info",
        observe: Callable[[float], None] = lambda _: None,
        log_format: str = "auto",
    ) -> None:
        self.observe = observe
        self._routes = tuple(routes)
        self._log = log_level, log_format
        self._routers: dict[int, Router] = {}
        # They wait for the child with Python's lock released; one thread each keeps the order.
        self._senders = ThreadPoolExecutor(1, thread_name_prefix="whirr-send")
        self._receivers = ThreadPoolExecutor(1, thread_name_prefix="whirr-receive")
        self._connection: Connection | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._slots: SharedSlots | None = None
        self._free_slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(SLOTS):
            self._free_slots.put_nowait(slot)

    def start(self) -> None:
        """Start the child; it imports what it needs while the caller goes on."""
        slots = self._slots = SharedSlots.create()
        ours, theirs = socket.socketpair()
        with theirs:
            files = [theirs.fileno(), slots.fd]
            command = [sys.executable, "-m", "stream_app.compute_child", *map(str, files), *self._log]
            # A session of its own: Ctrl-C is for the worker, which then ends the child. So does its death: the
            # child reads the end of the file.
            self._child = subprocess.Popen(command, pass_fds=files, stdin=subprocess.DEVNULL, start_new_session=True)
        self._connection = Connection(ours.detach())

    async def load(self, router: Router, files: Mapping[str, tuple[str, str]]) -> None:
        """Have the child use the models of ``router``, between two batches.

        Args:
            router: With the models loaded here; they tell thresholds and names.
            files: Path and SHA-256 of each model's file, by ``route.model``, so that both sides have the same.

        Raises:
            ModelError: The child can't use one; it goes on with what it has.
            ComputeFailed: It has gone.
        """
        version = max(self._routers, default=0) + 1
        self._routers[version] = router
        routes = [route.model_dump() for route in self._routes]
        refusal = await self._ask(lambda: ("load", version, routes, dict(files)))
        if refusal is not None:
            del self._routers[version]
            raise ModelError(refusal)
        # Answers of the one before may still be on their way.
        self._routers = {known: self._routers[known] for known in sorted(self._routers)[-2:]}

    async def __call__(self, records: Sequence[FrameRecord]) -> list[Answer]:
        """Return the answer to each record, in order.

        Raises:
            ComputeFailed: The child has gone.
        """
        refused = [_refused(record) for record in records]
        crossing = [record for record, letter in zip(records, refused, strict=True) if letter is None]
        computed = iter(await self._computed(crossing) if crossing else ())
        return [next(computed) if letter is None else letter for letter in refused]

    async def _computed(self, records: Sequence[FrameRecord]) -> list[Answer]:
        slot = await self._free_slots.get()
        version, seconds, answers = await self._ask(lambda: ("compute", self._packed(records, slot)))
        self._free_slots.put_nowait(slot)
        self.observe(seconds)
        router = self._routers[version]
        return [_unpacked(answer, record, router) for answer, record in zip(answers, records, strict=True)]

    @property
    def pid(self) -> int | None:
        """The child's process id while it is there."""
        return None if self._child is None else self._child.pid

    def stop(self) -> None:
        """End the child."""
        for threads in (self._senders, self._receivers):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._child is not None:
            self._child.terminate()
            self._child.wait()
        for threads in (self._senders, self._receivers):
            threads.shutdown()  # what still waited for the child has failed by now
        if self._connection is not None and self._slots is not None:
            self._connection.close()
            self._slots.close()

    async def _ask(self, request: Callable[[], tuple[Any, ...]]) -> Any:
        """Send a request, made in the sender's thread, and return its answer."""
        connection = self._connection
        if connection is None:
            raise ComputeFailed("the computing process has not been started")
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._senders, lambda: connection.send(request()))
            return await loop.run_in_executor(self._receivers, connection.recv)
        except (EOFError, OSError) as error:
            raise ComputeFailed(f"the computing process {self.pid} has gone: {error!r}") from None

    def _packed(self, records: Sequence[FrameRecord], slot: int) -> list[tuple[Any, ...]]:
        assert self._slots is not None
        places = self._slots.put(slot, [record.value for record in records])
        return [_envelope(record, place) for record, place in zip(records, places, strict=True)]


def _refused(record: FrameRecord) -> DeadLetter | None:
    """Return the answer to a record that need not cross to be refused; it may be of any size."""
    try:
        check_size(record)
    except FrameRejected as error:
        return DeadLetter(code=error.code, detail=error.detail, record=record)
    return None


def _envelope(record: FrameRecord, value: Place) -> tuple[Any, ...]:
    source = record.topic, record.partition, record.offset
    # The others mean nothing there, and may be of any size.
    headers = tuple(one for one in record.headers if one[0] in KNOWN_HEADERS)
    return record.key, value, headers, record.timestamp_ms, *source


def _unpacked(answer: Scored | Refused, record: FrameRecord, router: Router) -> Answer:
    if isinstance(answer, Refused):
        return DeadLetter(code=answer.code, detail=answer.detail, record=record)
    frame = Frame(
        answer.frame_id,
        answer.machine_id,
        answer.source,
        answer.recorded_us,
        answer.sequence,
        answer.foreign_id,
        record,
    )
    return Computed(frame, router.routed[answer.route], *answer[7:])
