"""What Feast is told: entity, push source, feature views and services. ``feast apply`` reads this file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, PushSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64, String

from feature_repo import fields
from feature_repo.fields import FeatureField

TTL = timedelta(days=1)
_TYPES = {"float64": Float64, "int64": Int64, "string": String}
_TAGS = {"team": "whirr", "layer": "streaming"}

project = Project(name="whirr", description="Rolling features of every machine that Whirr listens to.", tags=_TAGS)

machine = Entity(
    name=fields.ENTITY,
    join_keys=[fields.ENTITY],
    value_type=ValueType.STRING,
    description="A machine, by the id that is the key of its frames in Kafka.",
    tags=_TAGS,
)

history = FileSource(
    name=fields.BATCH_SOURCE,
    path=os.environ.get(fields.HISTORY_VARIABLE, "data/history"),
    file_format=ParquetFormat(),
    timestamp_field=fields.EVENT_TIMESTAMP,
    created_timestamp_column=fields.CREATED_TIMESTAMP,
    description="Every row that was pushed: a folder of Parquet files, partitioned by day (UTC).",
    tags=_TAGS,
)

push = PushSource(
    name=fields.PUSH_SOURCE,
    batch_source=history,
    description="The worker's rows: one for each machine heard since the last push.",
    tags=_TAGS,
)


def _schema(features: Sequence[FeatureField]) -> list[Field]:
    key = Field(name=fields.ENTITY, dtype=String, description="The machine.", tags={"unit": ""})
    rest = [
        Field(name=f.name, dtype=_TYPES[f.kind], description=f.description, tags={"unit": f.unit, "layer": "streaming"})
        for f in features
    ]
    return [key, *rest]


def _view(name: str, description: str) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[machine],
        ttl=TTL,
        schema=_schema(fields.VIEWS[name]),
        source=push,
        online=True,
        description=description,
        tags=_TAGS,
    )


machine_audio_features = _view(
    fields.AUDIO_VIEW, "The 13 statistics of a machine's sound: rolling means by recording time, half-life 60 s."
)
machine_health = _view(
    fields.HEALTH_VIEW, "How a machine does: rolling scores, alert state, and the model that judged it."
)

machine_audio_v1 = FeatureService(
    name=fields.AUDIO_SERVICE,
    features=[machine_audio_features],
    description="The statistics alone: what a model is trained on.",
    tags={**_TAGS, "version": "1"},
)
machine_health_v1 = FeatureService(
    name=fields.HEALTH_SERVICE,
    features=[machine_health],
    description="The health alone: what a dashboard shows.",
    tags={**_TAGS, "version": "1"},
)
machine_overview_v1 = FeatureService(
    name=fields.OVERVIEW_SERVICE,
    features=[machine_audio_features, machine_health],
    description="Everything that is known of a machine.",
    tags={**_TAGS, "version": "1"},
)
