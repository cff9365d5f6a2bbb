"""Feature stores for tests: the shipped YAML files on a folder, a database or a Redis of the test's own."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis

import feature_repo
from feature_repo import fields
from feature_repo.push.online import OnlineStore
from feature_repo.rows import FeatureRow
from feature_repo.store import open_store
from whirr.settings import Settings

SHIPPED = Path(feature_repo.__file__).parent
YAMLS = {
    "sqlite": "feature_store.yaml",
    "redis": "feature_store.redis.yaml",
    "postgres": "feature_store.postgres.yaml",
}
SECOND_US = 1_000_000

# Feast deletes a view from every machine in a database, whoever wrote it. So each test process (up to four) has four of
# the server's 16 databases and uses them in turn, more than it has stores open at once.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_REDIS_DATABASES = itertools.cycle(range(_WORKER * 4 % 16, _WORKER * 4 % 16 + 4))


@dataclass
class StoreUnderTest:
    """A feature store that has been applied.

    Attributes:
        kind: sqlite, redis or postgres.
        settings: Those that name it; the environment has what its YAML file needs.
        repo: Its folder.
    """

    kind: str
    settings: Settings
    repo: Path

    @cached_property
    def reader(self) -> Any:
        """Feast's own store, opened once."""
        return open_store(self.settings).feast

    def apply(self, objects: Sequence[Any] | None = None) -> None:
        """Apply the definitions, or others in their place; views that are not among them are deleted."""
        with contextlib.redirect_stdout(io.StringIO()):
            store = open_store(self.settings, applied=False).feast
            wanted = definitions() if objects is None else list(objects)
            gone = [v for v in store.list_feature_views() if v.name not in {getattr(o, "name", "") for o in wanted}]
            store.apply(wanted, objects_to_delete=gone, partial=not gone)
        self.__dict__.pop("reader", None)

    def connect(self) -> OnlineStore:
        """Return the online store, newly opened."""
        return OnlineStore.open(self.settings)

    def read(self, *machine_ids: str, features: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return what a reader sees of machines, by Feast's own call, each with its time and status."""
        wanted = list(features) or [f"{view}:{f.name}" for view, known in fields.VIEWS.items() for f in known]
        answer = self.reader.get_online_features(
            features=wanted, entity_rows=[{fields.ENTITY: machine_id} for machine_id in machine_ids]
        )
        values = answer.to_dict()
        names = list(answer.proto.metadata.feature_names.val)
        last = answer.proto.results[-1]
        return [
            {name: values[name][i] for name in names}
            | {"at_us": last.event_timestamps[i].ToMicroseconds(), "status": last.statuses[i]}
            for i in range(len(machine_ids))
        ]


def definitions() -> list[Any]:
    """Return what ``feast apply`` would find in the repository."""
    from feature_repo import definitions as d

    services = [d.machine_audio_v1, d.machine_health_v1, d.machine_overview_v1]
    return [d.project, d.machine, d.history, d.push, d.machine_audio_features, d.machine_health, *services]


def row(machine_id: str, second: float, value: float = 1.0, source: str = "", start_us: int = 0) -> FeatureRow:
    """A row of a machine at a second after ``start_us``; ``value`` is in all its numbers."""
    at_us = start_us + round(second * SECOND_US)
    values = tuple(
        value if field.kind == "float64" else int(value) if field.kind == "int64" else f"text {value:g}"
        for field in fields.FIELDS
    )
    return FeatureRow(machine_id, source, at_us, at_us + SECOND_US, values)


@contextlib.contextmanager
def a_store(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str = "", postgres_dsn: str = ""
) -> Iterator[StoreUnderTest]:
    """Yield an applied store in ``folder``; of a server it has an empty database of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    yaml = shutil.copy(SHIPPED / YAMLS[kind], folder)
    settings = Settings(feature_repo=folder, feature_store_yaml=Path(yaml), feature_push=True)
    store = StoreUnderTest(kind, settings, folder)
    if kind == "redis":
        address, number = urlsplit(redis_url), next(_REDIS_DATABASES)
        with contextlib.suppress(redis.ConnectionError):  # a test may want a server that is away
            redis.Redis(host=address.hostname or "", port=address.port or 0, db=number).flushdb()
        monkeypatch.setenv("FEAST_REDIS_CONNECTION_STRING", f"{address.hostname}:{address.port},db={number}")
    with _database(postgres_dsn, monkeypatch) if kind == "postgres" else contextlib.nullcontext():
        store.apply()
        yield store


@contextlib.contextmanager
def _database(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    address, name = urlsplit(dsn), f"features_{uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    values = {"HOST": address.hostname, "PORT": address.port, "DATABASE": name, "USER": address.username}
    for key, value in {**values, "PASSWORD": address.password or "", "SSLMODE": "disable"}.items():
        monkeypatch.setenv(f"PG{key}", str(value))
    yield
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
