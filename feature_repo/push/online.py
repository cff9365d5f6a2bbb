"""Feast's online store as the pushing process uses it: what is stored, and one push for many machines."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from feature_repo import fields
from feature_repo.rows import FeatureRow
from feature_repo.store import OpenStore, open_store
from schemas.errors import FeatureStoreError
from whirr.settings import Settings

log = logging.getLogger(__name__)


class OnlineStore:
    """An online store; whatever it raises is ServiceUnavailable or FeatureStoreError.

    Args:
        store: As opened.
    """

    def __init__(self, store: OpenStore) -> None:
        self._store = store
        self._told: tuple[str, ...] = ()

    @classmethod
    def open(cls, settings: Settings) -> OnlineStore:
        """Return the store that the settings name; it is seen to be reachable when it is first used.

        Raises:
            WhirrError: See :func:`feature_repo.store.open_store`.
        """
        return cls(open_store(settings))

    @property
    def shown(self) -> str:
        """Its kind and address."""
        return self._store.shown

    def stored_us(self, machine_ids: Sequence[str]) -> dict[str, int]:
        """Return the times of the rows that are stored now, of the older one where the views differ.

        A machine of which a view has nothing is left out. SQLite keeps whole seconds, rounded down.
        """
        with self._store.errors():
            views = self._views()
            answer = self._store.feast.get_online_features(
                features=[f"{view.name}:{view.features[0].name}" for view in views if view.features],
                entity_rows=[{fields.ENTITY: machine_id} for machine_id in machine_ids],
                full_feature_names=True,
            ).proto
            names = answer.metadata.feature_names.val
            times = [
                [stamp.ToMicroseconds() for stamp in result.event_timestamps]
                for name, result in zip(names, answer.results, strict=True)
                if name != fields.ENTITY
            ]
        oldest = map(min, zip(*times, strict=True))
        return {machine_id: us for machine_id, us in zip(machine_ids, oldest, strict=True) if us > 0}

    def push(self, rows: Sequence[FeatureRow]) -> None:
        """Write rows of different machines through the push source, to each of its views."""
        with self._store.errors():
            frame = _frame(rows)
            for name in self._unknown_fields():
                frame[name] = None
            self._store.feast.push(fields.PUSH_SOURCE, frame)

    def _views(self) -> list[Any]:
        registered = self._store.feast.list_feature_views(allow_cache=True)
        views = [v for v in registered if v.stream_source is not None and v.stream_source.name == fields.PUSH_SOURCE]
        if not views:
            raise FeatureStoreError(
                f"{self.shown}: its registry has no view of the push source {fields.PUSH_SOURCE!r}; "
                "`whirr feast apply` writes the definitions"
            )
        return views

    def _unknown_fields(self) -> list[str]:
        """Return the registered fields that this version doesn't know; say once how the registry differs."""
        views = {view.name: {feature.name for feature in view.features} for view in self._views()}
        told = tuple(_differences(views))
        if told != self._told:
            for line in told:
                log.warning("%s: %s", self.shown, line)
            if not told:
                log.info("%s: its registry is this version's again", self.shown)
            self._told = told
        known = {field.name for field in fields.FIELDS}
        return sorted({name for names in views.values() for name in names} - known)


def _differences(registered: dict[str, set[str]]) -> Iterator[str]:
    """Say how a registry differs from what this version would apply."""
    for view, features in fields.VIEWS.items():
        if view not in registered:
            yield f"the registry has no view {view!r}; its features are not stored"
            continue
        ours = {field.name for field in features}
        if missing := sorted(ours - registered[view]):
            yield f"view {view!r} lacks {', '.join(missing)}: not stored; another version applied the definitions"
        if unknown := sorted(registered[view] - ours):
            yield f"view {view!r} has {', '.join(unknown)}, unknown to this version: left empty"


def _frame(rows: Sequence[FeatureRow]) -> Any:
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {fields.ENTITY: [row.machine_id for row in rows]}
    for name, times in (
        (fields.EVENT_TIMESTAMP, [row.event_us for row in rows]),
        (fields.CREATED_TIMESTAMP, [row.created_us for row in rows]),
    ):
        columns[name] = pd.to_datetime(np.array(times, np.int64), unit="us", utc=True)
    for field, values in zip(fields.FIELDS, zip(*(row.values for row in rows), strict=True), strict=True):
        columns[field.name] = list(values) if field.kind == "string" else np.array(values, field.kind)
    return pd.DataFrame(columns)
