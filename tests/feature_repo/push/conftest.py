"""A feature store of each kind, applied and empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feature_stores import StoreUnderTest, a_store

REAL = [pytest.param(kind, marks=pytest.mark.real_services) for kind in ("redis", "postgres")]


@pytest.fixture(params=["sqlite", *REAL])
def feature_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StoreUnderTest]:
    """Yield an empty store."""
    kind = request.param
    redis_url = request.getfixturevalue("redis_url") if kind == "redis" else ""
    dsn = request.getfixturevalue("postgres_dsn") if kind == "postgres" else ""
    with a_store(kind, tmp_path / "repo", monkeypatch, redis_url, dsn) as store:
        yield store
