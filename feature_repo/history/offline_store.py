"""Feast's offline store for the history: reads the days that it needs, and joins in time without multiplying rows.

Feast's own store for files, which this one extends, reads every file for each call, joins each asked time with all rows
of the machine before it picks one, and fails for a machine without rows where there is more than one file. Named in the
YAML files as ``offline_store: type``. Other sources than the history are left to Feast's own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import dask.dataframe as dd
import pandas as pd
from feast.data_source import DataSource
from feast.feature_view import FeatureView
from feast.infra.offline_stores.dask import DaskOfflineStore, DaskOfflineStoreConfig, DaskRetrievalJob
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from feature_repo import fields
from feature_repo.history.reader import History

_TIME = "datetime64[us, UTC]"
_ASKED, _ORDER = "__asked_time", "__asked_order"


class HistoryOfflineStoreConfig(DaskOfflineStoreConfig):  # type: ignore[misc]
    """Nothing to set: where the history is, is the source's path."""

    type: Literal["feature_repo.history.offline_store.HistoryOfflineStore"] = (
        "feature_repo.history.offline_store.HistoryOfflineStore"
    )


class HistoryOfflineStore(DaskOfflineStore):  # type: ignore[misc]
    """Point-in-time joins and newest rows from the history."""

    supports_filter_by_created_timestamp = False

    @staticmethod
    def get_historical_features(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Return, for each row of ``entity_df``, the features as they were known at its ``event_timestamp``.

        All its rows are kept, in their order; a feature is null where the machine has no row within the view's ttl.
        """
        if not isinstance(entity_df, pd.DataFrame) or not all(_is_history(view.batch_source) for view in feature_views):
            return DaskOfflineStore.get_historical_features(
                config, feature_views, feature_refs, entity_df, registry, project, full_feature_names, **kwargs
            )
        if fields.EVENT_TIMESTAMP not in entity_df.columns or fields.ENTITY not in entity_df.columns:
            raise ValueError(
                f"entity_df has the columns {', '.join(map(str, entity_df.columns))}; "
                f"expected {fields.ENTITY} and {fields.EVENT_TIMESTAMP}"
            )
        asked = entity_df.copy()
        asked[fields.EVENT_TIMESTAMP] = pd.to_datetime(asked[fields.EVENT_TIMESTAMP], utc=True)
        wanted = [(view, _features_of(view, feature_refs)) for view in feature_views]

        def evaluate() -> pd.DataFrame:
            known = asked
            for view, names in wanted:
                prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
                found = _as_known(asked, _history(view.batch_source, config), names, view.ttl)
                known = known.join(found.rename(columns={name: prefix + name for name in names}))
            return known

        times = asked[fields.EVENT_TIMESTAMP]
        metadata = RetrievalMetadata(
            features=feature_refs,
            keys=[name for name in asked.columns if name != fields.EVENT_TIMESTAMP],
            min_event_timestamp=times.min().to_pydatetime(),
            max_event_timestamp=times.max().to_pydatetime(),
        )
        return _job(evaluate, config, full_feature_names, metadata)

    @staticmethod
    def pull_latest_from_table_or_query(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return each machine's newest row between two times; what ``feast materialize`` reads."""
        if not _is_history(data_source):
            return DaskOfflineStore.pull_latest_from_table_or_query(
                config,
                data_source,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
            )
        history = _history(data_source, config)

        def evaluate() -> pd.DataFrame:
            start, end = _aware(start_date), _aware(end_date)
            return history.latest(start=start, end=end, columns=feature_name_columns).to_pandas()

        return _job(evaluate, config)

    @staticmethod
    def pull_all_from_table_or_query(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return all rows between two times."""
        if not _is_history(data_source):
            return DaskOfflineStore.pull_all_from_table_or_query(
                config,
                data_source,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
            )
        history = _history(data_source, config)

        def evaluate() -> pd.DataFrame:
            start, end = _aware(start_date), _aware(end_date)
            return history.rows(start=start, end=end, columns=feature_name_columns).to_pandas()

        return _job(evaluate, config)


def _as_known(asked: pd.DataFrame, history: History, names: list[str], ttl: timedelta | None) -> pd.DataFrame:
    """Return features at the asked times, with the index of ``asked``."""
    times = asked[fields.EVENT_TIMESTAMP]
    left = pd.DataFrame(
        {
            _ORDER: range(len(asked)),
            fields.ENTITY: asked[fields.ENTITY].astype(str),
            # The history counts in microseconds: cut, so that nothing newer than what was asked is taken.
            _ASKED: times.dt.floor("us").astype(_TIME),
        }
    ).sort_values(_ASKED, kind="stable")
    oldest = times.min().to_pydatetime() - ttl if ttl else None
    table = history.rows(
        start=oldest,
        end=times.max().to_pydatetime(),
        machines=sorted(set(left[fields.ENTITY])),
        columns=names,
    )
    right = table.to_pandas().astype({fields.EVENT_TIMESTAMP: _TIME}).sort_values(fields.EVENT_TIMESTAMP, kind="stable")
    found = pd.merge_asof(
        left,
        right[[fields.ENTITY, fields.EVENT_TIMESTAMP, *names]],
        left_on=_ASKED,
        right_on=fields.EVENT_TIMESTAMP,
        by=fields.ENTITY,
        tolerance=pd.Timedelta(ttl) if ttl else None,
    )
    found = found.sort_values(_ORDER)[names]
    found.index = asked.index
    return found


def _is_history(source: DataSource | None) -> bool:
    return isinstance(source, FileSource) and source.name == fields.BATCH_SOURCE and "://" not in str(source.path)


def _history(source: DataSource, config: RepoConfig) -> History:
    return History(Path(FileSource.get_uri_for_file_path(config.repo_path, source.file_options.uri)))


def _features_of(view: FeatureView, refs: list[str]) -> list[str]:
    name = view.projection.name_to_use()
    return [ref.partition(":")[2] for ref in refs if ref.partition(":")[0] == name]


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _job(
    evaluate: Callable[[], pd.DataFrame],
    config: RepoConfig,
    full_feature_names: bool = False,
    metadata: RetrievalMetadata | None = None,
) -> RetrievalJob:
    def as_dask() -> Any:
        return dd.from_pandas(evaluate(), npartitions=1, sort=False)  # type: ignore[no-untyped-call]

    return DaskRetrievalJob(
        evaluation_function=as_dask,
        full_feature_names=full_feature_names,
        repo_path=str(config.repo_path),
        metadata=metadata,
    )
