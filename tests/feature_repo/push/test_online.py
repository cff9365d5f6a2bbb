"""Feast's online store: SQLite always, Redis and PostgreSQL where they are at hand."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from feast import FeatureView, Field
from feast.types import Float64

from feature_repo import definitions as d
from feature_repo import fields
from feature_repo.push.pusher import Pusher
from schemas.errors import FeatureStoreError
from tests.feature_stores import SECOND_US, StoreUnderTest, definitions, row

PRESENT = 1
RMS = f"{fields.AUDIO_VIEW}:rms_mean"


@pytest.fixture
def machine() -> str:
    return f"m-{uuid4().hex[:8]}"


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.mark.slow
def test_every_feature_of_a_row_is_read_back_with_its_time(feature_store: StoreUnderTest, machine: str):
    at_us = now_us()
    online = feature_store.connect()
    rows = [row(machine, 0, 1.5, start_us=at_us), row(f"{machine}-2", 0, 2.5, start_us=at_us)]
    assert online.stored_us([machine]) == {}
    online.push(rows)
    names = [field.name for field in fields.FIELDS]
    for expected, found in zip(rows, feature_store.read(*(r.machine_id for r in rows)), strict=True):
        assert tuple(found[name] for name in names) == expected.values
        assert found["status"] == PRESENT
        assert found["at_us"] // SECOND_US == at_us // SECOND_US
    stored = online.stored_us([rows[0].machine_id, "nobody", rows[1].machine_id])
    assert set(stored) == {row.machine_id for row in rows}
    assert all(0 <= at_us - us < SECOND_US for us in stored.values())


def test_an_older_row_never_overwrites_a_newer_one(feature_store: StoreUnderTest, machine: str):
    """Whoever writes it: another worker after a rebalance, or a replay."""
    first, second = Pusher(feature_store.connect), Pusher(feature_store.connect)
    at_us = now_us()
    first.put([row(machine, 5, 5.0, start_us=at_us)])
    assert first.flush().pushed == 1
    second.put([row(machine, 3, 3.0, start_us=at_us)])
    assert second.flush().stale == 1
    assert feature_store.read(machine, features=[RMS])[0]["rms_mean"] == 5.0
    second.put([row(machine, 7, 7.0, start_us=at_us)])
    assert second.flush().pushed == 1
    first.forget()  # it lost the machine, and got it back
    first.put([row(machine, 6, 6.0, start_us=at_us)])
    assert first.flush().stale == 1
    assert feature_store.read(machine, features=[RMS])[0]["rms_mean"] == 7.0


def test_clocks_that_differ_are_each_machines_own(feature_store: StoreUnderTest, machine: str):
    pusher = Pusher(feature_store.connect)
    at_us = now_us()
    fast, slow = f"{machine}-fast", f"{machine}-slow"
    pusher.put([row(fast, 240, 1.0, start_us=at_us), row(slow, -3600, 1.0, start_us=at_us)])
    pusher.flush()
    pusher.forget()
    pusher.put([row(fast, 1, 2.0, start_us=at_us), row(slow, -3599, 2.0, start_us=at_us)])
    report = pusher.flush()
    assert (report.pushed, report.stale) == (1, 1)
    found = feature_store.read(fast, slow, features=[RMS])
    assert [one["rms_mean"] for one in found] == [1.0, 2.0]
    assert [round((one["at_us"] - at_us) / 60e6) for one in found] == [4, -60]
    pusher.put([row(fast, 241, 3.0, start_us=at_us)])
    assert pusher.flush().pushed == 1


def test_a_machine_that_comes_back_after_a_month_is_current_again(feature_store: StoreUnderTest, machine: str):
    pusher = Pusher(feature_store.connect)
    at_us = now_us()
    month_s = timedelta(days=31).total_seconds()
    pusher.put([row(machine, -month_s, 1.0, start_us=at_us)])
    pusher.flush()
    # Feast serves it with the status PRESENT whatever the view's ttl is: its time is what tells a reader.
    assert at_us - feature_store.read(machine, features=[RMS])[0]["at_us"] >= month_s * 1e6
    pusher.put([row(machine, 0, 2.0, start_us=at_us)])
    pusher.flush()
    found = feature_store.read(machine, features=[RMS])[0]
    assert (found["rms_mean"], found["at_us"] // SECOND_US) == (2.0, at_us // SECOND_US)


def _changed(view: FeatureView, drop: str = "", add: str = "") -> FeatureView:
    schema = [field for field in view.schema if field.name != drop]
    schema += [Field(name=add, dtype=Float64)] if add else []
    return FeatureView(name=view.name, entities=[d.machine], ttl=view.ttl, schema=schema, source=d.push)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ([_changed(d.machine_audio_features, add="kurtosis"), d.machine_health], "has kurtosis, unknown"),
        ([_changed(d.machine_audio_features, drop="mfcc_3"), d.machine_health], "lacks mfcc_3: not stored"),
        ([d.machine_audio_features], "no view 'machine_health'"),
    ],
    ids=["field added", "field removed", "view missing"],
)
def test_a_registry_of_another_version_is_said_once_and_the_rest_is_written(
    feature_store: StoreUnderTest, machine: str, changed: list[FeatureView], told: str, caplog: pytest.LogCaptureFixture
):
    pusher = Pusher(feature_store.connect)
    at_us = now_us()
    pusher.put([row(machine, 0, 1.0, start_us=at_us)])
    assert pusher.flush().pushed == 1
    feature_store.apply([d.project, d.machine, d.history, d.push, *changed])
    pusher = Pusher(feature_store.connect)
    with caplog.at_level(logging.WARNING):
        for second in (1, 2):
            pusher.put([row(machine, second, 1.0 + second, start_us=at_us)])
            assert pusher.flush().pushed == 1
    assert [told in record.message for record in caplog.records] == [True]
    assert feature_store.read(machine, features=[RMS])[0]["rms_mean"] == 3.0


def test_what_is_read_of_a_registry_is_never_taken_for_what_was_read_of_another(feature_store: StoreUnderTest):
    """Feast remembers by address and version: addresses come again, so versions may not."""
    versions = []
    for _ in range(2):
        registry = feature_store.connect()._store.feast.registry
        versions.append(registry.cached_registry_proto.version_id)
        registry.refresh()
        versions.append(registry.cached_registry_proto.version_id)
    own = set(versions)
    assert "" not in own
    assert len(own) == (1 if feature_store.kind != "postgres" else len(versions))


def test_a_registry_without_any_view_is_told_and_waited_for(
    feature_store: StoreUnderTest, machine: str, caplog: pytest.LogCaptureFixture
):
    feature_store.apply([d.project, d.machine])
    pusher = Pusher(feature_store.connect)
    pusher.put([row(machine, 0, 1.0, start_us=now_us())])
    assert pusher.flush().failed
    assert "machine_features_push" in caplog.text
    assert "whirr feast apply" in caplog.text
    feature_store.apply(definitions())
    assert pusher.flush().pushed == 1


def test_a_store_that_was_never_applied_is_told(feature_store: StoreUnderTest):
    yaml = feature_store.settings.feature_store_yaml
    assert yaml is not None
    yaml.write_text(yaml.read_text().replace("project: whirr", "project: other"))
    for registry in feature_store.repo.glob("data/registry*"):
        registry.unlink()
    with pytest.raises(FeatureStoreError, match="whirr feast apply"):
        feature_store.connect()
