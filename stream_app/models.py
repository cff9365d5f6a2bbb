"""The models that a worker serves: loaded at the start, and again whenever a file changes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stream_app.pipeline import Model, Router
from whirr.errors import ModelError, SettingsError
from whirr.settings import Route

log = logging.getLogger(__name__)

NO_ROUTES = """no [[route]] says which model scores which machines; put this into whirr.toml, or use --model:

[[route]]
match = "*"
model = "model.onnx"
"""


class _Stat(NamedTuple):
    mtime_ns: int
    size: int
    inode: int


def load_router(routes: Sequence[Route]) -> Router:
    """Load every route's model.

    Raises:
        SettingsError: There are no routes.
        ModelError: A file is missing, can't be computed, or disagrees with its golden windows.
    """
    if not routes:
        raise SettingsError(NO_ROUTES)
    return Router.from_routes(routes, {path: Model.load(path) for path in dict.fromkeys(r.model for r in routes)})


class ModelWatcher:
    """Notices that a model file was replaced, loads the new one beside the old, and says so.

    A file that can't be used is logged once and counted, and the old model goes on.

    Args:
        routes: The routing table.
        router: What is in use.
        refused: Called for each file that is refused.
    """

    def __init__(self, routes: Sequence[Route], router: Router, refused: Callable[[], None]) -> None:
        self._routes = routes
        self._models: dict[str, Model] = dict(router.models)
        self._refused = refused
        self._stats: dict[str, _Stat | None] = {path: _stat(path) for path in self._models}
        self._digests: dict[str, str | None] = {path: _digest(path) for path in self._models}

    def check(self) -> Router | None:
        """Look at the files; return the router with what is new in it, or None. Blocks: run it in a thread."""
        changed = {path: model for path in self._models if (model := self._reload(path)) is not None}
        if not changed:
            return None
        self._models |= changed
        return Router.from_routes(self._routes, self._models)

    def _reload(self, path: str) -> Model | None:
        stat = _stat(path)
        if stat == self._stats[path]:
            return None
        self._stats[path] = stat
        digest = _digest(path)
        if digest == self._digests[path]:
            return None
        self._digests[path] = digest
        try:
            model = Model.load(path)
        except ModelError as error:
            log.error("%s; the model in use goes on: %s", error, _name(self._models[path]))
            self._refused()
            return None
        log.info("%s: %s replaces %s", path, _name(model), _name(self._models[path]))
        return model


def describe(router: Router) -> Mapping[str, str]:
    """Return, for each route's pattern, the model that it has."""
    return {routed.route.match: f"{routed.route.model} ({_name(routed.model)})" for routed in router.routed}


def _name(model: Model) -> str:
    return f"{model.metadata.name} version {model.metadata.version}"


def _stat(path: str) -> _Stat | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return _Stat(found.st_mtime_ns, found.st_size, found.st_ino)


def _digest(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
