"""Registered models in a worker: which version is meant, its copy, and what happens while the registry is away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.champion_tags import FROM_TAG
from schemas.errors import ModelError, ServiceUnavailable, SettingsError
from schemas.model_uri import MODEL_FILE, ModelTemplate, ModelUri
from stream_app.worker import runner
from stream_app.worker.champions import Champions, ModelWatcher, load_champions
from stream_app.worker.model_files import KEPT_COPIES, RegisteredFiles
from tests.helpers import KafkaUnderTest, eventually, eventually_async
from tests.models import START_US, course, sent_now, tiny_metadata, tiny_model
from tests.registered_models import register
from tests.stream_app.worker.worker_process import WorkerProcess
from trainer.registry import Registry
from whirr.mlflow_client import Listed, ModelRegistry, Version
from whirr.settings import Route, Settings, load_settings

CHAMPION = "models:/tiny@champion"


class FakeRegistry:
    """Versions in a folder; ``champion`` is the number that the alias has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.champion: int | None = 1
        self.digests: dict[int, str | None] = {}
        self.away = False
        self.asked = 0
        self.downloads: list[int] = []

    def add(self, number: int, content: bytes | None = None) -> None:
        path = tiny_model(self.folder / f"{number}.onnx", replace(tiny_metadata(), version=str(number)))
        if content is not None:
            path.write_bytes(content)
        self.digests[number] = hashlib.sha256(path.read_bytes()).hexdigest()

    def resolve(self, uri: ModelUri) -> Version:
        self.asked += 1
        if self.away:
            raise ServiceUnavailable("MLflow at nowhere can't be reached")
        number = uri.version or self.champion
        if number not in self.digests:
            raise ModelError(f"model {str(uri)!r} is not registered")
        return Version(number, self.digests[number])

    def listed(self, template: ModelTemplate) -> dict[str, Listed]:
        return {}

    def download(self, name: str, number: int, folder: Path) -> Path:
        self.downloads.append(number)
        path = folder / MODEL_FILE
        path.write_bytes((self.folder / f"{number}.onnx").read_bytes())
        return path


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    fake = FakeRegistry(tmp_path)
    fake.add(1)
    return fake


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "worker" / "models"


def started(copies: Path, registry: FakeRegistry, refusals: list[int]) -> tuple[Champions, ModelWatcher]:
    routes = (Route(match="*", model=CHAMPION),)
    files = RegisteredFiles(copies, registry)
    champions = load_champions(routes, files)
    return champions, ModelWatcher(routes, champions, lambda: refusals.append(1), files)


def version_of(champions: Champions | None) -> str | None:
    return None if champions is None else champions.router.find("any").model.metadata.version


# What a route may say


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:/pump.v@champion", ModelUri("pump.v", "champion", None)),
        ("models:/pump-7/12", ModelUri("pump-7", None, 12)),
        ("models/pump.onnx", None),
        ("pump@champion.onnx", None),
    ],
)
def test_addresses_in_the_registry_are_told_from_paths(text, expected):
    assert ModelUri.parse(text) == expected
    assert expected is None or str(expected) == text


@pytest.mark.parametrize(
    "text", ["models:/pump", "models:/../x@champion", "models:/a/b@c", "models:/pump/0", "models:"]
)
def test_what_is_no_address_is_refused_with_what_was_expected(text, monkeypatch):
    monkeypatch.setenv("WHIRR_ROUTE", json.dumps([{"model": text}]))
    with pytest.raises(SettingsError, match="expected the path of a file, models:/NAME@champion"):
        load_settings()


# Copies


def test_the_champion_is_fetched_once_and_named_after_what_it_holds(registry, copies):
    champions, watcher = started(copies, registry, refusals := [])
    file = champions.files[CHAMPION]
    assert Path(file.path) == copies / f"tiny-1-{file.digest[:12]}.onnx"
    assert watcher.check() is None
    started(copies, registry, refusals)
    assert (registry.downloads, refusals) == ([1], [])


def test_a_new_champion_is_swapped_in_and_the_old_one_back(registry, copies):
    _, watcher = started(copies, registry, refusals := [])
    registry.add(2)
    assert watcher.check() is None
    registry.champion = 2
    assert version_of(watcher.check()) == "2"
    assert watcher.check() is None
    registry.champion = 1
    assert version_of(watcher.check()) == "1"
    assert (registry.downloads, refusals) == ([1, 2], [])


def test_a_version_by_number_stays(registry, copies):
    registry.add(2)
    registry.champion = 2
    files = RegisteredFiles(copies, registry)
    assert version_of(load_champions((Route(model="models:/tiny/1"),), files)) == "1"


def test_a_damaged_copy_is_fetched_again(registry, copies):
    champions, _ = started(copies, registry, [])
    Path(champions.files[CHAMPION].path).write_bytes(b"torn")
    assert version_of(started(copies, registry, [])[0]) == "1"
    assert registry.downloads == [1, 1]


def test_old_copies_go(registry, copies):
    _, watcher = started(copies, registry, [])
    for number in range(2, KEPT_COPIES + 4):
        registry.add(number)
        registry.champion = number
        assert version_of(watcher.check()) == str(number)
    kept = sorted(int(path.name.split("-")[1]) for path in copies.glob("*.onnx"))
    assert kept == list(range(4, KEPT_COPIES + 4))


# What can't be used


def test_a_bad_version_is_refused_once_and_the_old_one_goes_on(registry, copies, caplog):
    _, watcher = started(copies, registry, refusals := [])
    registry.add(2, b"no model")
    registry.champion = 2
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert (refusals, registry.downloads) == ([1], [1, 2])
    assert caplog.text.count("the model in use goes on: tiny version 1") == 1
    registry.add(3)
    registry.champion = 3
    assert version_of(watcher.check()) == "3"


def test_a_file_that_was_changed_in_the_registry_is_refused_once(registry, copies, caplog):
    _, watcher = started(copies, registry, refusals := [])
    registry.add(2)
    registry.digests[2] = "0" * 64
    registry.champion = 2
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert (refusals, registry.downloads) == ([1], [1, 2])
    assert caplog.text.count("is not the one that was registered") == 1


def test_an_alias_that_was_taken_away_is_told_once(registry, copies):
    _, watcher = started(copies, registry, refusals := [])
    registry.champion = None
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert refusals == [1]


def test_a_worker_starts_with_the_copy_used_last_if_the_champion_is_bad(registry, copies, caplog):
    started(copies, registry, [])
    registry.add(2, b"no model")
    registry.champion = 2
    champions, watcher = started(copies, registry, refusals := [])
    assert version_of(champions) == "1"
    assert "starting with the copy used last" in caplog.text
    assert watcher.check() is None
    assert refusals == [1]


# A registry that is away


def test_without_a_copy_it_is_an_error(registry, copies):
    registry.away = True
    with pytest.raises(ServiceUnavailable):
        started(copies, registry, [])


def test_with_a_copy_a_worker_starts_and_says_so(registry, copies, caplog):
    started(copies, registry, [])
    registry.away = True
    assert version_of(started(copies, registry, [])[0]) == "1"
    assert caplog.text.count("starting with the copy used last") == 1


def test_at_run_time_it_is_warned_of_once_and_asked_again(registry, copies, caplog):
    caplog.set_level(logging.INFO)
    _, watcher = started(copies, registry, refusals := [])
    registry.away = True
    assert [watcher.check() for _ in range(3)] == [None] * 3
    assert caplog.text.count("can't be reached") == 1
    registry.away = False
    registry.add(2)
    registry.champion = 2
    assert version_of(watcher.check()) == "2"
    assert "answers again" in caplog.text
    assert refusals == []


@pytest.mark.slow
async def test_at_the_start_it_is_waited_for(registry, copies, caplog, monkeypatch):
    monkeypatch.setattr(runner, "_BACKOFF_S", (0.01, 0.01))
    registry.away = True
    settings = load_settings(route=({"model": CHAMPION},))
    waiting = asyncio.create_task(runner._champions(settings, RegisteredFiles(copies, registry)))
    await eventually_async(lambda: "waiting for it" in caplog.text)
    await eventually_async(lambda: registry.asked > 2)
    registry.away = False
    assert version_of(await waiting) == "1"
    assert caplog.text.count("waiting for it") == 1


# MLflow's


def test_mlflow_says_which_version_is_meant_and_gives_its_file(mlflow_settings: Settings, model_name, tmp_path):
    number, file = register(mlflow_settings, tmp_path, model_name)
    registry = ModelRegistry(mlflow_settings)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for uri in (ModelUri(model_name, "champion", None), ModelUri(model_name, None, number)):
        assert registry.resolve(uri) == Version(number, digest)
    fetched = registry.download(model_name, number, tmp_path / "fetched")
    assert fetched.read_bytes() == file.read_bytes()
    with pytest.raises(ModelError, match="'best'"):
        registry.resolve(ModelUri(model_name, "best", None))
    with pytest.raises(ModelError, match="version 9 is not registered"):
        registry.resolve(ModelUri(model_name, None, 9))
    with pytest.raises(ModelError, match="'other' is not registered"):
        registry.resolve(ModelUri("other", "champion", None))


def test_mlflow_says_what_stands_beside_a_champion(mlflow_settings: Settings, model_name, tmp_path):
    digests = [
        hashlib.sha256(register(mlflow_settings, tmp_path, model_name, str(n))[1].read_bytes()).hexdigest()
        for n in (1, 2, 3)
    ]
    registry, champion = ModelRegistry(mlflow_settings), ModelUri(model_name, "champion", None)
    assert registry.resolve(champion) == Version(1, digests[0], None, (), Version(3, digests[2]))
    desk = Registry(mlflow_settings)
    desk.promote(model_name, "2", from_us=START_US)
    before = Version(1, digests[0])
    assert registry.resolve(champion) == Version(2, digests[1], START_US, (before,), Version(3, digests[2]))
    desk.promote(model_name, from_us=START_US + 1)
    older = (Version(2, digests[1], START_US), before)
    assert registry.resolve(champion) == Version(3, digests[2], START_US + 1, older)
    assert registry.resolve(ModelUri(model_name, "challenger", None)) == Version(3, digests[2])


def test_tags_that_are_not_what_whirr_writes_are_named(mlflow_settings: Settings, model_name, tmp_path):
    from mlflow.tracking import MlflowClient

    register(mlflow_settings, tmp_path, model_name)
    client = MlflowClient(mlflow_settings.mlflow_tracking_uri)
    client.set_model_version_tag(model_name, "1", FROM_TAG, "tomorrow")
    with pytest.raises(ModelError, match=f"{model_name}' version 1: tag champion_from: 'tomorrow' is no RFC 3339"):
        ModelRegistry(mlflow_settings).resolve(ModelUri(model_name, "champion", None))


def test_a_worker_makes_no_database_where_there_is_none(tmp_path):
    settings = load_settings(mlflow_tracking_uri=f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(
        ServiceUnavailable, match=r"is no file.*`whirr learn`, or `whirr train`.*WHIRR_MLFLOW_TRACKING_URI"
    ):
        ModelRegistry(settings).resolve(ModelUri("tiny", "champion", None))
    assert not (tmp_path / "none.db").exists()


async def test_a_running_worker_takes_what_is_promoted(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    """And goes on with it when a bad one is promoted, and when it starts anew without the registry.

    By hand, so that no time is stated: a new champion has what comes after the worker saw it.
    """
    database = tmp_path / "mlflow.db"
    settings = kafka.settings(
        route=({"match": "*", "model": CHAMPION, "silent_after_s": 3600.0, "shadow": False},),
        model_poll_s=0.2,
        mlflow_tracking_uri=f"sqlite:///{database}",
    )
    register(settings, tmp_path, "tiny", "one")
    frames = course([1.0] * 8)

    async def versions(*expected: str) -> None:
        found = await kafka.consume(settings.scores_topic, len(expected))
        assert [json.loads(record.value)["model"]["version"] for record in found] == list(expected)

    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[:2]))
        await versions("one", "one")
        _promote_by_hand(settings, register(settings, tmp_path, "tiny", "two")[0])
        await eventually_async(
            lambda: worker.metric("whirr_model_info", name="tiny", route="*", version="two") == 1, 30
        )
        await kafka.produce(settings.frames_topic, sent_now(frames[2:4]))
        await versions("one", "one", "two", "two")
        number, _ = register(settings, tmp_path, "tiny", "three")
        _spoil(settings, number)
        _promote_by_hand(settings, number)
        await eventually_async(lambda: worker.metric("whirr_model_refused_total") == 1, 30)
        await kafka.produce(settings.frames_topic, sent_now(frames[4:6]))
        await versions("one", "one", "two", "two", "two", "two")
        assert worker.stop() == 0, worker.log
        assert "Traceback" not in worker.log
    database.unlink()
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        assert worker.log.count("starting with the copy used last") == 1
        await kafka.produce(settings.frames_topic, sent_now(frames[6:]))
        await versions("one", "one", *["two"] * 6)
        assert worker.stop() == 0, worker.log


def _promote_by_hand(settings: Settings, number: int) -> None:
    from mlflow.tracking import MlflowClient

    MlflowClient(settings.mlflow_tracking_uri).set_registered_model_alias("tiny", "champion", str(number))


def _spoil(settings: Settings, number: int) -> None:
    """Overwrite a version's file where the registry keeps it."""
    from mlflow.tracking import MlflowClient

    source = MlflowClient(settings.mlflow_tracking_uri).get_model_version_download_uri("tiny", str(number))
    (Path(source.removeprefix("file://")) / MODEL_FILE).write_bytes(b"no model")


@pytest.mark.slow
def test_a_worker_that_waits_for_the_registry_can_be_stopped(tmp_path: Path) -> None:
    settings = Settings(
        kafka_bootstrap_servers="127.0.0.1:1",
        route=(Route(model=CHAMPION),),
        worker_dir=tmp_path / "worker",
        mlflow_tracking_uri="postgresql://127.0.0.1:1/mlflow",
    )
    with WorkerProcess(settings, tmp_path) as worker:
        eventually(lambda: "waiting for it" in worker.log, 30)
        assert worker.stop() == 0, worker.log
        assert "Traceback" not in worker.log
