"""The real services that the tests start on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from schemas.errors import ServiceUnavailable
from tests.helpers import REPOSITORY, eventually
from tests.services import NotInstalled, Redis
from tests.services.jars import kafka_jars
from tests.services.service import Child

RUN = [sys.executable, "-m", "tests.services", "run", "--only", "redis"]


@pytest.mark.real_services
def test_redis_keeps_what_it_is_given(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("whirr-test", "1")
        assert client.getdel("whirr-test") == b"1"


@pytest.mark.real_services
def test_postgres_runs_a_query(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("select 6 * 7").fetchone() == (42,)


@pytest.mark.real_services
def test_a_command_runs_with_the_addresses_and_ends_with_its_exit_code(redis_url: str) -> None:
    program = "import os, sys; print(os.environ['WHIRR_TEST_REDIS_URL']); sys.exit(7)"
    done = subprocess.run(
        [*RUN, "--", sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(done.stdout.strip()).ping()


@pytest.mark.real_services
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_service_outlives_the_command_however_it_ends(
    redis_url: str, number: signal.Signals, tmp_path: Path
) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux's kernel ends a child with its parent")
    env = {**os.environ, "TMPDIR": str(tmp_path)}  # what a killed program leaves behind goes with the test
    with subprocess.Popen(RUN, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env=env) as running:
        assert running.stderr is not None
        address = running.stderr.readline().strip().rpartition("=")[2]
        client = redis.Redis.from_url(address)
        assert client.ping()
        os.kill(running.pid, number)

    def is_gone() -> bool:
        try:
            return not client.ping()
        except redis.ConnectionError:
            return True

    eventually(is_gone)


def test_what_is_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match="redis-server"):
        Redis().start()


def test_jars_that_were_not_fetched_are_named_with_the_command_that_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WHIRR_CACHE_DIR", str(tmp_path))
    with pytest.raises(NotInstalled, match=r"tests\.services fetch"):
        kafka_jars()


def test_a_service_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = Child("Nonsense", tmp_path)
    child.start([sys.executable, "-c", "import sys; print('what went wrong'); sys.exit(3)"])
    with pytest.raises(ServiceUnavailable, match=r"exit code 3:\nwhat went wrong"):
        child.wait(lambda: False)
