"""The models that a worker serves: loaded at the start, and again whenever a file or the champion changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from schemas.errors import MissingExtra, ModelError, ServiceUnavailable, SettingsError
from schemas.model_uri import ModelTemplate
from stream_app.pipeline import Model, Router
from stream_app.pipeline.model_stack import Stacks
from stream_app.pipeline.router import RoutedModel
from stream_app.worker import tried_models
from stream_app.worker.child_process import START_S, ChildLost, ChildProcess
from stream_app.worker.lineups import ALONE, Beside, Lineups, Load, ModelFile
from stream_app.worker.model_files import ModelFiles, file_digest
from stream_app.worker.own_models import OwnModels, addresses_at_start, templates_of
from whirr.counts import counted
from whirr.settings import Route

log = logging.getLogger(__name__)

OWN = "machines' own models"
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
        files: Each champion's file, by ``route.model``, or a machine's own by its address.
        beside: The champions before them and the challengers.
    """

    router: Router
    files: Mapping[str, ModelFile]
    beside: Beside = ALONE

    def newest(self) -> Champions:
        """Return the same with the newest champions alone: for frames of which nobody knows when they were recorded."""
        routes = [routed.route for routed in self.router.routed]
        return Champions(Router.from_routes(routes, self.router.models), self.files)


class _Stat(NamedTuple):
    mtime_ns: int
    size: int
    inode: int


def load_model(path: str, digest: str | None = None, stacks: Stacks | None = None) -> tuple[Model, str]:
    """Load a model; return it with the SHA-256 of its file.

    Args:
        path: Of the file.
        digest: What its SHA-256 must be, or None.
        stacks: As :meth:`Model.load` takes them.

    Raises:
        ModelError: The file is missing, can't be computed, changes meanwhile, or is not the one that is meant.
    """
    before = file_digest(Path(path))
    model = Model.load(path, stacks=stacks)
    after = file_digest(Path(path))
    if after is None or before != after or digest not in (None, after):
        raise ModelError(f"model {path}: the file changes while it is being read; replace it in one step (rename)")
    return model, after


class ModelTrial:
    """Loads and tries models in a process of its own, which is killed when one takes too long.

    A model is somebody else's program. One whose golden windows never end, or that ends the process, is refused like
    any other that can't be used. What comes back describes the model and can't score: another process does.

    Args:
        limit_s: How long one model may take.
        copies: The folder of copies of registered models: those of them that were tried before are not tried again.
    """

    def __init__(self, limit_s: float, copies: Path | None = None) -> None:
        self._limit_s = limit_s
        self._copies = copies
        self._child: ChildProcess | None = None

    def __call__(self, path: str) -> tuple[Model, str]:
        """Load a model, as :func:`load_model` does.

        Raises:
            ModelError: It can't be used.
        """
        copy = Path(path)
        is_copy = self._copies is not None and copy.is_relative_to(self._copies)
        if is_copy and (digest := file_digest(copy)) is not None:
            known = tried_models.recall(copy, digest)
            if known is not None:
                return known, digest
        model, digest = self._tried(path)
        if is_copy:
            tried_models.remember(model)
        return model, digest

    def _tried(self, path: str) -> tuple[Model, str]:
        if self._child is None:
            self._child = ChildProcess("stream_app.worker.compute_child", ("error", "auto"))
        try:
            self._child.ask_now(("begin",), START_S)
            metadata, digest, refusal = self._child.ask_now(("try", path), self._limit_s)
        except ChildLost as lost:
            self.close()
            raise ModelError(f"model {path!r} can't be used: loading and trying it, {lost}") from None
        if refusal is not None:
            raise ModelError(refusal)
        return Model.described(metadata, path, digest), digest

    def close(self) -> None:
        """End the process; the next model has a new one."""
        if self._child is not None:
            self._child.stop()
        self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_champions(
    routes: Sequence[Route],
    files: ModelFiles | None = None,
    load: Load = load_model,
    lineups: Lineups | None = None,
) -> Champions:
    """Load every route's model; where a registered one can't be had or used, the copy that was used last.

    Of routes whose machines have a model each, all that there are; a machine whose own can't be used is learning.

    Args:
        routes: The routing table.
        files: Finds the models; default: paths alone.
        load: Loads one; default: into this process.
        lineups: Finds the champions before, and the challengers; default: registered champions stand alone.

    Raises:
        SettingsError: There are no routes.
        ModelError: A model is missing, can't be computed, or disagrees with its golden windows.
        ServiceUnavailable: The registry can't be reached, and there is no copy.
    """
    if not routes:
        raise SettingsError(NO_ROUTES)
    files = files or ModelFiles()
    named = dict.fromkeys(route.model for route in routes if ModelTemplate.parse(route.model) is None)
    loaded = {key: _load_first(key, files, load) for key in named}
    for address in addresses_at_start(templates_of(routes), files):
        try:
            loaded[address] = _load_first(address, files, load)
        except (ModelError, ServiceUnavailable) as error:
            log.error("%s; the machine is learning meanwhile", error)
    models = {key: model for key, (model, _) in loaded.items()}
    return _put_together(routes, models, {key: file for key, (_, file) in loaded.items()}, load, lineups)


def _put_together(
    routes: Sequence[Route],
    models: Mapping[str, Model],
    files: Mapping[str, ModelFile],
    load: Load,
    lineups: Lineups | None,
) -> Champions:
    beside, others = (ALONE, {}) if lineups is None else lineups.look(files, load)
    return Champions(Router.from_routes(routes, beside.lineups(models, others)), files, beside)


def _load_first(key: str, files: ModelFiles, load: Load) -> tuple[Model, ModelFile]:
    try:
        return _load(key, files.locate(key), files, load)
    except (ModelError, ServiceUnavailable) as error:
        path = files.last_used(key)
        if path is None:
            raise
        log.warning("%s; starting with the copy used last, %s", error, path)
        return _load(key, path, files, load)


def _load(key: str, path: Path, files: ModelFiles, load: Load) -> tuple[Model, ModelFile]:
    model, digest = load(str(path))
    files.used(key, path)
    return model, ModelFile(str(path), digest)


class ModelWatcher:
    """Notices that a model was replaced, loads the new one beside the old, and says so.

    What can't be used is logged once and counted, and the old model goes on; so it does while the registry is away.

    Args:
        routes: The routing table.
        champions: What is in use.
        refused: Called for each model that is refused.
        files: Finds the models; default: paths alone.
        trial: Makes what loads models, for one look; default: into this process.
        lineups: As :func:`load_champions` had it.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        champions: Champions,
        refused: Callable[[], None],
        files: ModelFiles | None = None,
        trial: Callable[[], AbstractContextManager[Load]] = lambda: nullcontext(load_model),
        lineups: Lineups | None = None,
    ) -> None:
        self._routes = routes
        self._champions = champions
        self._refused = refused
        self._files = files or ModelFiles()
        self._trial = trial
        self._lineups = lineups
        # Of no file: so the first look always compares digests, and notices a file that has gone since it was loaded.
        self._stats: dict[str, tuple[Path, _Stat | None]] = {}
        self._seen: dict[str, str | None] = {key: file.digest for key, file in champions.files.items()}
        self._named = [key for key in champions.files if key not in champions.router.own]
        self._own = OwnModels(routes, self._files)
        self._away: set[str] = set()
        self._told: dict[str, str] = {}

    def check(self) -> Champions | None:
        """Look for changes; return the models with what is new among them, or None. Blocks: run it in a thread."""
        with self._trial() as load:
            changed = {key: found for key in self._named if (found := self._reload(key, load)) is not None}
            changed |= self._reload_own(load)
            models = self._champions.router.models | {key: model for key, (model, _) in changed.items()}
            files = {**self._champions.files, **{key: file for key, (_, file) in changed.items()}}
            champions = _put_together(self._routes, models, files, load, self._lineups)
        if not changed and champions.beside == self._champions.beside:
            return None
        if self._lineups is not None:
            self._lineups.tell_of_late(changed, champions.beside)
        self._champions = champions
        return champions

    def _reload_own(self, load: Load) -> dict[str, tuple[Model, ModelFile]]:
        """Look for new versions of single machines' models: all are asked for at once."""
        found: dict[str, tuple[Model, ModelFile]] = {}
        try:
            new = self._own.changed()
        except (ServiceUnavailable, MissingExtra) as error:
            self._is_away(OWN, error)
            return found
        self._is_back(OWN)
        for address, number in new.items():
            model = self._reload(address, load)
            if address in self._away:
                break  # it would be for the others, too
            self._own.took(address, number)
            if model is not None:
                found[address] = model
        return found

    def _reload(self, key: str, load: Load) -> tuple[Model, ModelFile] | None:
        path = self._locate(key)
        if path is None:
            return None
        stat = _stat(path)
        if (path, stat) == self._stats.get(key):
            return None
        digest = file_digest(path)
        self._stats[key] = path, stat
        if digest == self._seen.get(key):
            return None
        self._seen[key] = digest
        return self._load(key, path, load)

    def _load(self, key: str, path: Path, load: Load) -> tuple[Model, ModelFile] | None:
        in_use = self._champions.router.models.get(key)
        try:
            model, file = _load(key, path, self._files, load)
        except ModelError as error:
            self._refuse(key, error)
            return None
        if in_use is None:
            log.info("%s: %s; the machine is learning no longer", key, _name(model))
        else:
            log.info("%s: %s replaces %s", key, _name(model), _name(in_use))
        return model, file

    def _locate(self, key: str) -> Path | None:
        try:
            path = self._files.locate(key)
        except (ServiceUnavailable, MissingExtra) as error:
            self._is_away(key, error)
            return None
        except ModelError as error:
            if self._told.get(key) != str(error):
                self._refuse(key, error)
            self._told[key] = str(error)
            path = None
        if path is not None:
            self._told.pop(key, None)
        self._is_back(key)
        return path

    def _is_away(self, key: str, error: Exception) -> None:
        if not self._away:
            log.warning("%s; the models in use go on, and it is asked again", error)
        self._away.add(key)

    def _is_back(self, key: str) -> None:
        if key in self._away:
            self._away.discard(key)
            log.info("%s: the registry answers again", key)

    def _refuse(self, key: str, error: ModelError) -> None:
        in_use = self._champions.router.models.get(key)
        if in_use is None:
            log.error("%s; the machine goes on learning", error)
        else:
            log.error("%s; the model in use goes on: %s", error, _name(in_use))
        self._refused()


def describe(router: Router) -> dict[str, str]:
    """Return, for each route's pattern, the model that it has."""
    return {one.route.match: f"{one.route.model} ({_in_words(one, router)})" for one in router.routed}


def _in_words(routed: RoutedModel, router: Router) -> str:
    if routed.loaded is not None:
        return _name(routed.loaded)
    have = len(router.models_of(routed))
    return f"{counted(have, 'machine has', 'machines have')} one; those without are learning"


def _name(model: Model) -> str:
    return f"{model.metadata.name} version {model.metadata.version}"


def _stat(path: Path) -> _Stat | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stat(found.st_mtime_ns, found.st_size, found.st_ino)
