"""How MLflow is addressed, and what becomes of its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import MissingExtra, ServiceUnavailable
from whirr.mlflow_client import TrackingServer
from whirr.settings import load_settings


def server(uri: str, password: str | None = None) -> TrackingServer:
    return TrackingServer(load_settings(mlflow_tracking_uri=uri, mlflow_password=password))


@pytest.mark.parametrize(
    ("uri", "password", "expected"),
    [
        ("postgresql://me@db/mlflow", None, "postgresql+psycopg://me@db/mlflow"),
        ("postgres://me@db:5433/mlflow", "a/b@c", "postgresql+psycopg://me:a%2Fb%40c@db:5433/mlflow"),
        ("postgresql+psycopg://me:own@db/mlflow", "other", "postgresql+psycopg://me:own@db/mlflow"),
        ("postgresql+psycopg2://me@db/mlflow?sslmode=off", None, "postgresql+psycopg2://me@db/mlflow?sslmode=off"),
        ("sqlite:///mlflow.db", None, "sqlite:///mlflow.db"),
        ("https://mlflow.example.org", None, "https://mlflow.example.org"),
    ],
)
def test_postgresql_gets_the_driver_that_is_installed_and_the_password(uri, password, expected):
    assert server(uri, password).uri == expected


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db/mlflow?password=secret", "postgresql://***@db/mlflow"),
        ("http://me:secret@host:5000", "http://***@host:5000"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
    ],
)
def test_it_is_shown_without_secrets(uri, shown):
    assert server(uri).shown == shown


@pytest.fixture
def database(tmp_path: Path) -> TrackingServer:
    return server(f"sqlite:///{tmp_path / 'x.db'}")


def test_what_mlflow_raises_becomes_one_line(database):
    with pytest.raises(ServiceUnavailable, match=r"x\.db can't be used: first$"), database.client():
        raise ValueError("first\nsecond")


@pytest.mark.parametrize(("module", "extra"), [("alembic.migration", "train"), ("psycopg", "stream")])
def test_what_a_database_needs_is_named(database, module, extra):
    with pytest.raises(MissingExtra, match=rf"'\.\[{extra}\]'"), database.client():
        raise ModuleNotFoundError(name=module)


def test_another_missing_module_is_not_hidden(database):
    with pytest.raises(ModuleNotFoundError), database.client():
        raise ModuleNotFoundError(name="nonsense")
