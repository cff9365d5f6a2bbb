"""Fixtures that start what the tests talk to, each once a session: brokers, Redis, PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import hypothesis
import prometheus_client  # noqa: F401 - before Feast, which lets all processes share what they count
import psycopg
import pytest

from tests.helpers import KafkaUnderTest
from tests.services import KafkaCluster, NotInstalled, Postgres, Redis, Service
from tests.services.jars import kafka_jars
from whirr.broker import EmbeddedBroker
from whirr.process import free_port
from whirr.settings import Settings

IN_CI = os.environ.get("CI") == "true"

# How long an example takes is a matter of what else the machine does.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")

# Shells let what they start in the background ignore Ctrl-C, and all that it starts in turn; the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Whatever needs one of these talks to a broker, a database or a server.
SERVICES = {"_kafka_broker", "late_kafka", "redis_url", "postgres_dsn", "mlflow_settings"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a service, so that ``make unit`` leaves them out."""
    for item in items:
        if SERVICES & set(getattr(item, "fixturenames", ())):
            item.add_marker("services")


@pytest.fixture(autouse=True)
def _only_the_tests_own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep a developer's WHIRR_… variables and whirr.toml out of the tests."""
    for name in os.environ:
        if name.startswith("WHIRR_") and not name.startswith("WHIRR_TEST_"):
            monkeypatch.delenv(name)
    empty = tmp_path / "no-settings.toml"
    empty.touch()
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(empty))


@pytest.fixture
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Let the test's event loop wait for no timer: where all tasks wait, its clock jumps to the next one.

    Returns the clock, for code that asks for the time itself.
    """
    loop: Any = asyncio.get_running_loop()
    select, now_s = loop._selector.select, loop.time()

    def jump(timeout: float | None = None) -> Any:
        nonlocal now_s
        now_s += timeout or 0.0
        return select(0 if timeout else timeout)

    monkeypatch.setattr(loop, "time", lambda: now_s)
    monkeypatch.setattr(loop._selector, "select", jump)
    return lambda: now_s


@pytest.fixture
def longest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait between tries be as long as it may be, in place of what chance picks."""
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)


@pytest.fixture(scope="session", params=["embedded", pytest.param("apache", marks=pytest.mark.real_services)])
def _kafka_broker(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool, str]]:
    if request.param == "embedded":
        with EmbeddedBroker() as broker:
            yield broker.bootstrap, True, "embedded"
    else:
        for address in _addresses(KafkaCluster):
            yield address, False, "apache"


@pytest.fixture
def kafka(_kafka_broker: tuple[str, bool, str], tmp_path: Path) -> KafkaUnderTest:
    """Return a broker with topic names of the test's own: the embedded one, and Apache Kafka where it is at hand."""
    return KafkaUnderTest(*_kafka_broker, folder=tmp_path)


class LateKafka:
    """A broker that is not there yet; its address is known.

    Attributes:
        port, bootstrap: Where it will be.
        embedded: Whether it is the embedded one.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.embedded = name == "embedded"
        self._name, self._folder = name, folder

    @contextmanager
    def started(self) -> Iterator[KafkaUnderTest]:
        """Start it; it is gone after the ``with`` block."""
        with EmbeddedBroker(self.port) if self.embedded else KafkaCluster(port=self.port):
            yield KafkaUnderTest(self.bootstrap, self.embedded, self._name, self._folder)


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.real_services)])
def late_kafka(request: pytest.FixtureRequest, tmp_path: Path) -> LateKafka:
    """Return a broker that the test starts itself: the embedded one, and Apache Kafka where it is at hand."""
    if request.param == "apache":
        try:
            kafka_jars()
        except NotInstalled as error:
            unavailable(str(error))
    return LateKafka(request.param, tmp_path)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Yield the address of a Redis server."""
    yield from _addresses(Redis)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """Yield the address of a PostgreSQL database."""
    yield from _addresses(Postgres)


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real_services)])
def mlflow_settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Yield settings with a tracking database of the session's own: SQLite, and PostgreSQL where it is at hand."""
    folder = tmp_path_factory.mktemp("mlflow")
    artifacts = (folder / "artifacts").as_uri()
    if request.param == "sqlite":
        yield Settings(mlflow_tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", mlflow_artifact_location=artifacts)
        return
    dsn = request.getfixturevalue("postgres_dsn")
    name = f"mlflow_{uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        uri = urlsplit(dsn)._replace(scheme="postgresql+psycopg", path=f"/{name}").geturl()
        yield Settings(mlflow_tracking_uri=uri, mlflow_artifact_location=artifacts)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def model_name() -> str:
    """Return a name that no other test registers a model under."""
    return f"tiny-{uuid4().hex[:8]}"


def _addresses(kind: Callable[[], Service]) -> Iterator[str]:
    """Yield the address that the environment names, else that of a service started here, else skip with the reason."""
    service = kind()
    given = os.environ.get(service.variable)
    if given:
        yield given
        return
    try:
        service.start()
        yield service.address
    except NotInstalled as error:
        unavailable(f"{error} (or set {service.variable})")
    finally:
        service.stop()


def unavailable(reason: str) -> NoReturn:
    """Skip a test for want of a real service; in CI that is a failure."""
    if IN_CI:
        pytest.fail(f"in CI every real service must be there: {reason}")
    pytest.skip(reason)
