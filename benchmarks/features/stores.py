"""What the feature store's benchmarks stand on: an applied store of each kind that this machine has, and rows."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import psycopg

import feature_repo
from feature_repo import fields
from feature_repo.rows import FeatureRow
from feature_repo.store import YAML_VARIABLE, open_store
from tests.services import NotInstalled, Postgres, Redis
from whirr.settings import Settings

MACHINES = int(os.environ.get("WHIRR_BENCH_MACHINES", "1000"))
KINDS = {"sqlite": "feature_store.yaml", "redis": "feature_store.redis.yaml", "postgres": "feature_store.postgres.yaml"}
_SHIPPED = Path(feature_repo.__file__).parent


class Store(NamedTuple):
    """An applied, empty store.

    Attributes:
        kind: One of ``KINDS``.
        settings: Those that name it; the environment has what its YAML file needs.
        environment: The variables by which another process finds it.
    """

    kind: str
    settings: Settings
    environment: dict[str, str]


@contextlib.contextmanager
def applied(kind: str) -> Iterator[Store]:
    """Yield a store; its server is the one that the tests' variables name, else one started here.

    Raises:
        NotInstalled: This machine has no such server.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whirr-bench-feast-")))
        yaml = Path(shutil.copy(_SHIPPED / KINDS[kind], folder))
        environment = {"redis": _redis, "postgres": _postgres, "sqlite": lambda _: {}}[kind](stack)
        environment |= {"WHIRR_FEATURE_REPO": str(folder), YAML_VARIABLE: str(yaml), "WHIRR_FEATURE_PUSH": "true"}
        before = {name: os.environ.get(name) for name in environment}
        stack.callback(_restore, before)
        os.environ.update(environment)
        settings = Settings(feature_repo=folder, feature_store_yaml=yaml, feature_push=True)
        with contextlib.redirect_stdout(io.StringIO()):
            open_store(settings, applied=False).feast.apply(_definitions())
        yield Store(kind, settings, environment)


def rows_at(number: int, machines: int = MACHINES) -> list[FeatureRow]:
    """Return a row of each machine; those of a larger number are newer."""
    rng = np.random.default_rng(number)
    audio = rng.normal(size=(machines, len(fields.AUDIO_FIELDS)))
    now_us = _START_US + number * 1_000_000
    return [
        FeatureRow(
            f"pump-{machine}",
            "",
            now_us + machine,
            now_us + machine,
            (*values, abs(values[0]), abs(values[1]), abs(values[2]), number, 0, "normal", "pumps/0123456789abcdef"),
        )
        for machine, values in enumerate(audio.tolist())
    ]


_START_US = time.time_ns() // 1000 - 3_600_000_000


def _definitions() -> list[Any]:
    from feature_repo import definitions as d

    services = [d.machine_audio_v1, d.machine_health_v1, d.machine_overview_v1]
    return [d.project, d.machine, d.history, d.push, d.machine_audio_features, d.machine_health, *services]


def _redis(stack: contextlib.ExitStack) -> dict[str, str]:
    address = urlsplit(os.environ.get(Redis.variable) or stack.enter_context(_started(Redis())))
    return {"FEAST_REDIS_CONNECTION_STRING": f"{address.hostname}:{address.port},db=9"}


def _postgres(stack: contextlib.ExitStack) -> dict[str, str]:
    dsn = os.environ.get(Postgres.variable) or stack.enter_context(_started(Postgres()))
    name = f"bench_{uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    stack.callback(_drop, dsn, name)
    address = urlsplit(dsn)
    known = {"HOST": address.hostname, "PORT": address.port, "DATABASE": name, "USER": address.username}
    return {f"PG{key}": str(value) for key, value in {**known, "PASSWORD": "", "SSLMODE": "disable"}.items()}


@contextlib.contextmanager
def _started(service: Redis | Postgres) -> Iterator[str]:
    try:
        service.start()
        yield service.address
    finally:
        service.stop()


def _drop(dsn: str, name: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


__all__ = ["KINDS", "MACHINES", "NotInstalled", "Store", "applied", "rows_at"]
