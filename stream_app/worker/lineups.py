"""What stands beside a registered champion: the champions before it, for late frames, and its challenger, in shadow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from schemas.errors import MissingExtra, ModelError, ServiceUnavailable
from schemas.model_uri import ModelTemplate, ModelUri
from schemas.times import format_rfc3339
from stream_app.pipeline import Champion, Lineup, Model
from stream_app.worker.model_files import ModelFiles
from whirr.mlflow_client import Version
from whirr.settings import Route

log = logging.getLogger(__name__)

Load = Callable[[str], tuple[Model, str]]


class ModelFile(NamedTuple):
    """Where a model was loaded from, and the SHA-256 of that file in hex."""

    path: str
    digest: str


class ServingPlan(NamedTuple):
    """Which models a route's ``model`` stands for.

    Attributes:
        champions: Recording time from which on frames are its, and address, of each; oldest first. The newest has the
            route's address, the others ``models:/NAME/VERSION``.
        challenger: Address of the challenger, or None.
    """

    champions: tuple[tuple[int, str], ...]
    challenger: str | None = None

    @property
    def addresses(self) -> list[str]:
        """Of all models."""
        return [address for _, address in self.champions] + ([] if self.challenger is None else [self.challenger])

    def lineup(self, models: Mapping[str, Model]) -> Lineup:
        """Return the models themselves, given all by address."""
        champions = tuple(Champion(from_us, models[address]) for from_us, address in self.champions)
        return Lineup(champions, None if self.challenger is None else models[self.challenger])


class Beside(NamedTuple):
    """What stands beside champions.

    Attributes:
        plans: Of each champion that does not stand alone, by its address.
        files: Of the models that are named in plans alone, by their addresses.
    """

    plans: Mapping[str, ServingPlan] = {}
    files: Mapping[str, ModelFile] = {}

    def lineups(self, champions: Mapping[str, Model], others: Mapping[str, Model]) -> dict[str, Model | Lineup]:
        """Return what a router needs: each champion, or the lineup that it is part of, by its address."""
        models = {**others, **champions}
        return {key: self.plans[key].lineup(models) if key in self.plans else champions[key] for key in champions}

    @property
    def challengers(self) -> set[str]:
        """Addresses of the challengers."""
        return {plan.challenger for plan in self.plans.values() if plan.challenger is not None}

    def without_challengers(self) -> Beside:
        """Return the same without what scores in shadow."""
        plans = {key: plan._replace(challenger=None) for key, plan in self.plans.items()}
        needed = {address for plan in plans.values() for _, address in plan.champions}
        return Beside(plans, {address: file for address, file in self.files.items() if address in needed})


ALONE = Beside()


class Lineups:
    """Finds and loads what stands beside champions.

    What can't be had or used is said once, and done without: champions judge all the same.

    Args:
        files: Finds models.
        routes: Say whose challengers are wanted.
        keep_s: For how long after a champion's time frames of it may come; None for ever.
        most_challengers: So many are loaded; others are left out.
        now_us: Wall clock, microseconds since the epoch.

    Attributes:
        on_dropped: Called with the reason each time that a challenger is left out: ``refused``, ``limit``.
    """

    def __init__(
        self,
        files: ModelFiles,
        routes: Sequence[Route],
        *,
        keep_s: float | None,
        most_challengers: int,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._files = files
        self._routes = routes
        self._keep_us = None if keep_s is None else round(keep_s * 1e6)
        self._most_challengers = most_challengers
        self._now_us = now_us
        self._loaded: dict[str, tuple[Model, ModelFile]] = {}
        self._refused: set[str] = set()
        self._told: set[str] = set()
        self._away = False
        self.on_dropped: Callable[[str], object] = lambda _reason: None

    def look(self, champions: Mapping[str, ModelFile], load: Load) -> tuple[Beside, dict[str, Model]]:
        """Return what stands beside champions now, with its models by address. Blocks as long as loading takes.

        Args:
            champions: Their files, by address.
            load: Loads a model.
        """
        before, self._loaded = self._loaded, {}
        plans: dict[str, ServingPlan] = {}
        shadowing: set[str] = set()
        self._away = False
        for key, file in champions.items():
            version, uri = self._version(key, file), ModelUri.parse(key)
            if version is None or uri is None:
                continue
            had = _Had(key, uri, before, load)
            terms = [(version.from_us or 0, key), *self._older(had, version)]
            if len(terms) <= len(version.before):
                terms[-1] = 0, terms[-1][1]  # what was of those that are left out is the oldest's
            challenger = self._challenger(had, version.challenger, shadowing)
            if challenger is not None or terms != [(0, key)]:
                plans[key] = ServingPlan(tuple(reversed(terms)), challenger)
        files = {address: file for address, (_, file) in self._loaded.items()}
        return Beside(plans, files), {address: model for address, (model, _) in self._loaded.items()}

    def tell_of_late(self, changed: Collection[str], beside: Beside) -> None:
        """Say of new champions that came after their time had begun: what was answered meanwhile stands."""
        for key in changed:
            from_us = beside.plans[key].champions[-1][0] if key in beside.plans else 0
            if 0 < from_us <= self._now_us():
                since = format_rfc3339(from_us)
                log.warning("%s has frames from %s on, and came only now; what was before has judged some", key, since)

    def _version(self, key: str, file: ModelFile) -> Version | None:
        """Return what the registry says of a champion; None where it doesn't, or is away."""
        try:
            return self._files.version(key, Path(file.path), ask=not self._away)
        except ModelError:  # told of by who asks for the champions, as is the rest
            return None
        except (ServiceUnavailable, MissingExtra):
            self._away = True
            return None

    def _older(self, had: _Had, version: Version) -> Iterator[tuple[int, str]]:
        """Yield the champions of whose time frames may still come, newest first."""
        until_us = version.from_us
        for older in version.before:
            if until_us is None or (self._keep_us is not None and until_us + self._keep_us <= self._now_us()):
                return
            address = self._take(had, older, "frames of its time are judged by the one after it")
            if address is None:
                return
            yield older.from_us or 0, address
            until_us = older.from_us

    def _challenger(self, had: _Had, version: Version | None, shadowing: set[str]) -> str | None:
        wanted = self._most_challengers and any(_is_shadowed(route, had.key) for route in self._routes)
        if version is None or not wanted:
            return None
        address = had.address(version)
        if address not in shadowing and len(shadowing) >= self._most_challengers:
            if self._tell(address, f"{self._most_challengers} others score in shadow already (max_shadow_models)"):
                self.on_dropped("limit")
            return None
        refused = len(self._refused)
        taken = self._take(had, version, "it does not score in shadow")
        if taken is not None:
            shadowing.add(taken)
        elif len(self._refused) > refused:
            self.on_dropped("refused")
        return taken

    def _take(self, had: _Had, version: Version, otherwise: str) -> str | None:
        """Load a version if it isn't, and return its address; None where it can't be had or used."""
        address = had.address(version)
        if address in self._loaded:
            return address
        if address in self._refused:
            return None
        if address in had.before:
            self._loaded[address] = had.before[address]
            return address
        try:
            path = self._files.copy(had.key, version)
            model, digest = had.load(str(path))
        except (ModelError, ServiceUnavailable, MissingExtra) as error:
            if isinstance(error, ModelError):
                self._refused.add(address)  # a version never changes
            self._tell(address, f"{error}; {otherwise}")
            return None
        self._told.discard(address)
        self._loaded[address] = model, ModelFile(str(path), digest)
        return address

    def _tell(self, address: str, what: str) -> bool:
        """Log what is the matter with a version; return False if that was done before."""
        if address in self._told:
            return False
        self._told.add(address)
        log.warning("%s: %s", address, what)
        return True


class _Had(NamedTuple):
    """One champion, while it is looked at: its address, what was loaded the last time, and what loads."""

    key: str
    uri: ModelUri
    before: Mapping[str, tuple[Model, ModelFile]]
    load: Load

    def address(self, version: Version) -> str:
        return str(ModelUri(self.uri.name, None, version.number))


def _is_shadowed(route: Route, key: str) -> bool:
    template = ModelTemplate.parse(route.model)
    return route.shadow and (route.model == key if template is None else template.is_own(key))
