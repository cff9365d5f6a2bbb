"""How many rows a second are written through Feast's push source, against the same bytes with the store's plain client.

The plain client writes the very bytes that Feast left in the store, ready-made, in batches of the same size. In between
lies Feast's own batch interface, given values that are Feast's already: what there is to gain below the push source.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks.features.stores import Store, rows_at
from feature_repo import fields
from feature_repo.push.online import OnlineStore
from feature_repo.store import open_store

ROUNDS = int(os.environ.get("WHIRR_BENCH_ROUNDS", "5"))


def measure(store: Store) -> dict[str, float]:
    """Return ``push_rows_per_second``, and ``push_vs_plain`` and ``batch_vs_plain``: medians over the rounds."""
    online = OnlineStore.open(store.settings)
    online.push(rows_at(0))
    plain = _PLAIN[store.kind](store)
    batch = _Batch(store)
    seconds: dict[str, list[float]] = {"push": [], "batch": [], "plain": []}
    for number in range(1, ROUNDS + 1):
        rows, ready = rows_at(2 * number), batch.ready(2 * number + 1)
        seconds["push"].append(_timed(lambda rows=rows: online.push(rows)))
        seconds["batch"].append(_timed(lambda ready=ready: batch.write(ready)))
        seconds["plain"].append(_timed(plain))
    count = len(rows_at(0))
    return {
        "push_rows_per_second": count / statistics.median(seconds["push"]),
        **{f"{way}_vs_plain": _ratio(seconds["plain"], seconds[way]) for way in ("push", "batch")},
    }


def _timed(write: Callable[[], object]) -> float:
    began = time.perf_counter()
    write()
    return time.perf_counter() - began


def _ratio(plain_s: list[float], own_s: list[float]) -> float:
    return statistics.median(p / own for p, own in zip(plain_s, own_s, strict=True))


class _Batch:
    """Feast's ``online_write_batch``, with entity keys and values in Feast's form beforehand."""

    def __init__(self, store: Store) -> None:
        self._feast = open_store(store.settings).feast
        self._views = {view: self._feast.get_feature_view(view) for view in fields.VIEWS}
        self._provider = self._feast._get_provider()

    def ready(self, number: int) -> dict[str, list[Any]]:
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        kinds = {"float64": "double_val", "int64": "int64_val", "string": "string_val"}
        ready: dict[str, list[Any]] = {view: [] for view in fields.VIEWS}
        for row in rows_at(number):
            key = EntityKey(join_keys=[fields.ENTITY], entity_values=[Value(string_val=row.machine_id)])
            at = datetime.fromtimestamp(row.event_us / 1e6, UTC)
            values = {f.name: Value(**{kinds[f.kind]: v}) for f, v in zip(fields.FIELDS, row.values, strict=True)}
            for view, known in fields.VIEWS.items():
                ready[view].append((key, {f.name: values[f.name] for f in known}, at, at))
        return ready

    def write(self, ready: dict[str, list[Any]]) -> None:
        for view, data in ready.items():
            self._provider.online_write_batch(self._feast.config, self._views[view], data, None)


def _redis(store: Store) -> Callable[[], object]:
    import redis

    address, *options = store.environment["FEAST_REDIS_CONNECTION_STRING"].split(",")
    host, port = address.split(":")
    client = redis.Redis(host=host, port=int(port), db=int(options[0].removeprefix("db=")))
    stored = {key: client.hgetall(key) for key in client.scan_iter()}

    def write() -> None:
        with client.pipeline(transaction=False) as pipeline:
            for key, values in stored.items():
                pipeline.hset(key, mapping=values)
            pipeline.execute()

    return write


def _postgres(store: Store) -> Callable[[], object]:
    import psycopg

    names = ("HOST", "PORT", "USER", "DATABASE")
    host, port, user, database = (store.environment[f"PG{name}"] for name in names)
    connection = psycopg.connect(host=host, port=port, user=user, dbname=database, sslmode="disable")
    columns = "entity_key, feature_name, value, value_text, event_ts, created_ts"
    tables = {f"whirr_{view}": [] for view in fields.VIEWS}  # type: dict[str, list[Any]]
    for table in tables:
        tables[table] = connection.execute(f'SELECT {columns} FROM "{table}"').fetchall()

    def write() -> None:
        with connection.cursor() as cursor:
            for table, rows in tables.items():
                cursor.executemany(_upsert(table, columns, "%s"), rows)
        connection.commit()

    return write


def _sqlite(store: Store) -> Callable[[], object]:
    import sqlite3

    assert store.settings.feature_repo is not None
    connection = sqlite3.connect(store.settings.feature_repo / "data" / "online.db")
    columns = "entity_key, feature_name, value, value_text, event_ts, created_ts"
    tables = {f"whirr_{view}": [] for view in fields.VIEWS}  # type: dict[str, list[Any]]
    for table in tables:
        tables[table] = connection.execute(f'SELECT {columns} FROM "{table}"').fetchall()

    def write() -> None:
        with connection:
            for table, rows in tables.items():
                connection.executemany(_upsert(table, columns, "?"), rows)

    return write


def _upsert(table: str, columns: str, mark: str) -> str:
    names = columns.split(", ")
    updates = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
    marks = ", ".join([mark] * len(names))
    return (
        f'INSERT INTO "{table}" ({columns}) VALUES ({marks}) '
        f"ON CONFLICT (entity_key, feature_name) DO UPDATE SET {updates}"
    )


_PLAIN = {"redis": _redis, "postgres": _postgres, "sqlite": _sqlite}
