"""What the stock client makes of the history: training sets that know no future, and an online store filled anew."""

from __future__ import annotations

import contextlib
import io
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pandas as pd
import pytest

from feature_repo import fields
from feature_repo.client import FeatureClient
from feature_repo.history import HistoryWriter, maintain, write_rows
from feature_repo.rows import FeatureRow
from feature_repo.store import open_store
from tests.feature_stores import SECOND_US, StoreUnderTest, a_store, row

pytestmark = pytest.mark.xdist_group("point-in-time")  # its store is made once

REAL = pytest.mark.real_services
START = datetime(2026, 1, 30, 12, tzinfo=UTC)
START_US = int(START.timestamp()) * SECOND_US
DAY_S = 86_400


def rows_of(machine: str, seconds: list[float]) -> list[FeatureRow]:
    return [row(machine, second, second, start_us=START_US) for second in seconds]


@pytest.fixture(scope="module")
def known() -> dict[str, list[float]]:
    """By machine, the seconds of its rows: three days, with a gap that is longer than a row is valid."""
    random = Random(7)
    early = [0.0, *(round(random.uniform(0, DAY_S), 6) for _ in range(60))]
    late = [round(random.uniform(2.5 * DAY_S, 3 * DAY_S), 6) for _ in range(20)]
    return {"a": sorted(early + late), "b": sorted(early[::2]), "c": [5.0]}


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("redis", marks=REAL), pytest.param("postgres", marks=REAL)]
)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, known: dict[str, list[float]]
) -> Iterator[StoreUnderTest]:
    """An empty online store, and a history of parts, merged files and a journal, with some rows written twice."""
    urls = {
        "redis_url": request.getfixturevalue("redis_url") if request.param == "redis" else "",
        "postgres_dsn": request.getfixturevalue("postgres_dsn") if request.param == "postgres" else "",
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        a_store(request.param, tmp_path_factory.mktemp(request.param), patch, **urls) as found,
    ):
        folder = fields.history_folder(found.repo)
        rows = [one for machine, seconds in known.items() for one in rows_of(machine, seconds)]
        held = [one for one in rows if one.event_us - START_US > 2.9 * DAY_S * SECOND_US]
        for begin in range(0, len(rows), 10):
            write_rows(folder, rows[begin : begin + 12])
        wrong = rows_of("a", known["a"][3:4])[0]
        write_rows(folder, [wrong._replace(created_us=0, values=rows[-1].values)])
        maintain(folder, day=(START + timedelta(days=1)).date())
        writer = HistoryWriter(folder)
        writer.append(held)
        yield found
        writer.close()


def as_known(known: dict[str, list[float]], machine: str, second: float) -> float | None:
    """The join by hand: the newest row at or before, if it is at most a day old. A row's value is its second."""
    seconds = known.get(machine, [])
    place = bisect_right(seconds, second)
    return seconds[place - 1] if place and second - seconds[place - 1] <= DAY_S else None


def test_training_sets_are_those_of_a_join_by_hand(store: StoreUnderTest, known: dict[str, list[float]]):
    random = Random(8)
    exact = [(machine, second + step) for machine in "ab" for second in known[machine][:5] for step in (-1e-6, 0, 1e-6)]
    asked = [(random.choice("abcx"), round(random.uniform(-100, 4 * DAY_S), 6)) for _ in range(300)]
    asked += [*exact, ("c", 5.0 + DAY_S), ("c", 5.000001 + DAY_S)]
    frame = pd.DataFrame(
        {
            fields.ENTITY: [machine for machine, _ in asked],
            fields.EVENT_TIMESTAMP: [START + timedelta(seconds=second) for _, second in asked],
            "label": range(len(asked)),
        }
    )
    with FeatureClient(store.settings) as client:
        found = client.training_set(frame, fields.OVERVIEW_SERVICE)
    assert found["label"].tolist() == list(range(len(asked)))
    expected = [as_known(known, machine, second) for machine, second in asked]
    assert sum(value is None for value in expected) > 50
    assert [None if pd.isna(value) else value for value in found["rms_mean"]] == expected
    texts = [None if value is None else f"text {value:g}" for value in expected]
    assert [None if pd.isna(value) else value for value in found["alert_state"]] == texts


def test_the_stock_client_joins_by_name_too_and_takes_times_without_a_zone_as_utc(store: StoreUnderTest):
    asked = pd.DataFrame(
        {fields.ENTITY: ["c"], fields.EVENT_TIMESTAMP: [(START + timedelta(seconds=6)).replace(tzinfo=None)]}
    )
    feast = open_store(store.settings).feast
    job = feast.get_historical_features(
        entity_df=asked, features=[f"{fields.AUDIO_VIEW}:rms_mean"], full_feature_names=True
    )
    assert job.to_df()[f"{fields.AUDIO_VIEW}__rms_mean"].tolist() == [5.0]


def test_the_stock_clients_materialise_fills_an_empty_store(store: StoreUnderTest, known: dict[str, list[float]]):
    feast: Any = open_store(store.settings).feast
    with FeatureClient(store.settings) as client:
        assert client.machine_ids() == []
        with contextlib.redirect_stdout(io.StringIO()):
            feast.materialize(START, START + timedelta(days=9))
        found = {one.machine_id: one for one in client.machines()}
    newest = {machine: seconds[-1] for machine, seconds in known.items()}
    assert {machine: one.audio.rms_mean for machine, one in found.items()} == newest
    assert {machine: one.health.frames_seen for machine, one in found.items()} == {
        machine: int(second) for machine, second in newest.items()
    }
    for machine, one in found.items():
        assert abs((one.seen_at - START).total_seconds() - newest[machine]) < 1
