"""The models that a worker serves: loaded at the start, and again whenever a file changes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Champions:
    """The models in use.

    Attributes:
        router: The routing table with its models.
        digests: SHA-256 of each model's file, by path.
    """

    router: Router
    digests: Mapping[str, str]


class _Stat(NamedTuple):
    mtime_ns: int
    size: int
    inode: int


def load_model(path: str, digest: str | None = None) -> tuple[Model, str]:
    """Load a model; return it with the SHA-256 of its file.

    Args:
        path: Of the file.
        digest: What its SHA-256 must be, or None.

    Raises:
        ModelError: The file is missing, can't be computed, changes meanwhile, or is not the one that is meant.
    """
    before = _digest(path)
    model = Model.load(path)
    after = _digest(path)
    if after is None or before != after or digest not in (None, after):
        raise ModelError(f"model {path}: the file changes while it is being read; replace it in one step (rename)")
    return model, after


def load_champions(routes: Sequence[Route]) -> Champions:
    """Load every route's model.

    Raises:
        SettingsError: There are no routes.
        ModelError: A file is missing, can't be computed, or disagrees with its golden windows.
    """
    if not routes:
        raise SettingsError(NO_ROUTES)
    loaded = {path: load_model(path) for path in dict.fromkeys(route.model for route in routes)}
    router = Router.from_routes(routes, {path: model for path, (model, _) in loaded.items()})
    return Champions(router, {path: digest for path, (_, digest) in loaded.items()})


class ModelWatcher:
    """Notices that a model file was replaced, loads the new one beside the old, and says so.

    A file that can't be used is logged once and counted, and the old model goes on.

    Args:
        routes: The routing table.
        champions: What is in use.
        refused: Called for each file that is refused.
    """

    def __init__(self, routes: Sequence[Route], champions: Champions, refused: Callable[[], None]) -> None:
        self._routes = routes
        self._champions = champions
        self._refused = refused
        # Of no file: so the first look always compares digests, and notices a file that has gone since it was loaded.
        self._stats: dict[str, _Stat | None] = dict.fromkeys(champions.digests, _Stat(-1, -1, -1))
        self._seen: dict[str, str | None] = dict(champions.digests)

    def check(self) -> Champions | None:
        """Look at the files; return the models with what is new among them, or None. Blocks: run it in a thread."""
        changed = {path: found for path in self._seen if (found := self._reload(path)) is not None}
        if not changed:
            return None
        models = self._champions.router.models | {path: model for path, (model, _) in changed.items()}
        digests = {**self._champions.digests, **{path: digest for path, (_, digest) in changed.items()}}
        self._champions = Champions(Router.from_routes(self._routes, models), digests)
        return self._champions

    def _reload(self, path: str) -> tuple[Model, str] | None:
        stat = _stat(path)
        if stat == self._stats[path]:
            return None
        digest = _digest(path)
        self._stats[path] = stat
        if digest == self._seen[path]:
            return None
        self._seen[path] = digest
        in_use = self._champions.router.models[path]
        try:
            model, digest = load_model(path)
        except ModelError as error:
            log.error("%s; the model in use goes on: %s", error, _name(in_use))
            self._refused()
            return None
        log.info("%s: %s replaces %s", path, _name(model), _name(in_use))
        return model, digest


def describe(router: Router) -> dict[str, str]:
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
