"""Scoring in a process of its own, so that neither Python's lock nor a long batch holds the event loop up.

In a thread beside a busy event loop the same computation takes 1.4 times as long: it consists of many short numpy
calls, and after each it has to win Python's lock back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import logging
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from schemas.dead_letter import DeadLetter
from schemas.errors import FrameRejected, ModelError
from schemas.frame import KNOWN_HEADERS, MAX_FRAME_S, MIN_FRAME_S, FrameRecord, check_size
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline import Computed, Model, Router
from stream_app.pipeline.model import model_bytes
from stream_app.worker.answers import PackedAnswers, unpack
from stream_app.worker.child_process import START_S, ChildLost, ChildProcess
from stream_app.worker.lineups import ALONE, Beside
from stream_app.worker.processor import Answer
from stream_app.worker.resident_models import ResidentCount
from stream_app.worker.slots import SLOTS, Place, SharedSlots
from whirr.settings import DEFAULT_MODEL_MB, Route

log = logging.getLogger(__name__)

CHILD = "stream_app.worker.compute_child"
MAX_RESTARTS = 2
DEFAULT_MODEL_BYTES = DEFAULT_MODEL_MB << 20


class ComputeFailed(Exception):
    """No computing process can compute, not even a healthy frame; the worker must end."""


class ModelsMessage(NamedTuple):
    """What the child is told to use from now on.

    Attributes:
        version: Of all models together.
        routes: The routing table.
        models: Path and digest of each champion, by ``route.model``.
        beside: The champions before them and the challengers.
        lacking: The files of those that are not there, by digest.
        described: The metadata of single machines' models that are not there, by digest: they are loaded when a frame
            needs them.
        max_model_bytes: How much memory those may take.
    """

    version: int
    routes: Sequence[Mapping[str, Any]]
    models: Mapping[str, tuple[str, str]]
    beside: Beside
    lacking: Mapping[str, bytes]
    described: Mapping[str, str]
    max_model_bytes: int


class ComputedBatch(NamedTuple):
    """What the child answers to a batch.

    Attributes:
        version: Which of the models that were loaded, one after the other, it used.
        seconds: How long it took.
        answers: One for each record.
        resident: Which models of single machines could score in the end.
        lacking: Why there are no answers: what has become of a model's file.
    """

    version: int
    seconds: float
    answers: PackedAnswers
    resident: ResidentCount = ResidentCount()
    lacking: str = ""


class ComputeProcess:
    """Computes batches in a child process, in the order in which they are given.

    The next batch is handed over while one is being computed, so that the child need not wait for it. A third waits.

    A child that dies, or takes too long for a batch, is replaced, and the batch is computed frame by frame. A frame
    that does it again, all alone, is answered with a dead letter, provided that a healthy frame does not do the same:
    what stops one worker would stop every worker, again after each restart.

    Args:
        routes: The routing table.
        log_level: Least level that the child logs.
        observe: Called with the seconds that each batch took.
        log_format: How the child logs.
        timeout_s: How long a batch may take.
        model_timeout_s: How long a model may take to be loaded and tried.
        max_model_bytes: How much memory the models of single machines may take in the child.

    Attributes:
        on_resident: Called after each batch with which models of single machines can score.
        on_lost: Called with why, each time that a child is lost.
        on_progress: Called when a frame of a batch that was lost has been answered.
        on_shadow_dropped: Called with why, each time that a challenger has failed and is not asked any more.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        log_level: str = "info",
        observe: Callable[[float], None] = lambda _: None,
        log_format: str = "auto",
        timeout_s: float = 15.0,
        model_timeout_s: float = 60.0,
        *,
        max_model_bytes: int = DEFAULT_MODEL_BYTES,
    ) -> None:
        self.observe = observe
        self.on_resident: Callable[[ResidentCount], object] = lambda _: None
        self.on_lost: Callable[[str], object] = lambda _: None
        self.on_progress: Callable[[], object] = lambda: None
        self.on_shadow_dropped: Callable[[str], object] = lambda _: None
        self._routes = tuple(routes)
        self._log = log_level, log_format
        self._timeout_s = timeout_s
        self._model_timeout_s = model_timeout_s
        self._max_model_bytes = max_model_bytes
        self._routers: dict[int, Router] = {}
        self._files: Mapping[str, tuple[str, str]] = {}
        self._beside = ALONE
        self._without: frozenset[str] = frozenset()  # digests of challengers that failed
        self._contents: dict[str, bytes] = {}  # by digest, as the child knows models
        self._there: set[str] = set()  # digests of those that it has
        self._version = 0
        self._child: ChildProcess | None = None
        self._mending = asyncio.Lock()
        self._slots: SharedSlots | None = None
        self._free_slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(SLOTS):
            self._free_slots.put_nowait(slot)

    def start(self) -> None:
        """Start the child; it imports what it needs while the caller goes on."""
        self._slots = SharedSlots.create()
        self._child = self._started()

    def _started(self) -> ChildProcess:
        assert self._slots is not None
        self._there = set()
        return ChildProcess(CHILD, self._log, [self._slots.fd])

    async def load(self, router: Router, files: Mapping[str, tuple[str, str]], beside: Beside = ALONE) -> None:
        """Have the child use the models of ``router``, between two batches.

        Args:
            router: With the models described here; they tell thresholds and names.
            files: Path and SHA-256 of each champion's file, by ``route.model``, so that both sides have the same.
            beside: The champions before them and the challengers; if those can't be loaded, it is done without them.

        Raises:
            ModelError: The child can't use one; it goes on with what it has.
            ComputeFailed: No child can compute.
        """
        # Kept: a child that is started later must have the same, whatever has become of the files. But not those of
        # single machines, which may be thousands: they are copies that nobody changes, and the child reads them itself.
        kept = self._of_routes(files, beside)
        contents = {digest: self._contents.get(digest) or _read(path, digest) for digest, path in kept.items()}
        version = max(self._routers, default=0) + 1
        self._routers[version] = router
        refusal = await self._tried(version, files, beside, contents)
        if refusal is not None and beside.challengers:
            beside, why = beside.without_challengers(), refusal
            refusal = await self._tried(version, files, beside, contents)
            if refusal is None:
                for shadow in router.shadows.values():
                    self._drop(shadow, "refused", why)
        if refusal is not None:
            del self._routers[version]
            raise ModelError(refusal)
        self._version, self._files, self._beside, self._contents = version, files, beside, contents
        self._without = self._without.intersection(router.shadows)
        # Answers of the one before may still be on their way.
        self._routers = {known: self._routers[known] for known in sorted(self._routers)[-2:]}

    def _of_routes(self, files: Mapping[str, tuple[str, str]], beside: Beside) -> dict[str, str]:
        """Return the path of each model that a route names, or that stands beside such a one, by digest."""
        named = {route.model for route in self._routes}
        found = {digest: path for key, (path, digest) in files.items() if key in named}
        for key in named & beside.plans.keys():
            for address in beside.plans[key].addresses:
                if address in beside.files:
                    found[beside.files[address].digest] = beside.files[address].path
        return found

    async def _tried(
        self, version: int, files: Mapping[str, tuple[str, str]], beside: Beside, contents: Mapping[str, bytes]
    ) -> str | None:
        """Have a child use models; return why not, or None."""
        try:
            return await self._loaded(version, files, beside, contents)
        except ChildLost as lost:
            return f"the models can't be used: {lost}"

    async def _loaded(
        self, version: int, files: Mapping[str, tuple[str, str]], beside: Beside, contents: Mapping[str, bytes]
    ) -> str | None:
        while True:
            child = await self._working()
            try:
                return await self._load_into(child, version, files, beside, contents)
            except ChildLost as lost:
                self._tell(lost)
                if lost.in_turn:
                    raise

    async def _load_into(
        self,
        child: ChildProcess,
        version: int,
        files: Mapping[str, tuple[str, str]],
        beside: Beside,
        contents: Mapping[str, bytes],
    ) -> str | None:
        """Have a child use models, of which it is given those that it lacks; return why not, or None."""
        routes = [route.model_dump(exclude_unset=True) for route in self._routes]
        await child.ask(lambda: ("begin",), START_S)
        models = {key: (path, digest) for key, (path, digest) in files.items()}
        wanted = {digest for _, digest in (*models.values(), *beside.files.values())}
        new = wanted - self._there
        lacking = {digest: raw for digest, raw in contents.items() if digest in new}
        # The others are single machines': they have been tried, and are loaded when a frame comes.
        described = {
            model.digest: model.metadata_json()
            for model in self._routers[version].of_machines()
            if model.digest in new and model.digest not in contents
        }
        limit_s = self._model_timeout_s * max(len(lacking), 1)
        message = ModelsMessage(version, routes, models, beside, lacking, described, self._max_model_bytes)
        refusal: str | None = await child.ask(lambda: ("load", message), limit_s)
        if refusal is None:
            self._there = wanted
        return refusal

    async def __call__(self, records: Sequence[FrameRecord]) -> list[Answer]:
        """Return the answer to each record, in order.

        Raises:
            ComputeFailed: No child can compute.
        """
        refused = [_refused(record) for record in records]
        crossing = [record for record, letter in zip(records, refused, strict=True) if letter is None]
        computed = iter(await self._computed(crossing) if crossing else ())
        return [next(computed) if letter is None else letter for letter in refused]

    async def _computed(self, records: Sequence[FrameRecord]) -> list[Answer]:
        slot = await self._free_slots.get()
        try:
            answers = await self._attempted(records, slot)
            if isinstance(answers, ChildLost) and (asked := self._shadows_of(records)):
                # It may be a challenger's doing, and the champions' answers must not depend on that.
                lost, answers = answers, await self._attempted(records, slot, in_shadow=False)
                if isinstance(answers, list):
                    for shadow in asked:
                        self._drop(shadow, "timed_out" if lost.timed_out else "crashed", str(lost))
            if isinstance(answers, list):
                return answers
            return [await self._alone(record, slot) for record in records]
        finally:
            self._free_slots.put_nowait(slot)

    async def _alone(self, record: FrameRecord, slot: int) -> Answer:
        """Return the answer to a record of a batch that was lost, also without challengers."""
        answers = await self._attempted([record], slot, in_shadow=False)
        if isinstance(answers, list):
            self.on_progress()
            return answers[0]
        healthy = [healthy_record(record, self._router)]
        if isinstance(again := await self._attempted(healthy, slot, in_shadow=False), ChildLost):
            raise ComputeFailed(f"{again}, also for a healthy frame, after it was started anew")
        self.on_progress()
        code = "computation_timed_out" if answers.timed_out else "computation_crashed"
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        log.error("frame %s: %s; it becomes a dead letter", where, answers)
        return DeadLetter(code=code, detail=f"computed alone: {answers}", record=record)

    async def _attempted(
        self, records: Sequence[FrameRecord], slot: int, *, in_shadow: bool = True
    ) -> list[Answer] | ChildLost:
        """Return the answers, or how the child that was computing them was lost."""
        while True:
            child = await self._working()
            # Those of a router that is newer than the child's do no harm.
            without = self._without if in_shadow else frozenset().union(*(r.shadows for r in self._routers.values()))
            try:
                version, seconds, answers, resident, lacking = await child.ask(
                    lambda: ("compute", self._packed(records, slot), without),  # noqa: B023 - sent before the next turn
                    self._timeout_s,
                )
            except ChildLost as lost:
                if not lost.in_turn:
                    continue  # another batch was being computed
                self._tell(lost)
                return lost
            if lacking:
                # A frame is neither lost nor scored by another model: a worker that starts anew has the file fetched.
                raise ComputeFailed(lacking)
            self.observe(seconds)
            self.on_resident(resident)
            unpacked = unpack(answers, records, self._routers[version])
            for one in unpacked:
                if isinstance(one, Computed) and one.shadow is not None and one.shadow.score is None:
                    assert one.routed.shadow is not None
                    self._drop(one.routed.shadow.model, "failed", one.shadow.failure)
            return unpacked

    def _shadows_of(self, records: Sequence[FrameRecord]) -> list[Model]:
        """Return the challengers that score frames of these records' machines."""
        found: dict[str, Model] = {}
        for record in records:
            with contextlib.suppress(FrameRejected, UnicodeDecodeError):
                shadow = self._router.find((record.key or b"").decode()).shadow
                if shadow is not None and shadow.model.digest not in self._without:
                    found[shadow.model.digest] = shadow.model
        return list(found.values())

    def _drop(self, challenger: Model, reason: str, why: str) -> None:
        """Ask a challenger no more: it must not cost the champions anything but time, and that only once."""
        if challenger.digest in self._without:
            return
        self._without |= {challenger.digest}
        metadata = challenger.metadata
        log.error("challenger %s version %s scores no more in shadow: %s", metadata.name, metadata.version, why)
        self.on_shadow_dropped(reason)

    @property
    def shadows(self) -> int:
        """How many challengers score in shadow."""
        return len(set(self._router.shadows) - self._without) if self._version else 0

    async def _working(self) -> ChildProcess:
        """Return a child that can be asked, a new one with the same models if need be."""
        async with self._mending:
            if self._child is None:
                raise ComputeFailed("the computing process has not been started")
            if not self._child.gone:
                return self._child
            await asyncio.to_thread(self._child.stop)
            reason = ""
            for _ in range(MAX_RESTARTS):
                self._child = self._started()
                if not self._files:
                    return self._child
                try:
                    refusal = await self._load_into(
                        self._child, self._version, self._files, self._beside, self._contents
                    )
                except ChildLost as lost:
                    self._tell(lost)
                    reason = str(lost)
                else:
                    if refusal is None:
                        log.warning("a new computing process, %d, has taken over", self._child.pid)
                        return self._child
                    reason = refusal
                await asyncio.to_thread(self._child.stop)
            raise ComputeFailed(f"a computing process that was started anew can't compute: {reason}")

    def _tell(self, lost: ChildLost) -> None:
        log.error("%s; it is started anew", lost)
        self.on_lost("timed_out" if lost.timed_out else "crashed")

    @property
    def _router(self) -> Router:
        return self._routers[self._version]

    @property
    def pid(self) -> int | None:
        """The child's process id while it is there."""
        return None if self._child is None else self._child.pid

    def stop(self) -> None:
        """End the child, whatever it does."""
        if self._child is not None:
            self._child.stop()
        if self._slots is not None:
            self._slots.close()

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


def healthy_record(record: FrameRecord, router: Router) -> FrameRecord:
    """Return a frame of faint noise for the same machine, that its model must be able to score."""
    routed = router.routed[0]
    key = record.key
    try:
        routed = router.find((key or b"").decode())
    except (FrameRejected, UnicodeDecodeError):
        key = b"whirr"
    config = FeatureConfig() if routed.loaded is None else routed.loaded.metadata.features
    columns = config.n_fft + (config.window_columns - 1) * config.hop
    shortest, longest = MIN_FRAME_S * config.sample_rate_hz, MAX_FRAME_S * config.sample_rate_hz
    samples = int(min(max(columns, shortest + 1), longest))
    noise = np.random.default_rng(0).integers(-1000, 1000, (samples, config.channels), np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(config.channels)
        written.setsampwidth(2)
        written.setframerate(config.sample_rate_hz)
        written.writeframes(noise.astype("<i2").tobytes())
    return FrameRecord(key, file.getvalue(), (), record.timestamp_ms)


def _read(path: str, digest: str) -> bytes:
    raw = model_bytes(Path(path))
    if hashlib.sha256(raw).hexdigest() != digest:
        raise ModelError(f"model {path}: the file changes while it is being read; replace it in one step (rename)")
    return raw


def _envelope(record: FrameRecord, value: Place) -> tuple[Any, ...]:
    source = record.topic, record.partition, record.offset
    # The others mean nothing there, and may be of any size.
    headers = tuple(one for one in record.headers if one[0] in KNOWN_HEADERS)
    return record.key, value, headers, record.timestamp_ms, *source
