"""Which machines an online store knows. Feast reads by key alone, so their keys are listed from the store itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from feature_repo import fields
from feature_repo.store import OpenStore
from schemas.errors import FeatureStoreError


def machine_ids(store: OpenStore) -> list[str]:
    """Return the ids of all machines of which a view holds something, sorted.

    Raises:
        ServiceUnavailable: The store can't be reached.
        FeatureStoreError: It is of a kind whose keys can't be listed.
    """
    with store.errors():
        return sorted(set(_ids(store, _keys(store))))


def _ids(store: OpenStore, keys: Iterable[bytes]) -> Iterator[str]:
    from feast.infra.key_encoding_utils import deserialize_entity_key

    version = store.feast.config.entity_key_serialization_version
    for raw in keys:
        key = deserialize_entity_key(raw, version)
        if list(key.join_keys) == [fields.ENTITY]:
            yield key.entity_values[0].string_val


def _keys(store: OpenStore) -> Iterator[bytes]:
    kind = store.feast.config.online_store.type
    online = store.feast._get_provider().online_store
    if kind == "redis":
        yield from _redis_keys(store, online)
    elif kind == "sqlite":
        connection = online._get_conn(store.feast.config)
        for query in _queries(store):
            with closing(connection.execute(query)) as rows:
                yield from (key for (key,) in rows)
    elif kind == "postgres":
        with online._get_conn(store.feast.config, autocommit=True) as connection:
            for query in _queries(store):
                yield from (bytes(key) for (key,) in connection.execute(query).fetchall())
    else:
        raise FeatureStoreError(f"{store.shown}: the machines of such a store can't be listed; name them")


def _redis_keys(store: OpenStore, online: Any) -> Iterator[bytes]:
    from feast.infra.online_stores.helpers import _redis_key_prefix

    project = store.feast.config.project.encode()
    client = online._get_client(store.feast.config.online_store)
    for key in client.scan_iter(_redis_key_prefix([fields.ENTITY]) + b"*" + project, count=1000):
        yield key.removesuffix(project)


def _queries(store: OpenStore) -> Iterator[str]:
    for view in fields.VIEWS:
        yield f'SELECT DISTINCT entity_key FROM "{store.feast.config.project}_{view}"'  # noqa: S608 - not from users
