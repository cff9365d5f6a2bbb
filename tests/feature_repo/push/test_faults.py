"""Redis and PostgreSQL that are killed, slow, or refuse: nothing wrong or stale stays."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from feature_repo import fields
from feature_repo.push.pusher import Pusher
from feature_repo.rows import FeatureRow
from tests.conftest import IN_CI
from tests.feature_stores import StoreUnderTest, a_store, row
from tests.helpers import eventually
from tests.services import NotInstalled, Postgres, Redis
from tests.tcp_proxy import Proxy

# Each kills, slows or refuses a store of its own.
pytestmark = [pytest.mark.real_services, pytest.mark.slow, pytest.mark.timeout(300)]
RMS = f"{fields.AUDIO_VIEW}:rms_mean"
SECRET = "s3cret-word"


@pytest.fixture(scope="module", params=["redis", "postgres"])
def service(request: pytest.FixtureRequest) -> Iterator[Redis | Postgres]:
    """Yield a server that a test may kill."""
    server = Redis() if request.param == "redis" else Postgres()
    try:
        server.start()
    except NotInstalled as error:
        if IN_CI:
            raise
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def store(service: Redis | Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreUnderTest]:
    kind = "redis" if isinstance(service, Redis) else "postgres"
    with a_store(kind, tmp_path / "repo", monkeypatch, service.address, service.address) as found:
        yield found


def rms(store: StoreUnderTest, *machines: str) -> list[float | None]:
    return [found["rms_mean"] for found in store.read(*machines, features=[RMS])]


def test_a_store_killed_and_restarted_has_the_latest_of_every_machine(
    store: StoreUnderTest, service: Redis | Postgres, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "feature_repo")
    now_us = time.time_ns() // 1000

    def at(machine: str, second: float) -> FeatureRow:
        return row(machine, second, second, start_us=now_us)

    pusher = Pusher(store.connect)
    machines = ["a", "b", "c", "d"]
    before = [at(machine, 1) for machine in machines]
    pusher.put(before)
    assert pusher.flush().pushed == 4
    service.kill()
    pusher.put([at("a", 2), at("b", 2)])
    assert pusher.flush().failed
    pusher.put([at("b", 3)])
    assert pusher.flush().failed
    service.start()
    pusher.put([at("c", 4)])
    report = eventually(lambda: (done := pusher.flush()).is_back and done, 60, "the store is used again")
    assert report.pending == 0
    # The worker then offers all that it knows: Redis came back empty.
    pusher.put([at("a", 2), at("b", 3), at("c", 4), before[3]], recovered=True)
    pusher.flush()
    assert rms(store, *machines) == [2, 3, 4, 1]
    assert [record.levelname for record in caplog.records][-1] == "INFO"
    assert all("Traceback" not in record.message for record in caplog.records)


def test_a_slow_store_is_written_slowly_and_right(
    store: StoreUnderTest, service: Redis | Postgres, monkeypatch: pytest.MonkeyPatch
):
    now_us = time.time_ns() // 1000
    with Proxy(("127.0.0.1", service.port), delay_s=0.05) as proxy:
        _redirect(store, proxy.port, monkeypatch)
        pusher = Pusher(store.connect)
        pusher.put([row(f"slow-{i}", i, i, start_us=now_us) for i in range(100)])
        report = pusher.flush()
        assert (report.failed, report.pushed) == (False, 100)
        assert report.seconds > 0.05
        assert rms(store, "slow-7", "slow-99") == [7, 99]


def test_a_store_that_never_answers_is_given_up_after_seconds(
    store: StoreUnderTest, service: Redis | Postgres, monkeypatch: pytest.MonkeyPatch
):
    """PostgreSQL's client waits for ever for an answer; there the worker starts another process."""
    if isinstance(service, Postgres):
        monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    now_us = time.time_ns() // 1000
    with Proxy(("127.0.0.1", service.port)) as proxy:
        _redirect(store, proxy.port, monkeypatch)
        pusher = Pusher(store.connect)
        proxy.open.clear()
        pusher.put([row("hung", 1, 1, start_us=now_us)])
        assert pusher.flush().failed
        proxy.open.set()
        pusher.put([row("hung", 2, 2, start_us=now_us)])
        assert eventually(lambda: pusher.flush().is_back, 60)
        assert rms(store, "hung") == [2]


def test_wrong_credentials_are_told_without_the_password_and_the_right_ones_work(
    store: StoreUnderTest, service: Redis | Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    pusher = Pusher(store.connect)
    pusher.put([row("locked", 1, 1, start_us=time.time_ns() // 1000)])
    with monkeypatch.context() as wrong:
        if isinstance(service, Redis):
            client = redis.Redis(port=service.port)
            client.config_set("requirepass", "the right one")
            wrong.setenv("FEAST_REDIS_CONNECTION_STRING", f"127.0.0.1:{service.port},password={SECRET}")
        else:
            wrong.setenv("PGUSER", "nobody")
            wrong.setenv("PGPASSWORD", SECRET)
        assert pusher.flush().failed
        assert pusher.flush().failed
    assert len(caplog.records) == 1
    told = caplog.records[0].message
    assert "check " in told
    assert SECRET not in caplog.text
    assert ("FEAST_REDIS_CONNECTION_STRING" if isinstance(service, Redis) else "PGPASSWORD") in told
    if isinstance(service, Redis):
        client.config_set("requirepass", "")
    assert pusher.flush().is_back
    assert rms(store, "locked") == [1]


def _redirect(store: StoreUnderTest, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.kind == "redis":
        monkeypatch.setenv("FEAST_REDIS_CONNECTION_STRING", f"127.0.0.1:{port}")
    else:
        monkeypatch.setenv("PGPORT", str(port))


def test_a_killed_server_starts_again_where_it_was(service: Redis | Postgres):
    """The tests above rest on it."""
    address = service.address
    service.kill()
    service.start()
    assert service.address == address
    if isinstance(service, Postgres):
        with psycopg.connect(address) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    else:
        assert redis.Redis(port=urlsplit(address).port or 0).ping()
