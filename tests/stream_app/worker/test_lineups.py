"""What stands beside a champion in a worker: those before it as long as frames of theirs may come, and challengers."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import ModelError, ServiceUnavailable
from schemas.model_uri import MODEL_FILE, ModelTemplate, ModelUri
from stream_app.pipeline import Router
from stream_app.pipeline.router import RoutedModel
from stream_app.worker.champions import Champions, ModelWatcher, load_champions
from stream_app.worker.lineups import Lineups
from stream_app.worker.model_files import RegisteredFiles
from tests.models import SECOND_US, START_US, tiny_metadata, tiny_model
from whirr.mlflow_client import Listed, Version
from whirr.settings import Route

CHAMPION = "models:/tiny@champion"
HOUR_US = 3600 * SECOND_US


class FakeRegistry:
    """Versions in a folder; of each model one is champion.

    Attributes:
        champions: By name.
        away: Whether it can't be reached.
        asked: Names that were asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.champions: dict[str, Version] = {}
        self.away = False
        self.asked: list[str] = []
        self.bad: set[int] = set()

    def version(self, number: int, from_us: int | None = None) -> Version:
        path = self.folder / f"{number}.onnx"
        if not path.exists():
            tiny_model(path, replace(tiny_metadata(), version=str(number)))
            if number in self.bad:
                path.write_bytes(b"no model")
        return Version(number, hashlib.sha256(path.read_bytes()).hexdigest(), from_us)

    def set(
        self,
        *terms: tuple[int, int | None],
        challenger: int | None = None,
        name: str = "tiny",
    ) -> None:
        """Make the first version champion, and those after it the ones before."""
        newest, *before = (self.version(number, from_us) for number, from_us in terms)
        beside = None if challenger is None else self.version(challenger)
        self.champions[name] = newest._replace(before=tuple(before), challenger=beside)

    def resolve(self, uri: ModelUri) -> Version:
        self._ask(uri.name)
        if uri.name not in self.champions:
            raise ModelError(f"model {uri.name!r} is not registered")
        return self.champions[uri.name]

    def listed(self, template: ModelTemplate) -> dict[str, Listed]:
        self._ask("*")
        return {
            name: Listed(one.number, one.challenger and one.challenger.number)
            for name, one in self.champions.items()
            if template.machine(name)
        }

    def download(self, name: str, number: int, folder: Path) -> Path:
        self._ask(name)
        path = folder / MODEL_FILE
        path.write_bytes((self.folder / f"{number}.onnx").read_bytes())
        return path

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if self.away:
            raise ServiceUnavailable("MLflow at nowhere can't be reached")


class Worker:
    """The models of a worker."""

    def __init__(
        self,
        folder: Path,
        registry: FakeRegistry,
        *routes: Route,
        keep_s: float | None = 3600.0,
        most_challengers: int = 2,
    ) -> None:
        self.now_us = START_US
        self.dropped: list[str] = []
        self.refusals: list[int] = []
        routes = routes or (Route(model=CHAMPION),)
        files = RegisteredFiles(folder / "worker", registry)
        lineups = Lineups(files, routes, keep_s=keep_s, most_challengers=most_challengers, now_us=lambda: self.now_us)
        lineups.on_dropped = self.dropped.append
        self.champions = load_champions(routes, files, lineups=lineups)
        self.watcher = ModelWatcher(routes, self.champions, lambda: self.refusals.append(1), files, lineups=lineups)

    def look(self) -> Champions | None:
        found = self.watcher.check()
        self.champions = found or self.champions
        return found

    def versions(self, machine: str = "any") -> str:
        """The versions that have a machine's frames, newest first, each with the second from which on they do."""
        return told(self.champions.router, machine)


def told(router: Router, machine: str) -> str:
    texts: list[str] = []
    one: RoutedModel | None = router.find(machine)
    shadow = router.find(machine).shadow
    while one is not None:
        name = "-" if one.loaded is None else one.loaded.metadata.version
        texts.append(f"{name}@{(one.from_us - START_US) // SECOND_US}" if one.before is not None else name)
        one = one.before
    return " ".join(texts) + ("" if shadow is None else f" ({shadow.model.metadata.version})")


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    return FakeRegistry(tmp_path)


def at(seconds: float) -> int:
    return START_US + round(seconds * SECOND_US)


def test_a_promotion_brings_the_new_champion_and_keeps_the_one_before(registry, tmp_path):
    registry.set((1, None))
    worker = Worker(tmp_path, registry)
    assert worker.versions() == "1"
    assert worker.look() is None
    registry.set((2, at(60)), (1, None))
    worker.look()
    assert worker.versions() == "2@60 1"
    assert worker.look() is None, "nothing is new"
    registry.set((1, at(120)), (2, at(60)), (1, None))
    worker.look()
    assert worker.versions() == "1@120 2@60 1", "rolled back"
    assert worker.refusals == []


def test_a_worker_that_starts_later_has_the_ones_before_too(registry, tmp_path):
    registry.set((3, at(-60)), (2, at(-600)), (1, None))
    assert Worker(tmp_path, registry).versions() == "3@-60 2@-600 1"


def test_one_is_let_go_when_no_frame_of_its_time_can_come_any_more(registry, tmp_path):
    registry.set((3, at(-60)), (2, at(-3500)), (1, None))
    worker = Worker(tmp_path, registry)
    assert worker.versions() == "3@-60 2@-3500 1"
    worker.now_us = at(200)
    worker.look()
    assert worker.versions() == "3@-60 2", "and older frames are the oldest's"
    worker.now_us = at(3600)
    worker.look()
    assert worker.versions() == "3"
    assert Worker(tmp_path, registry, keep_s=None).versions() == "3@-60 2@-3500 1", "a replay has them all"


def test_an_alias_that_was_set_by_hand_counts_from_when_it_is_seen(registry, tmp_path):
    registry.set((1, None))
    worker = Worker(tmp_path, registry)
    registry.set((2, None))
    worker.look()
    assert worker.versions() == "2"


def test_one_before_that_can_not_be_used_is_done_without(registry, tmp_path, caplog):
    registry.bad = {2}
    registry.set((3, at(60)), (2, at(-60)), (1, None))
    worker = Worker(tmp_path, registry)
    assert worker.versions() == "3"
    assert worker.look() is None
    assert caplog.text.count("models:/tiny/2: ") == 1
    assert worker.refusals == []


def test_a_champion_that_comes_late_is_told_of(registry, tmp_path, caplog):
    registry.set((1, None))
    worker = Worker(tmp_path, registry)
    registry.set((2, at(60)), (1, None))
    worker.look()
    assert "came only now" not in caplog.text
    registry.set((3, at(-1)), (1, None))
    worker.look()
    assert f"{CHAMPION} has frames from 2025-12-31T23:59:59.000000Z on, and came only now" in caplog.text


def test_a_champion_that_is_refused_leaves_all_as_it_was(registry, tmp_path):
    registry.set((2, at(-60)), (1, None), challenger=4)
    worker = Worker(tmp_path, registry)
    registry.bad = {3}
    registry.set((3, at(60)), (2, at(-60)), (1, None), challenger=4)
    assert worker.look() is None
    assert worker.versions() == "2@-60 1 (4)"
    assert worker.refusals == [1]


def test_while_the_registry_is_away_all_stays(registry, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    registry.set((2, at(60)), (1, None), challenger=3)
    worker = Worker(tmp_path, registry)
    registry.away = True
    assert [worker.look() for _ in range(3)] == [None] * 3
    assert worker.versions() == "2@60 1 (3)"
    late = Worker(tmp_path, registry)
    assert late.versions() == "2", "it starts with its copy"
    registry.away = False
    late.look()
    assert late.versions() == "2@60 1 (3)"


# Challengers


def test_a_challenger_comes_and_goes(registry, tmp_path):
    registry.set((1, None))
    worker = Worker(tmp_path, registry)
    registry.set((1, None), challenger=2)
    worker.look()
    assert worker.versions() == "1 (2)"
    registry.set((2, at(60)), (1, None))
    worker.look()
    assert worker.versions() == "2@60 1"
    assert worker.dropped == []


def test_a_route_may_do_without_them(registry, tmp_path):
    registry.set((1, None), challenger=2)
    worker = Worker(tmp_path, registry, Route(model=CHAMPION, shadow=False))
    assert worker.versions() == "1"
    assert not list((tmp_path / "worker").glob("tiny-2-*")), "nor is one fetched"


def test_a_worker_may_do_without_them(registry, tmp_path, caplog):
    registry.set((1, None), challenger=2)
    worker = Worker(tmp_path, registry, most_challengers=0)
    assert (worker.versions(), worker.dropped, caplog.text) == ("1", [], "")


def test_one_that_can_not_be_used_is_told_of_once_and_the_champion_goes_on(registry, tmp_path, caplog):
    registry.bad = {2}
    registry.set((1, None), challenger=2)
    worker = Worker(tmp_path, registry)
    assert worker.look() is None
    assert (worker.versions(), worker.dropped, worker.refusals) == ("1", ["refused"], [])
    assert caplog.text.count("models:/tiny/2: ") == 1
    registry.set((1, None), challenger=3)
    worker.look()
    assert worker.versions() == "1 (3)"


def test_so_many_and_no_more(registry, tmp_path, caplog):
    names = [f"whirr.pump-{number}" for number in range(4)]
    for name in names:
        registry.set((1, None), challenger=2, name=name)
    worker = Worker(tmp_path, registry, Route(model="models:/whirr.{machine}@champion"))
    assert [worker.versions(f"pump-{number}") for number in range(4)] == ["1 (2)", "1 (2)", "1", "1"]
    assert worker.look() is None
    assert worker.dropped == ["limit", "limit"]
    assert caplog.text.count("2 others score in shadow already (max_shadow_models)") == 2


# Machines' own models


def test_of_machines_own_models_only_what_changed_is_asked_for(registry, tmp_path):
    for number in range(3):
        registry.set((1, at(-60)), name=f"whirr.pump-{number}")
    worker = Worker(tmp_path, registry, Route(model="models:/whirr.{machine}@champion"))
    assert worker.versions("pump-0") == "1@-60 -", "before its first model it was learning"
    worker.look()
    registry.asked.clear()
    assert worker.look() is None
    assert registry.asked == ["*"]
    registry.set((1, at(-60)), challenger=2, name="whirr.pump-1")
    worker.look()
    assert worker.versions("pump-1") == "1@-60 - (2)"
    registry.set((2, at(60)), (1, at(-60)), name="whirr.pump-1")
    worker.look()
    assert worker.versions("pump-1") == "2@60 1@-60 -"
    assert set(registry.asked) == {"*", "whirr.pump-1"}
    assert worker.look() is None
    assert worker.versions("pump-0") == "1@-60 -"
