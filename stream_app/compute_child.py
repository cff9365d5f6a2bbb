"""The computing process: ``python -m stream_app.compute_child SOCKET MEMORY LEVEL FORMAT``, see ``ComputeProcess``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

from schemas.dead_letter import DeadLetter
from schemas.frame import FrameRecord
from stream_app.compute import Answers, Refused, Scored
from stream_app.logs import LogFormat, configure_logging
from stream_app.models import load_model
from stream_app.pipeline import Computed, Engine, Router
from stream_app.slots import SharedSlots
from whirr.errors import ModelError, SettingsError
from whirr.settings import Route


class Server:
    """Answers one request after the other; the next one's frames are in the shared memory meanwhile."""

    def __init__(self, connection: Connection, slots: SharedSlots) -> None:
        self._connection = connection
        self._slots = slots
        self._engine = Engine(Router(()))
        self._version = 0

    def serve(self) -> None:
        """Answer until the other end is closed."""
        with contextlib.suppress(EOFError, OSError):  # the worker has gone
            while True:
                kind, *rest = self._connection.recv()
                self._connection.send(self._load(*rest) if kind == "load" else self._compute(*rest))

    def _load(
        self, version: int, routes: Sequence[Mapping[str, Any]], files: Mapping[str, tuple[str, str]]
    ) -> str | None:
        """Load models; return why not, or None."""
        try:
            models = {key: load_model(path, digest)[0] for key, (path, digest) in files.items()}
            self._engine.router = Router.from_routes([Route(**route) for route in routes], models)
        except (ModelError, SettingsError) as error:
            return str(error)
        self._version = version
        return None

    def _compute(self, records: Sequence[tuple[Any, ...]]) -> Answers:
        began = time.perf_counter()
        places = {id(routed): index for index, routed in enumerate(self._engine.router.routed)}
        answers = self._engine.compute(
            [FrameRecord(key, self._slots.get(place), *rest) for key, place, *rest in records]
        )
        packed = [_packed(answer, places) for answer in answers]
        return Answers(self._version, time.perf_counter() - began, packed)


def _packed(answer: Computed | DeadLetter, places: Mapping[int, int]) -> Scored | Refused:
    if isinstance(answer, DeadLetter):
        return Refused(answer.code, answer.detail)
    frame = answer.frame
    return Scored(
        places[id(answer.routed)],
        frame.frame_id,
        frame.machine_id,
        frame.source,
        frame.recorded_us,
        frame.sequence,
        frame.foreign_id,
        answer.score,
        answer.band_error,
        answer.statistics,
        answer.level_dbfs,
        answer.sensor_fault,
        answer.duration_s,
        answer.unfamiliar,
    )


def main() -> None:
    """Serve on the socket and the shared memory whose descriptors are the first arguments."""
    socket, memory, level, log_format = sys.argv[1:]
    configure_logging(level, cast("LogFormat", log_format))
    with Connection(int(socket)) as connection:
        Server(connection, SharedSlots(int(memory))).serve()


if __name__ == "__main__":
    main()
