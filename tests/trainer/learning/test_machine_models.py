"""What the registry says of a fleet's models, and how that changes, step by step and cut off between any two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from schemas.errors import ModelError, PromotionRefused, SettingsError
from schemas.model_metadata import Baseline
from schemas.model_uri import ModelTemplate
from schemas.times import format_rfc3339
from stream_app.pipeline import Model
from tests.models import tiny_metadata, tiny_model
from tests.registered_models import register, sound_model
from tests.trainer.learning.jobs import at, job
from trainer.learning import machine_models
from trainer.learning.learner import Decision, MachineModels
from trainer.learning.learning_tags import learning_tags
from trainer.learning.machine_incidents import Unlearnable
from trainer.learning.machine_models import FleetRegistry
from trainer.learning.routed_models import RoutedModels
from trainer.learning.spans import Span
from trainer.mlflow_run import MlflowRun
from trainer.promotion import FalseAlarmCount
from trainer.registration import add_version
from trainer.registry import Registry
from whirr.mlflow_client import TrackingServer, quiet
from whirr.settings import Route, Settings

NOW_US = at(5000)
LEFT_OUT = Unlearnable(Span(at(3), at(4)), "incident")


class Fleet:
    """A template of its own, and versions of its machines' models."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.template = ModelTemplate(f"fleet-{uuid4().hex[:8]}.", "", "champion")
        self.registry = self.opened()

    def opened(self) -> FleetRegistry:
        """Begin anew, as after a crash."""
        return FleetRegistry(self.settings, self.template, lambda: NOW_US)

    def trained(self, machine: str, number: int, **more: Any) -> int:
        """Register what a job trained."""
        name = self.template.uri(machine).name
        run = MlflowRun(self.settings, name, datetime.now(UTC))
        file = sound_model(self.folder / f"{uuid4().hex}.onnx", name, str(number), run.run_id)
        run.finish([])
        one = job(10 * number, LEFT_OUT, number=number, **more)
        with quiet(), TrackingServer(self.settings).client() as client:
            return add_version(client, file, FalseAlarmCount(100, 50), learning_tags(one, one.span, None))

    def seen(self, machine: str) -> MachineModels:
        """What somebody who begins now sees of a machine."""
        return self.opened().poll().get(machine, MachineModels())


@pytest.fixture
def fleet(mlflow_settings: Settings, tmp_path: Path) -> Fleet:
    return Fleet(mlflow_settings, tmp_path)


def numbers(models: MachineModels) -> Mapping[str, int]:
    """The versions by what they are."""
    parts = ("champion", "waiting", "challenger", "before", "anchor")
    return {part: version.number for part in parts if (version := getattr(models, part)) is not None}


def test_a_life(fleet: Fleet):
    registry = fleet.registry
    assert numbers(registry.models_of("pump:1")) == {}
    fleet.trained("pump:1", 1, direct=True)
    models = registry.poll()["pump:1"]
    assert numbers(models) == {"waiting": 1}
    assert models.waiting.direct
    assert numbers(registry.promote("pump:1", 1, "the first", direct=True)) == {"champion": 1}
    assert numbers(registry.set_anchor("pump:1", 1)) == {"champion": 1, "anchor": 1}
    fleet.trained("pump:1", 2)
    assert numbers(registry.poll()["pump:1"]) == {"champion": 1, "waiting": 2, "anchor": 1}
    models = registry.set_challenger("pump:1", 2, "it was trained")
    assert numbers(models) == {"champion": 1, "challenger": 2, "anchor": 1}
    assert models.challenger.from_us == NOW_US
    models = registry.promote("pump:1", 2, "it was better")
    assert numbers(models) == {"champion": 2, "before": 1, "anchor": 1}
    assert models.champion.from_us > NOW_US
    assert models.champion.baseline == Span(at(0), at(20))
    assert models.champion.left_out == (LEFT_OUT.span,)
    assert models.champion.job_id == job(1, number=2).job_id
    assert models == fleet.seen("pump:1")
    models = registry.roll_back("pump:1", 2, "it alerted far more")
    assert numbers(models) == {"champion": 1, "anchor": 1}
    assert models.refused == {2}
    fleet.trained("pump:1", 3)
    registry.set_challenger("pump:1", 3, "it was trained")
    models = registry.drop("pump:1", 3, "it was noisier")
    assert numbers(models) == {"champion": 1, "anchor": 1}
    assert models.done == {job(1, number=number).job_id for number in (1, 2, 3)}
    assert models == fleet.seen("pump:1")
    with pytest.raises(PromotionRefused, match="was rolled back"):
        registry.promote("pump:1", 2, "once more")


def test_a_probation_ends_without_a_mark_on_the_champion_before(fleet: Fleet):
    for number in (1, 2):
        fleet.trained("a", number)
        fleet.registry.promote("a", number, "")
    assert numbers(fleet.seen("a")) == {"champion": 2, "before": 1}
    assert numbers(fleet.registry.drop("a", 1, "its probation is over")) == {"champion": 2}
    assert "dropped_at" not in Registry(fleet.settings).version(fleet.registry.name("a"), "1").tags
    assert numbers(fleet.seen("a")) == {"champion": 2}


def test_a_new_baseline_begins_without_an_anchor_and_without_a_shadow(fleet: Fleet):
    for number in (1, 2):
        fleet.trained("a", number)
        fleet.registry.promote("a", number, "")
    fleet.registry.set_anchor("a", 2)
    fleet.trained("a", 3, direct=True)
    assert numbers(fleet.registry.promote("a", 3, "repaired", direct=True)) == {"champion": 3}


Step = Callable[[FleetRegistry], Any]
LIVES: dict[str, tuple[list[Step], Step, dict[str, int]]] = {
    "challenge": (
        [lambda r: r.promote("a", 1, "")],
        lambda r: r.set_challenger("a", 2, ""),
        {"champion": 1, "challenger": 2},
    ),
    "promote": (
        [lambda r: r.promote("a", 1, ""), lambda r: r.set_challenger("a", 2, "")],
        lambda r: r.promote("a", 2, ""),
        {"champion": 2, "before": 1},
    ),
    "promote direct": (
        [lambda r: r.promote("a", 1, ""), lambda r: r.set_anchor("a", 1)],
        lambda r: r.promote("a", 2, "", direct=True),
        {"champion": 2},
    ),
    "drop": (
        [lambda r: r.promote("a", 1, ""), lambda r: r.set_challenger("a", 2, "")],
        lambda r: r.drop("a", 2, ""),
        {"champion": 1},
    ),
    "roll back": (
        [lambda r: r.promote("a", 1, ""), lambda r: r.set_challenger("a", 2, ""), lambda r: r.promote("a", 2, "")],
        lambda r: r.roll_back("a", 2, ""),
        {"champion": 1},
    ),
}


class Killed(BaseException):
    """The program ends here."""


@contextmanager
def dying_after(writes: int) -> Iterator[None]:
    """Kill the program at a write to the registry, after so many that went well."""
    from mlflow.tracking import MlflowClient

    left = [writes]

    def mortal(own: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **named: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return own(*args, **named)

        return write

    with pytest.MonkeyPatch.context() as patched:
        for name in ("set_model_version_tag", "set_registered_model_alias", "delete_registered_model_alias"):
            patched.setattr(MlflowClient, name, mortal(getattr(MlflowClient, name)))
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("life", LIVES)
def test_a_change_that_is_cut_off_anywhere_is_nothing_half_and_done_again_is_whole(life, fleet: Fleet):
    before, change, after = LIVES[life]
    for number in (1, 2):
        fleet.trained("a", number)
    for step in before:
        step(fleet.registry)
    champions = {numbers(fleet.seen("a"))["champion"], after["champion"]}
    for writes in range(20):
        try:
            with dying_after(writes):
                change(fleet.opened())
        except Killed:
            assert numbers(fleet.seen("a"))["champion"] in champions
        else:
            break
    assert 0 < writes < 19
    assert numbers(fleet.seen("a")) == after
    assert numbers(change(fleet.opened())) == after


def test_one_look_at_many_machines_is_a_few_questions_and_the_next_one_question(fleet: Fleet, monkeypatch):
    from mlflow.tracking import MlflowClient

    asked: list[str] = []
    monkeypatch.setattr(machine_models, "_FEW", 2)
    for machine in ("a", "b", "c"):
        fleet.trained(machine, 1)
        fleet.registry.promote(machine, 1, "")
    for name in ("search_registered_models", "search_model_versions", "get_registered_model", "get_model_version"):
        own = getattr(MlflowClient, name)

        def ask(*args: Any, _own: Any = own, _name: str = name, **named: Any) -> Any:
            asked.append(_name)
            return _own(*args, **named)

        monkeypatch.setattr(MlflowClient, name, ask)
    registry = fleet.opened()
    first = registry.poll()
    assert {machine: numbers(one) for machine, one in first.items()} == {
        machine: {"champion": 1} for machine in ("a", "b", "c")
    }
    # Besides, MLflow itself asks for the model of each file that is fetched, once for ever.
    assert [one for one in asked if "search" in one] == ["search_registered_models", "search_model_versions"]
    assert len(asked) <= 2 + 3
    asked.clear()
    assert registry.poll() == first
    assert asked == ["search_registered_models"]
    fleet.trained("b", 2)
    asked.clear()
    assert numbers(registry.poll()["b"]) == {"champion": 1, "waiting": 2}
    assert [one for one in asked if "search" in one] == ["search_registered_models", "search_model_versions"]


def test_a_model_that_a_person_registered_has_the_baseline_of_its_file(fleet: Fleet):
    name = fleet.registry.name("pump-1")
    register(fleet.settings, fleet.folder, name)
    models = fleet.seen("pump-1")
    assert numbers(models) == {"champion": 1}
    champion = models.champion
    assert champion.baseline.from_us == champion.baseline.until_us  # recordings that tell no times
    assert (champion.job_id, champion.left_out, models.done) == ("", (), frozenset())
    register(fleet.settings, fleet.folder, name, "2")
    assert numbers(fleet.seen("pump-1")) == {"champion": 1, "challenger": 2}


def test_a_baseline_of_a_file_is_that_of_the_machine(tmp_path):
    baseline = Baseline(
        baseline_id="0" * 32, from_at=format_rfc3339(at(1)), until_at=format_rfc3339(at(9)), recordings=8, hours=4.0
    )
    metadata = replace(tiny_metadata(), baselines={"pump-1": baseline})
    found = Model.load(tiny_model(tmp_path / "m.onnx", metadata)).metadata
    assert machine_models._by_hand(found.baselines["pump-1"], 0).baseline == Span(at(1), at(9))
    assert machine_models._by_hand(None, 7).baseline == Span(7, 7)


def test_one_unreadable_model_is_told_and_costs_no_other_machine(fleet: Fleet):
    for machine in ("a", "b"):
        fleet.trained(machine, 1)
        fleet.registry.promote(machine, 1, "")
    with quiet(), TrackingServer(fleet.settings).client() as client:
        client.set_model_version_tag(fleet.registry.name("b"), "1", "learn_from", "yesterday")
    found = fleet.opened().poll()
    assert numbers(found["a"]) == {"champion": 1}
    assert (numbers(found["b"]), "learn_from" in found["b"].unreadable) == ({}, True)


def test_who_learns_changes_the_champion_and_no_other_alias(mlflow_settings):
    with pytest.raises(SettingsError, match="expected @champion"):
        FleetRegistry(mlflow_settings, ModelTemplate("x.", "", "production"))


def test_each_route_s_machines_have_the_models_that_it_names(fleet: Fleet):
    other = Fleet(fleet.settings, fleet.folder)
    routes = (
        Route(match="fan-*", model=str(other.template)),
        Route(match="pump-1", model="models:/one@champion"),
        Route(match="*", model=str(fleet.template)),
    )
    for machine in ("fan-1", "pump-1", "pump-2"):
        fleet.trained(machine, 1, direct=True)
    other.trained("fan-1", 1)
    models = RoutedModels(fleet.settings.model_copy(update={"route": routes}), lambda: NOW_US)
    assert {machine: one.waiting.direct for machine, one in models.poll().items()} == {"fan-1": False, "pump-2": True}
    models.apply(Decision(what="promote", machine_id="pump-2", version=1, why="", direct=True))
    models.apply(Decision(what="anchor", machine_id="pump-2", version=1, why=""))
    models.apply(Decision(what="promote", machine_id="fan-1", version=1, why=""))
    found = models.poll()
    assert {machine: numbers(one) for machine, one in found.items()} == {
        "fan-1": {"champion": 1},
        "pump-2": {"champion": 1, "anchor": 1},
    }
    other.trained("fan-1", 2)
    for what in ("challenge", "drop"):
        models.apply(Decision(what=what, machine_id="fan-1", version=2, why=""))
    assert numbers(models.poll()["fan-1"]) == {"champion": 1}
    with pytest.raises(ModelError, match="'pump-1'"):
        models.apply(Decision(what="drop", machine_id="pump-1", version=1, why=""))
