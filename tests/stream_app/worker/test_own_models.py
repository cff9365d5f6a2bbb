"""Models of single machines in a worker: found all at once, loaded when they come, kept when the registry is away."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import Alert, Score
from schemas.errors import ModelError, ServiceUnavailable
from schemas.model_uri import MODEL_FILE, ModelTemplate, ModelUri
from stream_app.pipeline import Model, backtest
from stream_app.pipeline.lineup import Champion, Lineup
from stream_app.worker.champions import Champions, ModelWatcher, describe, load_champions
from stream_app.worker.model_files import RegisteredFiles
from stream_app.worker.own_models import OwnModels
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import SECOND_US, START_US, course, sent_now, tiny_metadata, tiny_model
from tests.registered_models import register
from tests.stream_app.worker.worker_process import WorkerProcess
from whirr.mlflow_client import Listed, ModelRegistry, Version
from whirr.settings import Route, Settings

TEMPLATE = "models:/whirr.{machine}@champion"
ROUTES = (Route(match="*", model=TEMPLATE),)


class FakeRegistry:
    """Versions of models by name; ``asked`` has each question."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.champions: dict[str, int] = {}
        self.contents: dict[tuple[str, int], bytes] = {}
        self.asked: list[str] = []
        self.away = False

    def add(self, machine_id: str, number: int = 1, content: bytes | None = None) -> str:
        template = ModelTemplate.parse(TEMPLATE)
        assert template is not None
        uri = template.uri(machine_id)
        metadata = replace(tiny_metadata(), name=uri.name, version=str(number))
        path = tiny_model(self.folder / f"{uri.name}-{number}.onnx", metadata)
        self.contents[uri.name, number] = path.read_bytes() if content is None else content
        self.champions[uri.name] = number
        return str(uri)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise ServiceUnavailable("MLflow at nowhere can't be reached")

    def listed(self, template: ModelTemplate) -> dict[str, Listed]:
        self._ask("listed")
        return {name: Listed(n) for name, n in self.champions.items() if template.machine(name) is not None}

    def resolve(self, uri: ModelUri) -> Version:
        self._ask(f"resolve {uri.name}")
        if uri.name not in self.champions:
            raise ModelError(f"model {str(uri)!r} is not registered")
        number = self.champions[uri.name]
        return Version(number, hashlib.sha256(self.contents[uri.name, number]).hexdigest())

    def download(self, name: str, number: int, folder: Path) -> Path:
        self._ask(f"download {name} {number}")
        path = folder / MODEL_FILE
        path.write_bytes(self.contents[name, number])
        return path


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    return FakeRegistry(tmp_path)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "worker" / "models"


def started(copies: Path, registry: FakeRegistry, refusals: list[int]) -> tuple[Champions, ModelWatcher]:
    files = RegisteredFiles(copies, registry)
    champions = load_champions(ROUTES, files)
    return champions, ModelWatcher(ROUTES, champions, lambda: refusals.append(1), files)


def version_of(champions: Champions, machine_id: str) -> str:
    return champions.router.find(machine_id).model_ref.version


def test_machines_learn_until_their_model_comes_without_a_restart(registry, copies, caplog):
    caplog.set_level(logging.INFO)
    registry.add("pump-1")
    champions, watcher = started(copies, registry, refusals := [])
    assert [version_of(champions, one) for one in ("pump-1", "pump-2", "hall:3")] == ["1", "none", "none"]
    assert describe(champions.router) == {"*": f"{TEMPLATE} (1 machine has one; those without are learning)"}
    assert watcher.check() is None
    registry.add("hall:3")
    found = watcher.check()
    assert found is not None
    assert [version_of(found, one) for one in ("pump-1", "pump-2", "hall:3")] == ["1", "none", "1"]
    assert set(found.files) == {"models:/whirr.pump-1@champion", "models:/whirr.hall_-.3@champion"}
    assert "models:/whirr.hall_-.3@champion: whirr.hall_-.3 version 1; the machine is learning no longer" in caplog.text
    registry.add("pump-1", 2)
    found = watcher.check()
    assert found is not None
    assert [version_of(found, one) for one in ("pump-1", "hall:3")] == ["2", "1"]
    assert refusals == []


def test_a_look_costs_one_question_however_many_machines_there_are(registry, copies):
    for i in range(30):
        registry.add(f"pump-{i}")
    _, watcher = started(copies, registry, [])
    watcher.check()
    registry.asked.clear()
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert registry.asked == ["listed"] * 3
    registry.asked.clear()
    registry.add("pump-7", 2)
    assert watcher.check() is not None
    assert registry.asked == ["listed", "resolve whirr.pump-7", "download whirr.pump-7 2"]
    registry.asked.clear()
    started(copies, registry, [])
    assert registry.asked == ["listed"]  # all have a copy


def test_a_registry_that_takes_long_is_asked_more_seldom(registry, copies):
    now_s = [100.0]
    listed = registry.listed

    def slowly(template: ModelTemplate) -> dict[str, Listed]:
        now_s[0] += 1.5
        return listed(template)

    registry.listed = slowly
    own = OwnModels(ROUTES, RegisteredFiles(copies, registry), lambda: now_s[0])
    address = registry.add("pump-1")
    assert own.changed() == {address: Listed(1)}
    now_s[0] += 13.0
    assert own.changed() == {address: Listed(1)}, "not taken note of"
    own.took(address, Listed(1))
    registry.add("pump-1", 2)
    assert own.changed() == {}
    assert registry.asked == ["listed"]
    now_s[0] += 1.0
    assert own.changed() == {address: Listed(2)}
    assert registry.asked == ["listed"] * 2


def test_models_of_other_names_and_aliases_are_nobodys(registry, copies):
    registry.add("pump-1")
    registry.champions["whirr.pump_-x"] = 1  # no machine's name
    registry.champions["pump-2"] = 1
    champions, _ = started(copies, registry, [])
    assert list(champions.files) == ["models:/whirr.pump-1@champion"]


# What can't be used


def test_a_model_that_cant_be_used_leaves_its_machine_learning_and_the_others_scored(registry, copies, caplog):
    registry.add("pump-1", content=b"no model")
    registry.add("pump-2")
    champions, watcher = started(copies, registry, refusals := [])
    assert [version_of(champions, one) for one in ("pump-1", "pump-2")] == ["none", "1"]
    assert "the machine is learning meanwhile" in caplog.text
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert refusals == [1]
    assert caplog.text.count("the machine goes on learning") == 1
    registry.add("pump-1", 2)
    found = watcher.check()
    assert found is not None
    assert version_of(found, "pump-1") == "2"


def test_a_bad_version_leaves_the_one_in_use(registry, copies):
    registry.add("pump-1")
    champions, watcher = started(copies, registry, refusals := [])
    registry.add("pump-1", 2, b"no model")
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert (refusals, version_of(champions, "pump-1")) == ([1], "1")


# A registry that is away, or has lost a model


def test_without_the_registry_a_worker_starts_with_the_copies_and_the_others_learn(registry, copies, caplog):
    registry.add("pump-1")
    registry.add("hall:2")
    started(copies, registry, [])
    registry.add("pump-3")
    registry.away = True
    champions, watcher = started(copies, registry, refusals := [])
    assert [version_of(champions, one) for one in ("pump-1", "hall:2", "pump-3")] == ["1", "1", "none"]
    assert "starting with the copies of 2 machines' models" in caplog.text
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert caplog.text.count("the models in use go on, and it is asked again") == 1
    registry.away = False
    found = watcher.check()
    assert found is not None
    assert version_of(found, "pump-3") == "1"
    assert refusals == []


def test_a_model_that_could_not_be_fetched_is_asked_for_again(registry, copies):
    _, watcher = started(copies, registry, refusals := [])
    registry.add("pump-1")
    resolve = registry.resolve

    def away(uri: ModelUri) -> Version:
        raise ServiceUnavailable("gone in between")

    registry.resolve = away
    assert watcher.check() is None
    registry.resolve = resolve
    found = watcher.check()
    assert found is not None
    assert (version_of(found, "pump-1"), refusals) == ("1", [])


def test_a_model_that_is_registered_no_longer_goes_on_until_the_worker_ends(registry, copies, caplog):
    registry.add("pump-1")
    _, watcher = started(copies, registry, refusals := [])
    watcher.check()
    registry.champions.clear()
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert caplog.text.count("is registered any more") == 1
    assert refusals == []
    champions, _ = started(copies, registry, [])
    assert version_of(champions, "pump-1") == "none"


# MLflow's


def test_mlflow_lists_the_models_of_machines_and_no_others(mlflow_settings: Settings, tmp_path, monkeypatch):
    prefix = f"own{tmp_path.name}."
    template = ModelTemplate.parse(f"models:/{prefix}{{machine}}@champion")
    assert template is not None
    names = [f"{prefix}pump-1", f"{prefix}hall_-.2", f"{prefix}x_-y", f"other{tmp_path.name}.pump-1"]
    for name in names:
        register(mlflow_settings, tmp_path, name)
    register(mlflow_settings, tmp_path, names[0], "2")
    monkeypatch.setattr("whirr.mlflow_client._A_PAGE", 2)
    assert ModelRegistry(mlflow_settings).listed(template) == {
        names[0]: Listed(1, 2),
        names[1]: Listed(1),
    }
    assert ModelRegistry(mlflow_settings).listed(template.with_alias("challenger")) == {
        names[0]: Listed(2),
        names[1]: Listed(1),
    }


# The worker as a whole


async def test_a_machine_learns_is_given_a_model_and_is_scored_without_a_restart(
    kafka: KafkaUnderTest, tmp_path: Path
) -> None:
    """And what was answered is what a backtest answers to which the model is known from the same time on."""
    settings = kafka.settings(
        route=({"match": "*", "model": TEMPLATE, "silent_after_s": 3600.0},),
        model_poll_s=0.2,
        mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
    )
    register(settings, tmp_path, "whirr.pump-1")
    learnt = 14
    levels = [1.0] * 3 + [0.0] * 5 + [1.0] * (learnt - 8) + [1.0] * 4 + [10.0] * 6 + [1.0] * 8
    machines = [course(levels, machine) for machine in ("pump-1", "hall:2", "pump-3")]
    frames = [frame for together in zip(*machines, strict=True) for frame in together]
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[: 3 * learnt]))
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="idle") == 2 * learnt, 60)
        assert worker.metric("whirr_learning_machines") == worker.readiness()["learning_machines"] == 2
        register(settings, tmp_path, "whirr.hall_-.2")
        await eventually_async(
            lambda: worker.metric("whirr_model_info", name="whirr.hall_-.2", route="*", version="1") == 1, 30
        )
        await kafka.produce(settings.frames_topic, sent_now(frames[3 * learnt :]))
        left = len(levels) - learnt
        scored = len(levels) + left
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == scored, 60)
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="idle") == 2 * learnt + left, 60)
        assert worker.metric("whirr_learning_machines") == 1
        assert worker.stop() == 0, worker.log
    one = Model.load(tmp_path / "whirr.pump-1-1.onnx")
    other = Model.load(tmp_path / "whirr.hall_-.2-1.onnx")
    from_us = START_US + learnt * SECOND_US
    models: dict[str, Model | Lineup] = {
        "models:/whirr.pump-1@champion": one,
        "models:/whirr.hall_-.2@champion": Lineup((Champion(from_us, other),)),
    }
    expected = list(backtest(frames, models, settings.route))
    alerts = [json.loads(record.value) for record in await kafka.drain(settings.alerts_topic)]
    assert {(alert["alert_id"], alert["state"], alert["learning"]) for alert in alerts} == {
        (alert.alert_id, alert.state, alert.learning) for alert in expected if isinstance(alert, Alert)
    }
    assert {alert["machine_id"] for alert in alerts if alert["kind"] == "machine"} == {"pump-1", "hall:2"}
    assert {alert["machine_id"] for alert in alerts if alert["learning"]} == {"hall:2", "pump-3"}
    told = [json.loads(record.value) for record in await kafka.drain(settings.scores_topic)]
    names = "frame_id", "status", "idle_reason", "score", "sensor_fault"
    assert {tuple(score[name] for name in names) for score in told} == {
        tuple(getattr(score, name) for name in names) for score in expected if isinstance(score, Score)
    }
