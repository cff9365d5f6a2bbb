"""How the feature store is found and opened, and what is said where it can't be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import feature_repo
from feature_repo import fields
from feature_repo.store import (
    YAML_VARIABLE,
    OpenStore,
    history_folder,
    is_wanted,
    open_store,
    repo_folder,
    state_folder,
    store_yaml,
)
from schemas.errors import FeatureStoreError, ServiceUnavailable, SettingsError
from tests.feature_stores import SHIPPED
from whirr.settings import Settings


@pytest.fixture(autouse=True)
def _no_store_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(YAML_VARIABLE, raising=False)


def test_the_store_is_the_settings_then_the_variables_then_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert repo_folder(Settings()) == Path(feature_repo.__file__).parent
    assert store_yaml(Settings()) == SHIPPED / "feature_store.yaml"
    assert store_yaml(Settings(feature_repo=tmp_path)) == tmp_path / "feature_store.yaml"
    monkeypatch.setenv(YAML_VARIABLE, "/from/variable.yaml")
    assert store_yaml(Settings()) == Path("/from/variable.yaml")
    assert store_yaml(Settings(feature_store_yaml=Path("/from/setting.yaml"))) == Path("/from/setting.yaml")


def test_the_default_store_is_here_unless_one_of_an_earlier_version_is_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shipped, here = tmp_path / "site-packages", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv(fields.HISTORY_VARIABLE, raising=False)
    monkeypatch.setattr(feature_repo, "__file__", str(shipped / "__init__.py"))
    assert state_folder(Settings()) == here / ".whirr/features"
    assert history_folder(Settings()) == here / ".whirr/features/data/history"
    (shipped / "data").mkdir(parents=True)
    assert state_folder(Settings()) == shipped
    assert history_folder(Settings()) == shipped / "data/history"
    (here / ".whirr/features/data").mkdir(parents=True)
    assert state_folder(Settings()) == here / ".whirr/features"
    assert state_folder(Settings(feature_repo=tmp_path)) == tmp_path


def test_a_store_is_applied_here_where_the_stock_client_finds_it_too(tmp_path: Path):
    if (SHIPPED / "data").exists():
        pytest.skip("the repository holds a store of an earlier version")
    for command in (["commands", "feast", "apply"], ["feast.cli.cli", "-c", ".whirr/features", "entities", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "machine" in done.stdout
    assert not (SHIPPED / "data").exists()


def test_a_worker_writes_if_told_to_or_if_a_store_was_chosen_or_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = Settings(feature_repo=tmp_path)
    assert not is_wanted(settings)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "registry.db").touch()
    assert is_wanted(settings)
    assert not is_wanted(Settings(feature_repo=tmp_path, feature_push=False))
    empty = tmp_path / "empty"
    assert is_wanted(Settings(feature_repo=empty, feature_push=True))
    assert is_wanted(Settings(feature_repo=empty, feature_store_yaml=Path("some.yaml")))
    monkeypatch.setenv(YAML_VARIABLE, "some.yaml")
    assert is_wanted(Settings(feature_repo=empty))


def test_a_yaml_file_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"feature_store\.yaml', which is no file"):
        open_store(Settings(feature_repo=tmp_path))


def test_variables_that_are_not_set_are_named(monkeypatch: pytest.MonkeyPatch):
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGDATABASE", "whirr")
    with pytest.raises(SettingsError, match="variables PGHOST, PGPASSWORD, PGPORT, PGSSLMODE, PGUSER; set them"):
        open_store(Settings(feature_store_yaml=SHIPPED / "feature_store.postgres.yaml"))


def test_a_repository_that_was_not_applied_is_told_and_left_as_it_was(tmp_path: Path):
    yaml = tmp_path / "feature_store.yaml"
    yaml.write_text((SHIPPED / yaml.name).read_text())
    with pytest.raises(FeatureStoreError, match=r"registry\.db is no file; `whirr feast apply`"):
        open_store(Settings(feature_repo=tmp_path))
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_store_that_was_not_applied_is_told_before_feast_is_imported(tmp_path: Path):
    (tmp_path / "feature_store.yaml").write_text("project: whirr\nregistry: data/registry.db\n")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from commands import run; print(run(['feast', 'status']), 'feast' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "WHIRR_FEATURE_REPO": str(tmp_path)},
    )
    assert done.stdout == "2 False\n"
    assert "registry.db is no file; `whirr feast apply`" in done.stderr


def test_a_malformed_yaml_file_is_told(tmp_path: Path):
    (tmp_path / "feature_store.yaml").write_text("project: whirr\nonline_store: {type: abacus, password=hunter2}\n")
    with pytest.raises(SettingsError, match=r"feature_store\.yaml: "):
        open_store(Settings(feature_repo=tmp_path))


def test_an_error_of_the_store_is_one_line_without_passwords():
    online = SimpleNamespace(type="redis", connection_string="redis:6379,password=hunter2,db=1")
    store = OpenStore(SimpleNamespace(config=SimpleNamespace(online_store=online, registry=SimpleNamespace(path=""))))
    with pytest.raises(ServiceUnavailable) as caught, store.errors():
        raise ConnectionError("invalid password hunter2 for redis:6379,password=hunter2\nand more")
    assert str(caught.value) == (
        "feature store (Redis, redis:6379) can't be used: invalid password *** for redis:6379,password=***; "
        "check FEAST_REDIS_CONNECTION_STRING"
    )
