"""The computing process: ``python -m stream_app.worker.compute_child PARENT SOCKET MEMORY LEVEL FORMAT``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

from schemas.errors import ModelError, SettingsError
from schemas.frame import FrameRecord
from stream_app.pipeline import Engine, Model, Router
from stream_app.worker.answers import pack
from stream_app.worker.champions import load_model
from stream_app.worker.compute import ComputedBatch
from stream_app.worker.lineups import Beside
from stream_app.worker.slots import SharedSlots
from whirr import process
from whirr.logs import LogFormat, configure_logging
from whirr.settings import Route


class ComputeServer:
    """Answers one request after the other; the next one's frames are in the shared memory meanwhile."""

    def __init__(self, connection: Connection, slots: SharedSlots | None) -> None:
        self._connection = connection
        self._slots = slots
        self._engine = Engine(Router(()))
        self._version = 0
        self._models: dict[str, Model] = {}  # by digest

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

    def _load(
        self,
        version: int,
        routes: Sequence[Mapping[str, Any]],
        models: Mapping[str, tuple[str, str]],
        beside: Beside,
        lacking: Mapping[str, bytes],
    ) -> str | None:
        """Use models from now on; return why not, or None.

        Args:
            version: Of all of them together.
            routes: The routing table.
            models: Path and digest of each champion, by ``route.model``.
            beside: The champions before them and the challengers.
            lacking: The files of those that are not here, by digest; single machines' are read from their paths. The
                others stay as they are.
        """
        try:
            known = dict(self._models)
            for path, digest in (*models.values(), *beside.files.values()):
                if digest not in known:
                    known[digest] = (
                        Model.load(path, lacking[digest]) if digest in lacking else load_model(path, digest)[0]
                    )
            loaded = {key: known[digest] for key, (_, digest) in models.items()}
            others = {address: known[file.digest] for address, file in beside.files.items()}
            self._engine.router = Router.from_routes(
                [Route(**route) for route in routes], beside.lineups(loaded, others)
            )
        except (ModelError, SettingsError) as error:
            return str(error)
        self._version = version
        self._models = {digest: known[digest] for _, digest in (*models.values(), *beside.files.values())}
        return None

    def _try(self, path: str) -> tuple[str, str, str | None]:
        """Load and try a model; return its metadata and digest, or else why it can't be used."""
        try:
            model, digest = load_model(path)
        except ModelError as error:
            return "", "", str(error)
        return model.metadata_json(), digest, None

    def _compute(self, records: Sequence[tuple[Any, ...]], without: Collection[str]) -> ComputedBatch:
        began = time.perf_counter()
        assert self._slots is not None
        answers = self._engine.compute(
            [FrameRecord(key, self._slots.get(place), *rest) for key, place, *rest in records], without
        )
        packed = pack(answers)
        return ComputedBatch(self._version, time.perf_counter() - began, packed)


def main() -> None:
    """Serve on the socket and the shared memory whose descriptors are given after the parent's process id."""
    parent, socket, *memory, level, log_format = sys.argv[1:]
    process.end_with(int(parent))
    configure_logging(level, cast("LogFormat", log_format))
    with Connection(int(socket)) as connection:
        ComputeServer(connection, SharedSlots(int(memory[0])) if memory else None).serve()


if __name__ == "__main__":
    main()
