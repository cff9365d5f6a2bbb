"""The computing process: ``python -m stream_app.worker.compute_child PARENT SOCKET MEMORY LEVEL FORMAT``."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Collection, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from schemas.errors import FrameRejected, ModelError, SettingsError
from schemas.frame import FrameRecord
from stream_app.pipeline import Engine, Model, Router
from stream_app.pipeline.model_stack import Stacks
from stream_app.pipeline.optional_kernels import find_kernels
from stream_app.worker.answers import pack
from stream_app.worker.champions import load_model
from stream_app.worker.compute import ComputedBatch, ModelsMessage
from stream_app.worker.resident_models import CopyGone, ResidentModels
from stream_app.worker.slots import SharedSlots
from whirr import process
from whirr.logs import LogFormat, configure_logging
from whirr.settings import Route

log = logging.getLogger(__name__)


class ComputeServer:
    """Answers one request after the other; the next one's frames are in the shared memory meanwhile."""

    def __init__(self, connection: Connection, slots: SharedSlots | None) -> None:
        self._connection = connection
        self._slots = slots
        self._engine = Engine(Router(()))
        self._version = 0
        self._models: dict[str, Model] = {}  # by digest
        self._resident = ResidentModels(0)
        self._stacks = Stacks()  # of models that are tried

    def serve(self) -> None:
        """Answer until the other end is closed."""
        answer: dict[str, Callable[..., Any]] = {
            "begin": lambda: None,
            "load": self._load,
            "compute": self._compute,
            "try": self._try,
        }
        with contextlib.suppress(EOFError, OSError):  # the worker has gone
            while True:
                kind, *rest = self._connection.recv()
                self._connection.send(answer[kind](*rest))

    def _load(self, told: ModelsMessage) -> str | None:
        """Use models from now on; return why not, or None. Those that are here stay as they are."""
        self._resident.max_bytes = told.max_model_bytes
        files = (*told.models.values(), *told.beside.files.values())
        try:
            known = dict(self._models)
            for path, digest in files:
                if digest in known:
                    continue
                if digest in told.described:
                    known[digest] = Model.described(told.described[digest], path, digest)
                elif digest in told.lacking:
                    known[digest] = Model.load(path, told.lacking[digest])
                else:
                    known[digest] = load_model(path, digest)[0]
            loaded = {key: known[digest] for key, (_, digest) in told.models.items()}
            others = {address: known[file.digest] for address, file in told.beside.files.items()}
            self._engine.router = Router.from_routes(
                [Route(**route) for route in told.routes], told.beside.lineups(loaded, others)
            )
        except (ModelError, SettingsError) as error:
            return str(error)
        self._version = told.version
        self._models = {digest: known[digest] for _, digest in files}
        paths: dict[str, list[Path]] = {}
        for path, digest in files:
            paths.setdefault(digest, []).append(Path(path))
        self._resident.keep(paths)
        return None

    def _try(self, path: str) -> tuple[str, str, str | None]:
        """Load and try a model; return its metadata and digest, or else why it can't be used."""
        try:
            model, digest = load_model(path, stacks=self._stacks)
        except ModelError as error:
            return "", "", str(error)
        return model.metadata_json(), digest, None

    def _compute(self, records: Sequence[tuple[Any, ...]], without: Collection[str]) -> ComputedBatch:
        began = time.perf_counter()
        assert self._slots is not None
        try:
            without = self._ready(dict.fromkeys(key for key, *_ in records), without)
        except CopyGone as error:
            return ComputedBatch(self._version, 0.0, pack([]), self._resident.count, str(error))
        answers = self._engine.compute(
            [FrameRecord(key, self._slots.get(place), *rest) for key, place, *rest in records], without
        )
        packed = pack(answers)
        self._resident.trim()
        return ComputedBatch(self._version, time.perf_counter() - began, packed, self._resident.count)

    def _ready(self, keys: Collection[bytes | None], without: Collection[str]) -> Collection[str]:
        """Have the models of machines ready; return ``without`` those of the challengers that can't be had.

        A champion that is there and can't be computed does not stop the others: its own frames become dead letters.

        Raises:
            CopyGone: A champion's file has gone.
        """
        router = self._engine.router
        for key in keys:
            try:
                models = list(router.of_machine((key or b"").decode()))
            except (FrameRejected, UnicodeDecodeError):
                continue  # the frame is none, and is answered so
            for model in models:
                try:
                    self._resident.need(model)
                except ModelError as error:
                    if model.digest in router.shadows:
                        log.warning("%s; it does not score in shadow", error)
                        without = {*without, model.digest}
                    elif isinstance(error, CopyGone):
                        raise
                    else:
                        log.error("%s; frames that it judges become dead letters", error)
        return without


def main() -> None:
    """Serve on the socket and the shared memory whose descriptors are given after the parent's process id."""
    parent, socket, *memory, level, log_format = sys.argv[1:]
    process.end_with(int(parent))
    configure_logging(level, cast("LogFormat", log_format))
    if memory:  # else models are tried alone, without features
        find_kernels()  # which may compile; a batch could not wait for that
    with Connection(int(socket)) as connection:
        ComputeServer(connection, SharedSlots(int(memory[0])) if memory else None).serve()


if __name__ == "__main__":
    main()
