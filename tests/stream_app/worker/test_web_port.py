"""Two workers on one host: where their pages are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from stream_app.worker.web_port import choose_web_port
from tests.helpers import run_whirr
from tests.models import tiny_model
from whirr import process
from whirr.settings import Settings


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


async def test_a_free_port_is_taken_as_set() -> None:
    port = process.free_port()
    assert await choose_web_port(Settings(web_port=port)) == port
    assert await choose_web_port(Settings(web_port=0)) > 0


async def test_a_port_that_was_chosen_and_is_taken_is_named_with_its_setting(taken: int) -> None:
    with pytest.raises(SettingsError, match=rf"web_port is {taken} on 127\.0\.0\.1.*WHIRR_WEB_PORT") as error:
        await choose_web_port(Settings(web_port=taken), patience_s=0)
    assert error.value.exit_code == 2


async def test_a_worker_beside_another_takes_another_port_where_none_was_chosen(
    taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings()
    settings.__dict__["web_port"] = taken  # as if it were the default
    port = await choose_web_port(settings)
    assert port != taken
    assert f"port {taken} of 127.0.0.1 is taken" in caplog.text
    assert str(port) in caplog.text


async def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(SettingsError, match=r"203\.0\.113\.1"):
        await choose_web_port(Settings(web_host="203.0.113.1", web_port=6066))


@pytest.mark.slow
def test_a_worker_whose_port_is_taken_says_so_without_a_traceback(
    taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = str(tiny_model(tmp_path / "tiny.onnx"))
    done = run_whirr("worker", "--model", model, "--web-port", str(taken))
    assert done.returncode == 2
    assert str(taken) in done.stderr
    assert "Traceback" not in done.stderr
