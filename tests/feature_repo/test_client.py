"""Readers of the feature store, on every store: the client, materialise, status, and the commands that print them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands import run
from feature_repo import fields
from feature_repo.client import AudioFeatures, FeatureClient, HealthFeatures
from feature_repo.freshness import store_status
from feature_repo.history import History, write_rows
from feature_repo.materialize import Materialized, materialize
from feature_repo.rows import FeatureRow
from tests.feature_stores import SECOND_US, SHIPPED, StoreUnderTest, a_store, row
from whirr.process import free_port
from whirr.settings import Route

pytestmark = pytest.mark.xdist_group("feature-client")  # its store is made once

REAL = pytest.mark.real_services
NOW = datetime.now(UTC).replace(microsecond=0)
START = NOW - timedelta(hours=2)
START_US = int(START.timestamp()) * SECOND_US


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def rows_of(machine: str, *seconds: float) -> list[FeatureRow]:
    """Rows of a machine; the second is also the value of all numbers."""
    return [row(machine, second, second, start_us=START_US) for second in seconds]


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("redis", marks=REAL), pytest.param("postgres", marks=REAL)]
)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreUnderTest]:
    """An applied store with three machines online: a and b of two hours ago, c of now."""
    urls = {
        "redis_url": request.getfixturevalue("redis_url") if request.param == "redis" else "",
        "postgres_dsn": request.getfixturevalue("postgres_dsn") if request.param == "postgres" else "",
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        a_store(request.param, tmp_path_factory.mktemp(request.param), patch, **urls) as found,
    ):
        now = row("c", 0, 3.0, start_us=int(NOW.timestamp()) * SECOND_US)
        found.connect().push([*rows_of("a", 1), *rows_of("b", 2), now])
        yield found


@pytest.fixture(scope="module")
def client(store: StoreUnderTest) -> Iterator[FeatureClient]:
    with FeatureClient(store.settings) as found:
        yield found


@pytest.fixture
def history(store: StoreUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty history of the test's own; the store's definitions name another."""
    monkeypatch.setenv(fields.HISTORY_VARIABLE, str(tmp_path / "history"))
    return fields.history_folder(store.repo)


def test_the_clients_classes_have_the_stored_fields_in_their_order():
    assert AudioFeatures.__slots__ == tuple(field.name for field in fields.AUDIO_FIELDS)
    assert HealthFeatures.__slots__ == tuple(field.name for field in fields.HEALTH_FIELDS)


def test_a_machine_is_read_with_its_times(client: FeatureClient):
    a = client.machine("a")
    assert a is not None
    assert a.audio == AudioFeatures(*[1.0] * 13)
    assert a.health == HealthFeatures(1.0, 1.0, 1.0, 1, 1, "text 1", "text 1", "text 1")
    assert a.audio_at == a.health_at == a.seen_at == at(1)


def test_many_are_read_at_once_in_the_order_asked_and_unknown_ones_left_out(client: FeatureClient):
    assert [one.machine_id for one in client.machines(["c", "nobody", "a"])] == ["c", "a"]
    assert client.machine("nobody") is None
    assert client.machines([]) == []


def test_all_machines_are_known_without_being_named(client: FeatureClient):
    assert client.machine_ids() == ["a", "b", "c"]
    assert [one.machine_id for one in client.machines()] == ["a", "b", "c"]


def test_a_client_can_be_used_again_after_it_was_closed(client: FeatureClient):
    client.close()
    assert client.machine_ids() == ["a", "b", "c"]


def test_status_tells_age_by_view_and_names_the_silent(store: StoreUnderTest, client: FeatureClient, history: Path):
    write_rows(history, rows_of("a", 1))
    routes = (Route(match="b", model="m.onnx", silent_after_s=86_400),)
    settings = store.settings.model_copy(update={"route": routes})
    status = store_status(client, settings, NOW, "*", None, 86_400)
    assert {one.machine_id: one.presence for one in status.machines} == {"a": "silent", "b": "fresh", "c": "fresh"}
    assert {view: known.age_s for view, known in status.machines[0].views.items()} == dict.fromkeys(fields.VIEWS, 7199)
    assert status.history_days == (1, at(1).date(), at(1).date())
    assert store_status(client, settings, NOW, "*", 9000, 86_400).named("silent") == []
    assert store_status(client, settings, NOW, "[ab]", 5, 6000).named("gone") == ["a", "b"]


def test_materialise_fills_what_is_missing_and_overwrites_nothing_newer(store: StoreUnderTest, history: Path):
    write_rows(history, [*rows_of("old", -50_000, -40_000), *rows_of("a", 0.5), *rows_of("b", 1, 20)])
    online = store.connect()
    assert materialize(online, History(history), start=at(-100), match="[ab]") == Materialized(found=2, written=1)
    assert materialize(online, History(history)) == Materialized(found=3, written=1)
    with FeatureClient(store.settings) as client:
        values = {one.machine_id: one.audio.rms_mean for one in client.machines(["a", "b", "old"])}
        assert values == {"a": 1.0, "b": 20.0, "old": -40_000.0}
    online.push(rows_of("b", 2))  # as it was: SQLite and PostgreSQL overwrite; Redis keeps what is newer


def test_rows_of_a_backfill_without_a_model_are_readable(store: StoreUnderTest, history: Path):
    unknown: tuple[int | None, ...] = (None, None, None, 7, 0, None, None, None)
    write_rows(history, [FeatureRow("filled", "", START_US, START_US, (*[0.5] * 13, *unknown))])
    assert materialize(store.connect(), History(history), match="filled").written == 1
    with FeatureClient(store.settings) as client:
        machine = client.machine("filled")
    assert machine is not None
    assert machine.audio.mfcc_5 == 0.5
    assert machine.health.frames_seen == 7
    assert (machine.health.score_mean, machine.health.gaps) == (None, 0)
    assert machine.health.alert_state in (None, "")


def test_a_store_that_an_older_version_applied_is_read_without_what_it_lacks(tmp_path, monkeypatch):
    from feast import FeatureView

    from feature_repo import definitions as d

    health = d.machine_health
    schema = [field for field in health.schema if field.name != "learning_since"]
    older = FeatureView(name=health.name, entities=[d.machine], ttl=health.ttl, schema=schema, source=d.push)
    with a_store("sqlite", tmp_path, monkeypatch) as store:
        store.apply([d.project, d.machine, d.history, d.push, d.machine_audio_features, older])
        store.connect().push(rows_of("a", 1))
        with FeatureClient(store.settings) as client:
            machine = client.machine("a")
            assert machine is not None
            assert machine.health == HealthFeatures(1.0, 1.0, 1.0, 1, 1, "text 1", "text 1", None)


# The commands; one store is enough for what they print.


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreUnderTest]:
    with a_store("sqlite", tmp_path / "store", monkeypatch) as found:
        monkeypatch.setenv("WHIRR_FEATURE_REPO", str(found.repo))
        monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(found.settings.feature_store_yaml))
        monkeypatch.setenv(fields.HISTORY_VARIABLE, str(tmp_path / "history"))
        yield found


def test_commands_of_an_empty_store_say_so(commands: StoreUnderTest, capsys: pytest.CaptureFixture[str]):
    assert run(["machines", "--once"]) == 0
    assert "no machine has written features yet" in " ".join(capsys.readouterr().out.split())
    assert run(["machines", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machines"] == []
    assert run(["feast", "status"]) == 0
    out = capsys.readouterr().out
    assert "machines   none yet" in out
    assert "history: empty" in out
    assert run(["feast", "materialize"]) == 0
    assert "the history holds nothing" in capsys.readouterr().err


def test_commands_of_a_store_with_machines(
    commands: StoreUnderTest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_rows(tmp_path / "history", [*rows_of("a", 1), *rows_of("b", 3)])
    assert run(["feast", "materialize", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) | {"store": "", "history": ""} == {
        "store": "",
        "history": "",
        "found": 2,
        "written": 2,
    }
    assert run(["machines"]) == 0  # no screen here: printed once
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["machine", "b", "a"]  # the higher ratio first
    assert run(["machines", "--json", "--machine", "a", "--silent-after", "1d"]) == 0
    (a,) = json.loads(capsys.readouterr().out)["machines"]
    assert a["state"] == "text 1"
    assert a["audio"]["rms_mean"] == 1.0
    assert a["seen_at"] == at(1).isoformat()
    assert run(["feast", "status", "--silent-after", "10m"]) == 1
    assert "2 silent" in capsys.readouterr().out
    assert run(["feast", "status", "--silent-after", "1d", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["silent"] == []
    assert status["machines"][0]["views"]["machine_health"]["seen_at"] == at(1).isoformat()
    assert status["history"]["first"] == str(at(1).date())
    assert run(["feast", "status", "--silent-after", "soon"]) == 2
    assert "--silent-after is 'soon'; expected a duration" in capsys.readouterr().err


def test_apply_writes_the_definitions_and_what_needs_them_says_so_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    repo = tmp_path / "feature_repo"
    shutil.copytree(SHIPPED, repo, ignore=shutil.ignore_patterns("data", "__pycache__", "history"))
    monkeypatch.setenv("WHIRR_FEATURE_REPO", str(repo))
    monkeypatch.delenv("FEAST_FS_YAML_FILE_PATH", raising=False)
    for command in (["machines", "--once"], ["feast", "status"], ["feast", "materialize"]):
        assert run(command) == 2
        assert "`whirr feast apply` writes the definitions" in capsys.readouterr().err
    for _ in range(2):
        assert run(["feast", "apply", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["views"] == sorted(fields.VIEWS)
    assert run(["feast", "status"]) == 0


@pytest.mark.slow
def test_a_store_that_is_away_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    port = free_port()
    with a_store("redis", tmp_path / "redis", monkeypatch, redis_url=f"redis://127.0.0.1:{port}") as found:
        monkeypatch.setenv("WHIRR_FEATURE_REPO", str(found.repo))
        monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(found.settings.feature_store_yaml))
        assert run(["machines", "--once"]) == 3
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert f"feature store (Redis, 127.0.0.1:{port}) can't be used" in said.splitlines()[-1]
